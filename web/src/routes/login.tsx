import { createFileRoute, redirect } from "@tanstack/react-router";
import { CredentialsForm, internalPath } from "@/features/auth/credentials-form";
import { currentSession } from "@/features/auth/session";

export const Route = createFileRoute("/login")({
  validateSearch: (search): { redirect?: string } => {
    const path = internalPath(search.redirect);
    return path ? { redirect: path } : {};
  },
  beforeLoad: async ({ search }) => {
    if (await currentSession()) throw redirect({ href: search.redirect ?? "/dashboard" });
  },
  head: () => ({ meta: [{ title: "Sign in · Echo" }] }),
  component: Page,
});

function Page() {
  return <CredentialsForm mode="login" redirect={Route.useSearch().redirect} />;
}
