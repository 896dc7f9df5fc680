import { useMutation, useQueryClient } from "@tanstack/react-query";
import { RotateCcw, Sparkles } from "lucide-react";
import { suggestionsOf } from "@/api/ai";
import type { VideoDetails } from "@/api/client";
import { instance } from "@/api/instance";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/button";
import { ProblemNote } from "@/components/problem-note";
import { Progress } from "@/components/status";
import { stepWords } from "@/features/jobs/step-words";
import { useJobActions } from "@/features/jobs/use-job";
import { videoKeys } from "@/features/videos/queries";
import { type AiState, aiState } from "./ai-state";
import { rerunSuggestions } from "./queries";

/** What AI providers make of a video: at work, failed, or done; and asking them again. */
export function SuggestionsPanel({ video }: { video: VideoDetails }) {
  const queryClient = useQueryClient();
  const { ai } = instance();
  const state = aiState({
    ai,
    job: video.job,
    captions: video.captions,
    suggestions: suggestionsOf(video.suggestions),
  });
  const rerun = useMutation({
    mutationFn: () => rerunSuggestions(video.videoId),
    onSettled: () => queryClient.invalidateQueries({ queryKey: videoKeys.details(video.videoId) }),
  });
  const problem = rerun.error ? asProblem(rerun.error) : null;
  const canAsk = video.playable && state.is !== "unconfigured" && state.is !== "working";
  return (
    <div className="grid gap-3 text-sm">
      <div role="status" aria-live="polite" className="grid gap-3">
        <StateWords state={state} />
      </div>
      {state.is === "failed" && <Failures state={state} jobId={video.job?.jobId ?? ""} />}
      {problem && <ProblemNote problem={problem} />}
      {canAsk && (
        <Button size="sm" className="w-fit" busy={rerun.isPending} onClick={() => rerun.mutate()}>
          {!rerun.isPending && <Sparkles />} Suggest again
        </Button>
      )}
    </div>
  );
}

function StateWords({ state }: { state: AiState }) {
  switch (state.is) {
    case "unconfigured":
      return (
        <p className="text-muted">
          No AI provider is set up on this Echo, so there are no automatic captions or suggestions. Whoever
          runs it can name one in the table [ai] of echo.toml.
        </p>
      );
    case "working": {
      const { label } = stepWords(state.step.name);
      return (
        <>
          <p>
            {label}
            {state.step.state === "running" ? `: ${Math.floor(state.step.percent)} %` : " comes next"}
          </p>
          <Progress label={label} percent={state.step.state === "running" ? state.step.percent : null} />
        </>
      );
    }
    case "failed":
      return <p className="sr-only">Captions or suggestions could not be made.</p>;
    case "silent":
      return <p className="text-muted">{state.reason}</p>;
    case "waiting":
      return (
        <p>
          {state.count === 1 ? "One suggestion waits" : `${state.count} suggestions wait`} beside the fields
          for your decision.
        </p>
      );
    case "idle":
      return <p className="text-muted">No suggestion waits for you.</p>;
  }
}

type FailuresProps = { state: Extract<AiState, { is: "failed" }>; jobId: string };

function Failures({ state, jobId }: FailuresProps) {
  const { retry } = useJobActions(jobId);
  return state.steps.map((step) => {
    const { label } = stepWords(step.name);
    return (
      <ProblemNote
        key={step.name}
        problem={{
          message: `${label}: ${step.error?.message ?? "It failed."}`,
          remedy: step.error?.remedy ?? "",
        }}
      >
        {state.canRetry ? (
          <Button
            size="sm"
            busy={retry.isPending && retry.variables === step.name}
            aria-label={`Try again: ${label}`}
            onClick={() => retry.mutate(step.name)}
          >
            <RotateCcw /> Try again
          </Button>
        ) : (
          <p>It can be tried again when the other steps have finished.</p>
        )}
      </ProblemNote>
    );
  });
}
