import type { SuggestedChapter, Suggestion } from "@/api/ai";
import { cn } from "@/lib/cn";
import { formatClock, formatLanguage } from "@/lib/format";
import { type DiffPart, diffLists, diffWords } from "./diff";

const looks: Record<DiffPart["kind"], string> = {
  same: "",
  added: "bg-good-soft text-good no-underline",
  removed: "bg-bad-soft text-bad line-through",
};
const elements = { same: "span", added: "ins", removed: "del" } as const;
const words: Record<DiffPart["kind"], string> = { same: "", added: "new: ", removed: "no more: " };

/** One piece of a difference, told by colour, by line and, to those who see neither, by a word. */
function Piece({ kind, className, text }: { kind: DiffPart["kind"]; className?: string; text: string }) {
  const Element = elements[kind];
  return (
    <Element className={cn("rounded", looks[kind], className)}>
      {words[kind] && <span className="sr-only">{words[kind]}</span>}
      {text}
    </Element>
  );
}

/** What is suggested; where the video has something already, as a difference to that. */
export function ValueView({ suggestion }: { suggestion: Suggestion }) {
  const { field, value, current } = suggestion;
  if (field === "chapters") {
    return <Chapters value={value as SuggestedChapter[]} current={current as SuggestedChapter[]} />;
  }
  if (field === "tags") {
    const tags = diffLists(current as string[], value as string[], (tag) => tag);
    return (
      <ul className="flex flex-wrap gap-1.5">
        {tags.map(({ kind, value: tag }) => (
          <li key={`${kind} ${tag}`}>
            <Piece
              kind={tags.every((one) => one.kind === "added") ? "same" : kind}
              className="inline-block bg-raised px-2 py-0.5"
              text={tag}
            />
          </li>
        ))}
      </ul>
    );
  }
  if (field === "language") {
    const [before, after] = [String(current), String(value)];
    return (
      <p>
        {before && before !== after && (
          <>
            <Piece kind="removed" text={formatLanguage(before)} />{" "}
          </>
        )}
        <Piece kind={before ? "added" : "same"} text={`${formatLanguage(after)} (${after})`} />
      </p>
    );
  }
  const [before, after] = [String(current), String(value)];
  const parts = before ? diffWords(before, after) : [{ kind: "same" as const, text: after }];
  return (
    <p className="max-h-60 overflow-y-auto whitespace-pre-line wrap-anywhere">
      {parts.map(({ kind, text }, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the parts of a difference have no other name
        <Piece key={at} kind={kind} text={text} />
      ))}
    </p>
  );
}

function Chapters({ value, current }: { value: SuggestedChapter[]; current: SuggestedChapter[] }) {
  const lines = diffLists(current, value, ({ startSeconds, title }) => `${startSeconds} ${title}`);
  return (
    <ol className="grid gap-0.5">
      {lines.map(({ kind, value: { startSeconds, title } }) => (
        <li key={`${kind} ${startSeconds} ${title}`} className="flex gap-3">
          <span className="w-14 shrink-0 text-muted tabular-nums">{formatClock(startSeconds)}</span>
          <Piece kind={current.length === 0 ? "same" : kind} className="min-w-0 wrap-anywhere" text={title} />
        </li>
      ))}
    </ol>
  );
}
