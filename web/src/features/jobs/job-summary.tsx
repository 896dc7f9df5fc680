import { Link } from "@tanstack/react-router";
import { Ban, RotateCcw } from "lucide-react";
import { useState } from "react";
import type { Job } from "@/api/client";
import { asProblem, type Problem } from "@/api/problem";
import { Button } from "@/components/button";
import { ConfirmDialog } from "@/components/dialog";
import { ProblemNote } from "@/components/problem-note";
import { Badge, Progress, Skeleton } from "@/components/status";
import { hasEnded } from "@/features/live/reduce";
import { formatDuration, formatEta } from "@/lib/format";
import { isWaiting, JOB_STATE, stepWords } from "./step-words";
import { useJob, useJobActions } from "./use-job";

/** What a job does now, in one line. */
export function jobSentence(job: Job): string {
  if (job.cancelRequested && !hasEnded(job.state)) return "Stopping";
  const waiting = job.steps.find(isWaiting)?.error;
  if (waiting && !job.steps.some((step) => step.state === "running")) return waiting.message;
  if (job.state === "queued") {
    const place = job.queuePosition ? `Place ${job.queuePosition} in the queue` : "Waiting for a worker";
    return [place, job.etaSeconds != null && formatEta(job.etaSeconds)].filter(Boolean).join(" · ");
  }
  if (job.state === "running") {
    const running = job.steps
      .filter((step) => step.state === "running")
      .map((step) => stepWords(step.name).label);
    return [
      `${Math.floor(job.percent)} %`,
      running.slice(0, 2).join(", "),
      !running.length && job.queuePosition && `place ${job.queuePosition} in the queue`,
      job.etaSeconds != null && formatEta(job.etaSeconds),
    ]
      .filter(Boolean)
      .join(" · ");
  }
  if (job.finishedAt && job.state === "succeeded") {
    return `Took ${formatDuration((Date.parse(job.finishedAt) - Date.parse(job.createdAt)) / 1000)}`;
  }
  return "";
}

/** State, progress and remedies of a job, with what can be done. */
export function JobSummary({ jobId, link = false }: { jobId: string; link?: boolean }) {
  const job = useJob(jobId);
  const { cancel, retry } = useJobActions(jobId);
  const [asking, setAsking] = useState(false);
  if (job.isPending) return <Skeleton className="h-24" />;
  if (job.isError) return <JobProblem problem={asProblem(job.error)} onRetry={() => void job.refetch()} />;
  const { state, percent, error, cancelRequested } = job.data;
  const ended = hasEnded(state);
  const sentence = jobSentence(job.data);
  return (
    <div className="grid gap-3">
      <div className="flex flex-wrap items-center gap-3">
        <Badge tone={JOB_STATE[state].tone}>{JOB_STATE[state].label}</Badge>
        <div className="flex-1" />
        {!ended && (
          <Button size="sm" busy={cancelRequested || cancel.isPending} onClick={() => setAsking(true)}>
            {!cancelRequested && <Ban />} Cancel
          </Button>
        )}
        {(state === "failed" || state === "cancelled") && !error && (
          <Button size="sm" busy={retry.isPending} onClick={() => retry.mutate(undefined)}>
            <RotateCcw /> Try again
          </Button>
        )}
      </div>
      {!ended && <Progress label="Processing" percent={percent} />}
      {sentence && <p className="text-muted text-sm">{sentence}</p>}
      {error && (
        <ProblemNote problem={error}>
          {ended && (
            <Button size="sm" busy={retry.isPending} onClick={() => retry.mutate(undefined)}>
              <RotateCcw /> Try again
            </Button>
          )}
        </ProblemNote>
      )}
      {link && (
        <Link
          to="/jobs/$jobId"
          params={{ jobId }}
          className="w-fit text-accent text-sm underline underline-offset-4"
        >
          Every step
        </Link>
      )}
      <ConfirmDialog
        open={asking}
        onClose={() => setAsking(false)}
        title="Cancel processing?"
        confirmLabel="Cancel processing"
        stayLabel="Go on"
        onConfirm={async () => {
          await cancel.mutateAsync();
        }}
      >
        What is finished stays; the rest can be started again.
      </ConfirmDialog>
    </div>
  );
}

function JobProblem({ problem, onRetry }: { problem: Problem; onRetry: () => void }) {
  return (
    <ProblemNote problem={problem}>
      <Button size="sm" onClick={onRetry}>
        Try again
      </Button>
    </ProblemNote>
  );
}
