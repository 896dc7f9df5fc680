import { Play, TimerReset, TriangleAlert } from "lucide-react";
import { memo, useState } from "react";
import { Button } from "@/components/button";
import { inputClass } from "@/components/field";
import { cn } from "@/lib/cn";
import { type Cue, type CueWarning, charactersPerSecond, FAST_CPS } from "./cues";
import { formatCueTime, parseCueTime } from "./times";

export type RowActions = {
  select(id: number, seek: boolean): void;
  text(id: number, text: string): void;
  time(id: number, end: "start" | "end", seconds: number | "player"): void;
  playFrom(id: number): void;
};

type CueRowProps = {
  cue: Cue;
  index: number;
  current: boolean;
  selected: boolean;
  warnings: CueWarning[];
  actions: RowActions;
};

/** One cue: its times, its text, and what is wrong with it. */
export const CueRow = memo(function CueRow(props: CueRowProps) {
  const { cue, index, current, selected, warnings, actions } = props;
  const { id, startSeconds, endSeconds, text } = cue;
  const number = index + 1;
  const cps = Math.round(charactersPerSecond(cue));
  const warningId = `cue-${id}-warnings`;
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: a larger target for what a button and a key do as well
    <div
      data-cue={id}
      data-current={current || undefined}
      className={cn(
        "grid gap-1.5 rounded-xl border border-line bg-surface p-2.5",
        selected && "border-edge",
        current && "border-accent bg-accent-soft/50",
      )}
      onPointerDown={() => !selected && actions.select(id, true)} // before the focus, which selects as well
      onFocus={() => !selected && actions.select(id, false)}
    >
      <div className="flex flex-wrap items-center gap-1">
        <Button
          variant="ghost"
          size="icon-sm"
          aria-label={`Play from cue ${number}`}
          onClick={(event) => {
            event.stopPropagation();
            actions.playFrom(id);
          }}
        >
          <Play />
        </Button>
        <span className="min-w-7 text-muted text-xs tabular-nums">{number}</span>
        {(["start", "end"] as const).map((end) => (
          <span key={end} className="inline-flex items-center">
            <TimeInput
              label={`${end === "start" ? "Start" : "End"} of cue ${number}`}
              seconds={end === "start" ? startSeconds : endSeconds}
              onChange={(seconds) => actions.time(id, end, seconds)}
            />
            <Button
              variant="ghost"
              size="icon-sm"
              aria-label={`Set the ${end} of cue ${number} to where the player stands`}
              onClick={() => actions.time(id, end, "player")}
            >
              <TimerReset />
            </Button>
          </span>
        ))}
        <span
          className={cn("ml-auto text-muted text-xs tabular-nums", cps > FAST_CPS && "font-medium text-warn")}
        >
          {cps} <span aria-hidden="true">c/s</span>
          <span className="sr-only">letters a second</span>
        </span>
      </div>
      <textarea
        rows={2}
        dir="auto"
        data-cue-text=""
        aria-label={`Text of cue ${number}`}
        aria-describedby={warnings.length > 0 ? warningId : undefined}
        aria-invalid={warnings.some((one) => one.grave) || undefined}
        maxLength={1000}
        value={text}
        onChange={(event) => actions.text(id, event.target.value)}
        className={cn(inputClass, "field-sizing-content resize-none py-1.5 leading-snug")}
      />
      {warnings.length > 0 && (
        <ul id={warningId} className="grid gap-0.5 text-xs">
          {warnings.map((one) => (
            <li
              key={one.text}
              className={cn("flex items-center gap-1.5", one.grave ? "text-bad" : "text-warn")}
            >
              <TriangleAlert className="size-3.5 shrink-0" aria-hidden="true" /> {one.text}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
});

type TimeInputProps = { label: string; seconds: number; onChange: (seconds: number) => void };

/** A time that counts once it is finished: with Enter or by leaving; Escape takes back what was typed. */
function TimeInput({ label, seconds, onChange }: TimeInputProps) {
  const [typed, setTyped] = useState<string | null>(null);
  const parsed = typed === null ? seconds : parseCueTime(typed);
  const finish = () => {
    if (typed !== null && parsed !== null && parsed !== seconds) onChange(parsed);
    setTyped(null);
  };
  return (
    <input
      aria-label={label}
      aria-invalid={parsed === null || undefined}
      title={parsed === null ? "Write the time as 1:15.250." : undefined}
      inputMode="decimal"
      value={typed ?? formatCueTime(seconds)}
      onChange={(event) => setTyped(event.target.value)}
      onBlur={finish}
      onKeyDown={(event) => {
        if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) finish();
        if (event.key === "Escape") setTyped(null);
      }}
      className={cn(inputClass, "h-8 w-26 px-2 py-0 text-sm tabular-nums")}
    />
  );
}
