import { createFileRoute, redirect } from "@tanstack/react-router";
import { currentSession } from "@/features/auth/session";

export const Route = createFileRoute("/")({
  beforeLoad: async () => {
    throw redirect({ to: (await currentSession()) ? "/dashboard" : "/login", replace: true });
  },
});
