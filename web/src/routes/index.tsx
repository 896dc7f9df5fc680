import { createFileRoute, redirect } from "@tanstack/react-router";
import { currentSession } from "@/features/auth/session";

export const Route = createFileRoute("/")({
  beforeLoad: async ({ location }) => {
    // Where an identity provider sends people whose wish it does not trust.
    if ("error" in location.search)
      throw redirect({ href: `/auth/callback${location.searchStr}`, replace: true });
    throw redirect({ to: (await currentSession()) ? "/dashboard" : "/login", replace: true });
  },
});
