import { useQuery } from "@tanstack/react-query";
import { createFileRoute, Navigate } from "@tanstack/react-router";
import { buttonClass } from "@/components/button";
import { ProblemNote } from "@/components/problem-note";
import { Spinner } from "@/components/spinner";
import { AuthPage } from "@/features/auth/auth-page";
import { internalPath } from "@/features/auth/credentials-form";
import { authProblem, redirectProblem } from "@/features/auth/errors";
import { supabaseAuth } from "@/features/auth/session";

type Search = {
  code?: string | undefined;
  error?: string | undefined;
  error_code?: string | undefined;
  error_description?: string | undefined;
  redirect?: string | undefined;
};

const text = (value: unknown) => (value === undefined ? undefined : String(value));

export const Route = createFileRoute("/auth/callback")({
  // Each said even when undefined: the router keeps what is left out here as it came.
  validateSearch: (search): Search => ({
    code: text(search.code),
    error: text(search.error),
    error_code: text(search.error_code),
    error_description: text(search.error_description),
    redirect: internalPath(search.redirect),
  }),
  head: () => ({ meta: [{ title: "Signing in · Echo" }] }),
  component: Page,
});

function Page() {
  const search = Route.useSearch();
  const exchange = useQuery({
    queryKey: ["auth", "exchange", search.code ?? search.error],
    retry: false,
    staleTime: Number.POSITIVE_INFINITY, // a code can be used once
    refetchOnWindowFocus: false,
    queryFn: async () => {
      if (search.error || !search.code) {
        throw redirectProblem(search.error_code ?? search.error ?? "", search.error_description);
      }
      const { error } = await supabaseAuth().exchangeCodeForSession(search.code);
      if (error) throw authProblem(error);
      return true;
    },
  });
  if (exchange.isSuccess) return <Navigate to={search.redirect ?? "/dashboard"} replace />;
  return (
    <AuthPage title={exchange.isError ? "Signing in did not succeed" : "Signing you in"}>
      {exchange.isError ? (
        <>
          <ProblemNote problem={authProblem(exchange.error)} />
          <a href="/login" className={buttonClass({ variant: "primary" })}>
            Back to signing in
          </a>
        </>
      ) : (
        <Spinner label="Signing you in" />
      )}
    </AuthPage>
  );
}
