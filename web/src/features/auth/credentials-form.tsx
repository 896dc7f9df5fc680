import { useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { instance } from "@/api/instance";
import { Button } from "@/components/button";
import { Field, Input } from "@/components/field";
import { ProblemNote } from "@/components/problem-note";
import { AuthPage } from "./auth-page";
import { authProblem } from "./errors";
import { supabaseAuth } from "./session";
import { authSettingsQuery } from "./settings-query";

type Mode = "login" | "signup";

/** Where to go after signing in: a path of this app, and of no other site. */
export function internalPath(path: unknown): string | undefined {
  if (typeof path !== "string" || !/^\/(?![/\\])/.test(path)) return undefined;
  const { origin } = window.location; // the parser drops tabs and line ends: "/\t/evil" is another site, too
  return URL.canParse(path, origin) && new URL(path, origin).origin === origin ? path : undefined;
}

export function CredentialsForm({ mode, redirect }: { mode: Mode; redirect: string | undefined }) {
  const settings = useQuery({ ...authSettingsQuery, enabled: instance().auth.url !== null });
  const [sent, setSent] = useState(false);
  const submit = useMutation({
    mutationFn: async ({ email, password }: { email: string; password: string }) => {
      const auth = supabaseAuth();
      const { data, error } = await (mode === "login"
        ? auth.signInWithPassword({ email, password })
        : auth.signUp({ email, password }));
      if (error) throw authProblem(error);
      if (!data.session) setSent(true); // with a session the page goes on by itself
    },
  });
  const google = useMutation({
    mutationFn: async () => {
      const back = new URL("/auth/callback", window.location.origin);
      if (redirect) back.searchParams.set("redirect", redirect);
      const { error } = await supabaseAuth().signInWithOAuth({
        provider: "google",
        options: { redirectTo: back.href },
      });
      if (error) throw authProblem(error);
    },
  });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    submit.mutate({ email: String(form.get("email")), password: String(form.get("password")) });
  };

  if (!instance().auth.url) {
    return (
      <AuthPage title="Signing in is switched off">
        <p className="text-muted">
          Nobody keeps users on this Echo. Its operator can set <code>auth.identity = "local"</code> in
          echo.toml, or name a Supabase project in <code>auth.issuer</code>.
        </p>
      </AuthPage>
    );
  }
  if (sent) {
    return (
      <AuthPage title="Check your mail" footer={<Link to="/login">Back to signing in</Link>}>
        <p className="text-muted">We have sent you a link. Open it to confirm your address, then sign in.</p>
      </AuthPage>
    );
  }
  const closed = mode === "signup" && settings.data?.disable_signup;
  const problem = submit.error ?? google.error;
  const told = problem && authProblem(problem);
  const search = redirect ? { redirect } : {};
  const linkClass = "font-medium text-accent underline underline-offset-4";
  return (
    <AuthPage
      title={mode === "login" ? "Welcome back" : "Create your account"}
      footer={
        mode === "login" ? (
          settings.data?.disable_signup ? (
            "No account? Ask the operator of this Echo for one."
          ) : (
            <>
              New here?{" "}
              <Link to="/signup" search={search} className={linkClass}>
                Create an account
              </Link>
            </>
          )
        ) : (
          <>
            Already have an account?{" "}
            <Link to="/login" search={search} className={linkClass}>
              Sign in
            </Link>
          </>
        )
      }
    >
      {closed ? (
        <p className="text-muted">New accounts are not taken here. Ask the operator of this Echo for one.</p>
      ) : (
        <form className="grid gap-4" onSubmit={onSubmit}>
          {told && <ProblemNote problem={told} />}
          <Field label="E-mail address">
            {(control) => (
              <Input {...control} name="email" type="email" autoComplete="email" required maxLength={254} />
            )}
          </Field>
          <PasswordField mode={mode} />
          <Button type="submit" variant="primary" busy={submit.isPending} className="mt-2 h-11">
            {mode === "login" ? "Sign in" : "Create account"}
          </Button>
        </form>
      )}
      {/* Without a secure context supabase-js has no s256, which the way to Google and back needs. */}
      {settings.data?.external.google && window.isSecureContext && (
        <Button className="h-11" busy={google.isPending} onClick={() => google.mutate()}>
          Continue with Google
        </Button>
      )}
    </AuthPage>
  );
}

function PasswordField({ mode }: { mode: Mode }) {
  const [shown, setShown] = useState(false);
  return (
    <Field
      label="Password"
      hint={mode === "signup" ? "A few words are good and easy to remember." : undefined}
    >
      {(control) => (
        <div className="flex gap-2">
          <Input
            {...control}
            name="password"
            type={shown ? "text" : "password"}
            autoComplete={mode === "login" ? "current-password" : "new-password"}
            required
            maxLength={128}
          />
          <Button
            onClick={() => setShown(!shown)}
            aria-pressed={shown}
            aria-label={shown ? "Hide password" : "Show password"}
            className="h-auto w-18"
          >
            {shown ? "Hide" : "Show"}
          </Button>
        </div>
      )}
    </Field>
  );
}
