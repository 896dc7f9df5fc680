import { createFileRoute, Navigate, redirect } from "@tanstack/react-router";
import { CredentialsForm, internalPath } from "@/features/auth/credentials-form";
import { currentSession, useSession } from "@/features/auth/session";

export const Route = createFileRoute("/signup")({
  // Said even when undefined: the router keeps what is left out here as it came.
  validateSearch: (search): { redirect?: string | undefined } => ({
    redirect: internalPath(search.redirect),
  }),
  beforeLoad: async ({ search }) => {
    if (await currentSession()) throw redirect({ href: search.redirect ?? "/dashboard" });
  },
  head: () => ({ meta: [{ title: "Sign up · Echo" }] }),
  component: Page,
});

function Page() {
  const { redirect: wanted } = Route.useSearch();
  // Signed in here, or in another tab.
  if (useSession()) return <Navigate to={wanted ?? "/dashboard"} replace />;
  return <CredentialsForm mode="signup" redirect={wanted} />;
}
