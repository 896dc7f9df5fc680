import { createFileRoute } from "@tanstack/react-router";
import { AiCard } from "@/features/ai/ai-card";
import { AccountCard } from "@/features/settings/account-card";
import { AppearanceCard } from "@/features/settings/appearance-card";
import { InstanceCard } from "@/features/settings/instance-card";

export const Route = createFileRoute("/_app/settings")({
  head: () => ({ meta: [{ title: "Settings · Echo" }] }),
  component: () => (
    <div className="mx-auto grid max-w-3xl gap-5">
      <h1 className="font-bold text-3xl tracking-tight">Settings</h1>
      <AccountCard />
      <AppearanceCard />
      <AiCard />
      <InstanceCard />
    </div>
  ),
});
