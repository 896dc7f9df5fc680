import { type KeyboardEvent, type PointerEvent, useEffect, useRef, useState } from "react";
import { cn } from "@/lib/cn";
import { formatClock } from "@/lib/format";
import { chapterTitleAt } from "./chapters";
import type { Playback } from "./playback";
import { SeekPreview } from "./seek-preview";
import type { PlayerChapter } from "./types";
import { useBuffered, usePosition } from "./use-media";

type SeekBarProps = {
  video: HTMLVideoElement | null;
  playback: Playback;
  durationSeconds: number;
  chapters: readonly PlayerChapter[];
  storyboardUrl: string | null;
  onScrub(scrubbing: boolean): void;
};

export function SeekBar({
  video,
  playback,
  durationSeconds,
  chapters,
  storyboardUrl,
  onScrub,
}: SeekBarProps) {
  const bar = useRef<HTMLDivElement>(null);
  const position = usePosition(video, playback);
  const buffered = useBuffered(video);
  const [pointed, setPointed] = useState<number | null>(null);
  const [dragging, setDragging] = useState(false);
  const [keyed, setKeyed] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const [wanted, setWanted] = useState(false);

  const shown = dragging && pointed !== null ? pointed : position;
  const percent = (seconds: number) =>
    durationSeconds > 0 ? Math.min(100, (seconds / durationSeconds) * 100) : 0;
  const chapter = chapterTitleAt(chapters, shown);
  const valueText = `${formatClock(shown)} of ${formatClock(durationSeconds)}${chapter && `, chapter ${chapter}`}`;

  const secondsAt = (clientX: number): number => {
    const box = bar.current?.getBoundingClientRect();
    if (!box?.width) return 0;
    return Math.max(0, Math.min(1, (clientX - box.left) / box.width)) * durationSeconds;
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  /** The preview of a keyboard seek, for a moment: it would cover the captions. */
  const showKeyed = () => {
    setWanted(true);
    setKeyed(true);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setKeyed(false), 2000);
  };
  const drag = (on: boolean) => {
    setDragging(on);
    onScrub(on);
  };
  const onPointerDown = (event: PointerEvent<HTMLDivElement>) => {
    if (event.button !== 0) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    setWanted(true);
    setPointed(secondsAt(event.clientX));
    drag(true);
  };
  const onPointerMove = (event: PointerEvent) => {
    setWanted(true);
    setPointed(secondsAt(event.clientX));
  };
  const onPointerUp = (event: PointerEvent) => {
    if (!dragging) return;
    playback.seek(secondsAt(event.clientX));
    drag(false);
    if (event.pointerType !== "mouse") setPointed(null);
  };
  const onPointerGone = () => {
    drag(false);
    setPointed(null);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const page = Math.max(10, durationSeconds / 10);
    const targets: Record<string, number> = {
      ArrowLeft: position - 5,
      ArrowRight: position + 5,
      PageDown: position - page,
      PageUp: position + page,
      Home: 0,
      End: durationSeconds,
    };
    const target = targets[event.key];
    if (target === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    showKeyed();
    playback.seek(target);
  };
  const preview = pointed ?? (keyed ? position : null);

  return (
    <div className="group/seek relative">
      {preview !== null && durationSeconds > 0 && (
        <SeekPreview
          seconds={preview}
          fraction={preview / durationSeconds}
          chapter={chapterTitleAt(chapters, preview)}
          storyboardUrl={storyboardUrl}
          wanted={wanted}
        />
      )}
      <div
        ref={bar}
        role="slider"
        tabIndex={0}
        aria-label="Position"
        aria-valuemin={0}
        aria-valuemax={Math.round(durationSeconds)}
        aria-valuenow={Math.round(shown)}
        aria-valuetext={valueText}
        className="relative flex h-5 cursor-pointer touch-none items-center rounded focus-visible:outline-2 focus-visible:outline-white pointer-coarse:h-7"
        onPointerDown={onPointerDown}
        onPointerMove={onPointerMove}
        onPointerUp={onPointerUp}
        onPointerCancel={onPointerGone}
        onPointerLeave={() => !dragging && setPointed(null)}
        onKeyDown={onKeyDown}
        onFocus={(event) => {
          if (event.currentTarget.matches(":focus-visible")) showKeyed();
        }}
        onBlur={() => setKeyed(false)}
      >
        <div
          className={cn(
            "relative h-1 w-full overflow-hidden rounded-full bg-white/35 transition-[height] group-hover/seek:h-1.5",
            dragging && "h-1.5",
          )}
        >
          {buffered.map(([start, end]) => (
            <div
              key={start}
              className="absolute inset-y-0 bg-white/35"
              style={{ left: `${percent(start)}%`, width: `${percent(end) - percent(start)}%` }}
            />
          ))}
          {pointed !== null && !dragging && (
            <div
              className="absolute inset-y-0 left-0 bg-white/40"
              style={{ width: `${percent(pointed)}%` }}
            />
          )}
          <div className="absolute inset-y-0 left-0 bg-[#ff8a65]" style={{ width: `${percent(shown)}%` }} />
          {chapters.map(
            ({ startSeconds }) =>
              startSeconds > 0 &&
              startSeconds < durationSeconds && (
                <div
                  key={startSeconds}
                  className="absolute inset-y-0 w-[3px] -translate-x-1/2 bg-black"
                  style={{ left: `${percent(startSeconds)}%` }}
                />
              ),
          )}
        </div>
        <div
          className={cn(
            "absolute size-3.5 -translate-x-1/2 rounded-full bg-[#ff8a65] opacity-0 transition-opacity group-hover/seek:opacity-100 group-has-focus-visible/seek:opacity-100 pointer-coarse:opacity-100",
            dragging && "opacity-100",
          )}
          style={{ left: `${percent(shown)}%` }}
        />
      </div>
    </div>
  );
}
