import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { AiCall, AiTotals } from "@/api/ai";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/button";
import { Dialog } from "@/components/dialog";
import { ProblemNote } from "@/components/problem-note";
import { Skeleton } from "@/components/status";
import { stepWords } from "@/features/jobs/step-words";
import { formatDuration, formatMoment } from "@/lib/format";
import { formatCount, formatUsd } from "./format";
import { aiCallsQuery } from "./queries";

/** What AI providers were given for one video, and what they took. */
export function AiFacts({ videoId, totals }: { videoId: string; totals: AiTotals }) {
  const [open, setOpen] = useState(false);
  const calls = useQuery(aiCallsQuery(videoId));
  const models = new Set(calls.data?.items.map((call) => call.model || call.provider));
  const { costUsd, inputTokens, outputTokens, calls: count } = totals;
  const words = [
    costUsd > 0 ? formatUsd(costUsd) : "no cost",
    inputTokens + outputTokens > 0 && `${formatCount(inputTokens + outputTokens)} tokens`,
    [...models].join(", "),
  ];
  return (
    <p className="text-sm">
      <span className="text-muted">AI: </span>
      {words.filter(Boolean).join(" · ")}{" "}
      <button
        type="button"
        className="text-accent underline underline-offset-4"
        onClick={() => setOpen(true)}
      >
        {count === 1 ? "One call" : `All ${formatCount(count)} calls`}
      </button>
      <Dialog open={open} onClose={() => setOpen(false)} title="Calls to AI providers">
        {calls.isPending && <Skeleton className="h-32" />}
        {calls.isError && (
          <ProblemNote problem={asProblem(calls.error)}>
            <Button size="sm" onClick={() => calls.refetch()}>
              Try again
            </Button>
          </ProblemNote>
        )}
        {calls.data && (
          <ul className="grid max-h-[60dvh] gap-3 overflow-y-auto text-sm">
            {calls.data.items.map((call, at) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: two calls may be alike in everything
              <Call key={at} call={call} />
            ))}
          </ul>
        )}
      </Dialog>
    </p>
  );
}

function Call({ call }: { call: AiCall }) {
  const {
    step,
    provider,
    model,
    promptVersion,
    inputTokens,
    outputTokens,
    mediaSeconds,
    costUsd,
    state,
    at,
  } = call;
  const took = [
    costUsd > 0 ? formatUsd(costUsd) : "no cost",
    inputTokens + outputTokens > 0 && `${formatCount(inputTokens)} + ${formatCount(outputTokens)} tokens`,
    mediaSeconds > 0 && `${formatDuration(mediaSeconds)} of sound or picture`,
  ];
  return (
    <li className="grid gap-0.5 border-line border-t pt-3 first:border-0 first:pt-0">
      <p className="font-medium">{stepWords(step).label}</p>
      <p>{took.filter(Boolean).join(" · ")}</p>
      <p className="text-muted text-xs">
        {[provider, model, promptVersion, formatMoment(at)].filter(Boolean).join(" · ")}
      </p>
      {state === "reserved" && (
        <p className="text-muted text-xs">Not settled: it counts with the most that it may have taken.</p>
      )}
    </li>
  );
}
