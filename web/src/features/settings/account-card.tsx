import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { LogOut } from "lucide-react";
import { type FormEvent, useState } from "react";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { ConfirmDialog } from "@/components/dialog";
import { Field, Input } from "@/components/field";
import { ProblemNote } from "@/components/problem-note";
import { toast } from "@/components/toast";
import { authProblem } from "@/features/auth/errors";
import { supabaseAuth, useSession } from "@/features/auth/session";
import { signOut } from "@/features/auth/sign-out";

export function AccountCard() {
  const session = useSession();
  const navigate = useNavigate();
  const [asking, setAsking] = useState(false);
  if (!session) return null;
  const leave = async (scope: "local" | "global") => {
    if (await signOut(scope)) await navigate({ to: "/login" });
  };
  const hasPassword = session.user.identities?.some((identity) => identity.provider === "email") ?? true;
  return (
    <Card title="Account">
      <p className="text-sm">
        Signed in as <strong className="wrap-anywhere">{session.user.email}</strong>
      </p>
      {hasPassword && <PasswordForm />}
      <div className="flex flex-wrap gap-3 border-line border-t pt-4">
        <Button
          onClick={() => leave("local").catch((error) => toast.problem("Signing out did not succeed", error))}
        >
          <LogOut /> Sign out
        </Button>
        <Button variant="danger" onClick={() => setAsking(true)}>
          Sign out everywhere
        </Button>
      </div>
      <ConfirmDialog
        open={asking}
        onClose={() => setAsking(false)}
        title="Sign out everywhere?"
        confirmLabel="Sign out everywhere"
        stayLabel="Stay signed in"
        onConfirm={() => leave("global")}
      >
        All your sessions end, on this and every other device.
      </ConfirmDialog>
    </Card>
  );
}

function PasswordForm() {
  const [password, setPassword] = useState("");
  const change = useMutation({
    mutationFn: async () => {
      const { error } = await supabaseAuth().updateUser({ password });
      if (error) throw authProblem(error);
    },
    onSuccess: () => {
      setPassword("");
      toast.good("The password is changed");
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    change.mutate();
  };
  return (
    <form className="grid gap-3" onSubmit={submit}>
      <div className="flex items-end gap-3">
        <div className="min-w-0 flex-1 sm:max-w-xs">
          <Field label="New password">
            {(control) => (
              <Input
                {...control}
                type="password"
                autoComplete="new-password"
                maxLength={128}
                required
                value={password}
                onChange={(event) => setPassword(event.target.value)}
              />
            )}
          </Field>
        </div>
        <Button type="submit" busy={change.isPending} className="h-[42px]">
          Change
        </Button>
      </div>
      {change.error && <ProblemNote problem={authProblem(change.error)} />}
    </form>
  );
}
