import type { CaptionItem, InstanceAi, Suggestion } from "@/api/ai";
import type { Job, StepItem } from "@/api/client";
import { hasEnded } from "@/features/live/reduce";

const AI_STEPS = ["transcribe", "describe", "translate"];

export type AiState =
  | { is: "unconfigured" }
  | { is: "working"; step: StepItem }
  | { is: "failed"; steps: StepItem[]; canRetry: boolean }
  | { is: "silent"; reason: string }
  | { is: "waiting"; count: number }
  | { is: "idle" };

type Told = {
  ai: InstanceAi | undefined;
  job: Job | null;
  captions: readonly CaptionItem[];
  suggestions: readonly Suggestion[];
};

/** What the providers do with a video, or why they do nothing. */
export function aiState({ ai, job, captions, suggestions }: Told): AiState {
  const steps = job?.steps.filter((step) => AI_STEPS.includes(step.name)) ?? [];
  const ended = !job || hasEnded(job.state);
  const open = steps.filter((step) => ["pending", "queued", "running"].includes(step.state));
  const at = open.find((step) => step.state === "running") ?? open[0];
  if (at && !ended) return { is: "working", step: at };
  const failed = steps.filter((step) => step.state === "failed");
  if (failed.length > 0) return { is: "failed", steps: failed, canRetry: ended };
  const pending = suggestions.filter((one) => one.state === "pending").length;
  if (pending > 0) return { is: "waiting", count: pending };
  const capable = ai && (ai.transcribe.length > 0 || ai.describe.length > 0);
  if (!capable) return { is: "unconfigured" };
  const heard = steps.find((step) => step.name === "transcribe");
  if (heard?.skippedReason) return { is: "silent", reason: heard.skippedReason };
  if (heard?.state === "succeeded" && captions.length === 0) {
    const reason = heard.warnings[0] ?? "Nothing is said in this video, so there is nothing to write down.";
    return { is: "silent", reason };
  }
  return { is: "idle" };
}
