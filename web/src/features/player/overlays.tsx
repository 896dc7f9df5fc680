import { LoaderCircle, Pause, Play, TriangleAlert, X } from "lucide-react";
import { useEffect, useRef } from "react";
import { cn } from "@/lib/cn";
import { ControlButton } from "./control-button";
import { shortcuts } from "./keyboard";
import type { PlayerProblem } from "./types";

type BigPlayProps = { paused: boolean; started: boolean; small: boolean; onToggle(): void };

/** The button in the middle: for everybody before the first play, later for fingers only. */
export function BigPlay({ paused, started, small, onToggle }: BigPlayProps) {
  const Icon = paused ? Play : Pause;
  return (
    <div
      className={cn(
        "pointer-events-none absolute inset-0 z-1 grid place-items-center",
        started && "hidden pointer-coarse:grid",
        small && "pb-14", // clear of the controls
      )}
    >
      <button
        type="button"
        aria-label={paused ? "Play" : "Pause"}
        tabIndex={started ? -1 : 0}
        onClick={onToggle}
        className={cn(
          "pointer-events-auto grid place-items-center rounded-full bg-black/65 text-white transition-colors hover:bg-black/85 focus-visible:outline-2 focus-visible:outline-white",
          small ? "size-12" : "size-16",
        )}
      >
        <Icon
          aria-hidden="true"
          className={cn("fill-current", small ? "size-6" : "size-8", paused && "translate-x-0.5")}
        />
      </button>
    </div>
  );
}

export function Waiting() {
  return (
    <div className="pointer-events-none absolute inset-0 grid place-items-center" data-testid="waiting">
      <LoaderCircle aria-hidden="true" className="size-14 animate-spin text-white drop-shadow-lg" />
      <span className="sr-only">Loading</span>
    </div>
  );
}

export function Toast({ text }: { text: string }) {
  if (!text) return null;
  return (
    <div
      aria-hidden="true"
      className="pointer-events-none absolute inset-x-0 top-[12%] z-10 flex justify-center px-4 text-sm font-medium text-white"
    >
      <span className="truncate rounded-full bg-neutral-900/85 px-3 py-1">{text}</span>
    </div>
  );
}

export function ProblemNotice({ problem, onRetry }: { problem: PlayerProblem; onRetry(): void }) {
  return (
    <div
      role="alert"
      className="absolute inset-0 z-20 flex flex-col items-center justify-center gap-3 bg-black/85 p-4 text-center text-sm text-white"
    >
      <TriangleAlert aria-hidden="true" className="size-7 shrink-0" />
      <p className="max-w-96">{problem.message}</p>
      {problem.kind !== "unsupported" && (
        <button
          type="button"
          onClick={onRetry}
          className="h-9 shrink-0 rounded-lg bg-white px-4 font-medium text-black hover:bg-white/85 focus-visible:outline-2 focus-visible:outline-offset-2 focus-visible:outline-white"
        >
          Retry
        </button>
      )}
    </div>
  );
}

export function ShortcutList({ onClose }: { onClose(): void }) {
  const panel = useRef<HTMLDivElement>(null);
  useEffect(() => panel.current?.querySelector("button")?.focus(), []);
  return (
    <div
      ref={panel}
      role="dialog"
      aria-label="Keyboard shortcuts"
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        onClose();
      }}
      className="absolute inset-2 z-20 m-auto h-fit max-h-[calc(100%-1rem)] w-fit max-w-[calc(100%-1rem)] overflow-y-auto rounded-lg bg-neutral-900/95 p-4 text-sm text-white shadow-float ring-1 ring-white/15"
    >
      <div className="mb-1 flex items-center justify-between gap-6">
        <h2 className="font-semibold">Keyboard shortcuts</h2>
        <ControlButton icon={X} label="Close" tip={false} onClick={onClose} />
      </div>
      <dl className="grid grid-cols-[auto_1fr] gap-x-6 gap-y-1">
        {shortcuts.map(([keys, meaning]) => (
          <div key={keys} className="contents">
            <dt className="font-medium whitespace-nowrap">{keys}</dt>
            <dd className="text-white/85">{meaning}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
