import { createFileRoute, Navigate, Outlet, redirect, useLocation } from "@tanstack/react-router";
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
  const { href } = useLocation();
  // Signed out in another tab, or everywhere.
  if (!session) return <Navigate to="/login" search={{ redirect: href }} replace />;
  return (
    <AppShell session={session} key={session.user.id}>
      <Outlet />
    </AppShell>
  );
}
