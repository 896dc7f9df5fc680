import { useMutation } from "@tanstack/react-query";
import { Check, Lock, Pencil, Sparkles, X } from "lucide-react";
import { useId } from "react";
import type { SuggestedField, Suggestion } from "@/api/ai";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/button";
import { ProblemNote } from "@/components/problem-note";
import { toast } from "@/components/toast";
import { formatUsd } from "@/features/ai/format";
import { formatClock, formatWhen } from "@/lib/format";
import { acceptSuggestion, rejectSuggestion } from "./queries";
import { ValueView } from "./value-view";

type SlotProps = {
  videoId: string;
  field: SuggestedField;
  suggestions: readonly Suggestion[];
  /** The person has typed in the field and not saved it. */
  typed: boolean;
  /** The suggestion whose text is in the field now, to be changed there. */
  editingId: string | undefined;
  onEdit: (suggestion: Suggestion) => void;
  onDecided: (field: SuggestedField, accepted: boolean) => Promise<void>;
  onSeek: (seconds: number) => void;
};

/** What is suggested for a field, or where its value comes from. */
export function SuggestionSlot({ field, suggestions, ...rest }: SlotProps) {
  const own = suggestions.filter((one) => one.field === field);
  const pending = own.find((one) => one.state === "pending");
  if (pending) return <SuggestionCard key={pending.id} suggestion={pending} {...rest} />;
  const taken = own.find((one) => one.state === "accepted" || one.state === "edited");
  if (!taken) return null;
  return (
    <p className="flex flex-wrap items-center gap-x-2 gap-y-1 text-muted text-xs">
      <Sparkles className="size-3.5" aria-hidden="true" />
      <span>
        {taken.state === "edited" ? "Edited from a suggestion of " : "Suggested by "}
        {byWhom(taken)}
        {taken.auto && ", taken over by itself"}
      </span>
      <Evidence suggestion={taken} onSeek={rest.onSeek} />
    </p>
  );
}

function byWhom({ provider, model }: Suggestion): string {
  return model && model !== provider ? `${provider} (${model})` : provider;
}

type CardProps = Omit<SlotProps, "field" | "suggestions"> & { suggestion: Suggestion };

const NAMES: Record<SuggestedField, string> = {
  title: "title",
  description: "description",
  tags: "tags",
  chapters: "chapters",
  language: "language",
};

function SuggestionCard({ videoId, suggestion, typed, editingId, onEdit, onDecided, onSeek }: CardProps) {
  const titleId = useId();
  const { id, field, current, locked, costUsd, createdAt } = suggestion;
  const name = NAMES[field];
  const replaces = current.length > 0;
  const decide = useMutation({
    mutationFn: async (accepted: boolean) => {
      await (accepted ? acceptSuggestion(videoId, id) : rejectSuggestion(videoId, id));
      await onDecided(field, accepted);
    },
    onSuccess: (_, accepted) => toast.good(accepted ? `The ${name} is taken over` : "Rejected"),
    // Decided in another tab, or replaced by a newer one: the page shows what is.
    onError: (error) => asProblem(error).code === "suggestion_decided" && onDecided(field, false),
  });
  const problem = decide.error ? asProblem(decide.error) : null;
  if (editingId === id) {
    return (
      <p className="text-muted text-xs" role="status">
        The suggestion is in the field. Change it there and save; “Discard” brings it back here.
      </p>
    );
  }
  return (
    <section
      aria-labelledby={titleId}
      data-suggestion={field}
      className="grid gap-2.5 rounded-xl border border-accent/40 bg-accent-soft/40 p-3.5 text-sm"
    >
      <div className="flex flex-wrap items-center gap-x-2 gap-y-1">
        <Sparkles className="size-4 text-accent" aria-hidden="true" />
        <h3 id={titleId} className="font-semibold">
          Suggested {name}
        </h3>
        {replaces && <span className="text-muted text-xs">compared with what is there now</span>}
      </div>
      <ValueView suggestion={suggestion} />
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1 text-muted text-xs">
        <span>
          {byWhom(suggestion)} · {formatWhen(createdAt)} · {costUsd > 0 ? formatUsd(costUsd) : "no cost"}
        </span>
        <Evidence suggestion={suggestion} onSeek={onSeek} />
      </div>
      {locked && (
        <p className="flex items-center gap-1.5 text-muted text-xs">
          <Lock className="size-3.5 shrink-0" aria-hidden="true" />
          You have written the {name} yourself: nothing replaces it unless you accept it here.
        </p>
      )}
      {problem && <ProblemNote problem={problem} />}
      <div className="flex flex-wrap gap-2">
        <Button
          size="sm"
          variant="primary"
          busy={decide.isPending && decide.variables}
          disabled={decide.isPending}
          aria-label={`Accept the suggested ${name}`}
          onClick={() => decide.mutate(true)}
        >
          <Check /> {typed ? "Accept, instead of what is typed" : "Accept"}
        </Button>
        <Button
          size="sm"
          disabled={decide.isPending}
          aria-label={`Edit the suggested ${name}`}
          onClick={() => onEdit(suggestion)}
        >
          <Pencil /> Edit
        </Button>
        <Button
          size="sm"
          busy={decide.isPending && !decide.variables}
          disabled={decide.isPending}
          aria-label={`Reject the suggested ${name}`}
          onClick={() => decide.mutate(false)}
        >
          <X /> Reject
        </Button>
      </div>
    </section>
  );
}

const MOST_TIMES = 6;

/** The places in the video that a suggestion rests on. */
function Evidence({ suggestion, onSeek }: { suggestion: Suggestion; onSeek: (seconds: number) => void }) {
  const { evidence, field } = suggestion;
  if (evidence.length === 0) return null;
  const left = evidence.length - MOST_TIMES;
  return (
    <span className="inline-flex flex-wrap items-center gap-x-1.5">
      said at
      {evidence.slice(0, MOST_TIMES).map(({ startSeconds }) => (
        <button
          key={startSeconds}
          type="button"
          className="rounded px-1 py-0.5 text-accent tabular-nums underline underline-offset-2"
          aria-label={`Go to ${formatClock(startSeconds)}, evidence for the ${NAMES[field]}`}
          onClick={() => onSeek(startSeconds)}
        >
          {formatClock(startSeconds)}
        </button>
      ))}
      {left > 0 && `and ${left} more`}
    </span>
  );
}
