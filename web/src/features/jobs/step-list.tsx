import {
  Ban,
  CircleAlert,
  CircleCheck,
  CircleDashed,
  CircleMinus,
  LoaderCircle,
  RotateCcw,
} from "lucide-react";
import type { Job, StepItem } from "@/api/client";
import { Button } from "@/components/button";
import { Progress } from "@/components/status";
import { hasEnded } from "@/features/live/reduce";
import { cn } from "@/lib/cn";
import { formatDuration } from "@/lib/format";
import { isWaiting, STEP_STATE, stepWords } from "./step-words";
import { useJobActions, useNow } from "./use-job";

const icons: Record<StepItem["state"], [typeof CircleCheck, string]> = {
  pending: [CircleDashed, "text-edge"],
  queued: [CircleDashed, "text-muted"],
  running: [LoaderCircle, "text-accent animate-spin"],
  succeeded: [CircleCheck, "text-good"],
  failed: [CircleAlert, "text-bad"],
  cancelled: [Ban, "text-muted"],
  skipped: [CircleMinus, "text-edge"],
};

/** Every step of a job with its attempts, its time, and what went wrong. */
export function StepList({ job }: { job: Job }) {
  const { retry } = useJobActions(job.jobId);
  const now = useNow(job.state === "running");
  const ended = hasEnded(job.state);
  return (
    <ol className="divide-y divide-line rounded-2xl border border-line bg-surface shadow-card">
      {job.steps.map((step) => (
        <StepLine
          key={step.name}
          step={step}
          now={now}
          retrying={retry.isPending && retry.variables === step.name}
          onRetry={ended ? () => retry.mutate(step.name) : null}
        />
      ))}
    </ol>
  );
}

function took(step: StepItem, now: number): string {
  if (!step.startedAt) return "";
  const end = step.finishedAt ? Date.parse(step.finishedAt) : step.state === "running" ? now : null;
  return end === null ? "" : formatDuration(Math.max(0, (end - Date.parse(step.startedAt)) / 1000));
}

type StepLineProps = { step: StepItem; now: number; retrying: boolean; onRetry: (() => void) | null };

function StepLine({ step, now, retrying, onRetry }: StepLineProps) {
  const { label, what } = stepWords(step.name);
  const [Icon, color] = icons[step.state];
  const facts = [
    isWaiting(step) ? "Waiting" : STEP_STATE[step.state].label,
    step.state === "running" && `${Math.floor(step.percent)} %`,
    took(step, now),
    step.attempt > 1 && `attempt ${step.attempt}`,
    step.optional && "optional",
  ];
  const canRetry = onRetry && !["pending", "queued", "running", "skipped"].includes(step.state);
  return (
    <li className="grid gap-2 p-4" data-step={step.name} data-state={step.state}>
      <div className="flex items-start gap-3">
        <Icon className={cn("mt-0.5 size-5 shrink-0", color)} aria-hidden="true" />
        <div className="min-w-0 flex-1">
          <h3 className="font-semibold">{label}</h3>
          <p className="text-muted text-xs">{facts.filter(Boolean).join(" · ")}</p>
          {what && step.state !== "skipped" && <p className="text-muted text-sm">{what}</p>}
          {step.skippedReason && <p className="text-muted text-sm">{step.skippedReason}</p>}
        </div>
        {canRetry && (
          <Button size="sm" busy={retrying} onClick={onRetry} aria-label={`Run again: ${label}`}>
            {!retrying && <RotateCcw />} <span className="max-sm:hidden">Run again</span>
          </Button>
        )}
      </div>
      {step.state === "running" && <Progress label={label} percent={step.percent} className="ml-8" />}
      {step.error && (
        <div className={cn("ml-8 rounded-lg p-3 text-sm", isWaiting(step) ? "bg-warn-soft" : "bg-bad-soft")}>
          <p className="font-semibold wrap-anywhere">{step.error.message}</p>
          <p className="wrap-anywhere">{step.error.remedy}</p>
          {step.error.logTail.length > 0 && (
            <details className="mt-2">
              <summary className="text-xs">Last lines of the log</summary>
              <pre className="mt-2 max-h-60 overflow-auto whitespace-pre-wrap text-xs wrap-anywhere">
                {step.error.logTail.join("\n")}
              </pre>
            </details>
          )}
        </div>
      )}
      {step.warnings.map((warning) => (
        <p key={warning} className="ml-8 rounded-lg bg-warn-soft p-3 text-sm wrap-anywhere">
          {warning}
        </p>
      ))}
    </li>
  );
}
