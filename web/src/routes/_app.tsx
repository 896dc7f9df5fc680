import { createFileRoute, Outlet, redirect, useRouter } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { AppShell } from "@/components/app-shell";
import { currentSession, useSession } from "@/features/auth/session";

export const Route = createFileRoute("/_app")({
  beforeLoad: async ({ location }) => {
    if (!(await currentSession())) throw redirect({ to: "/login", search: { redirect: location.href } });
  },
  component: Page,
});

function Page() {
  const session = useSession();
  if (!session) return <ToLogin />;
  return (
    <AppShell session={session} key={session.user.id}>
      <Outlet />
    </AppShell>
  );
}

/** Signed out, here, in another tab or everywhere. Not `<Navigate>`: it goes anew whenever the address changes, as it does by going. */
function ToLogin() {
  const router = useRouter();
  const [here] = useState(() => router.state.location.href);
  useEffect(() => {
    void router.navigate({ to: "/login", search: { redirect: here }, replace: true, ignoreBlocker: true });
  }, [router, here]);
  return null;
}
