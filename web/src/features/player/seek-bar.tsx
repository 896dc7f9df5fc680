import { useQuery } from "@tanstack/react-query";
import { type KeyboardEvent, type PointerEvent, useRef, useState } from "react";
import { formatClock } from "@/lib/format";
import { chapterAt } from "./keys";
import { parseStoryboard, type Tile, tileAt } from "./storyboard";
import type { Chapter } from "./types";

type SeekBarProps = {
  time: number;
  duration: number;
  bufferedEnd: number;
  chapters: readonly Chapter[];
  storyboardUrl: string | null;
  onSeek: (seconds: number) => void;
};

const PAGE_S = 30;

/** Where the video stands: dragged, clicked or moved by keys, with a little picture of where one would land. */
export function SeekBar({ time, duration, bufferedEnd, chapters, storyboardUrl, onSeek }: SeekBarProps) {
  const bar = useRef<HTMLDivElement>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const [dragging, setDragging] = useState(false);
  const [wanted, setWanted] = useState(false);
  const storyboard = useStoryboard(wanted ? storyboardUrl : null);
  const shown = dragging && pointed !== null ? pointed : time;
  const chapter = chapterAt(chapters, shown);

  const at = (event: PointerEvent) => {
    const box = bar.current?.getBoundingClientRect();
    if (!box?.width) return 0;
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * duration;
  };
  const onPointerDown = (event: PointerEvent) => {
    if (event.button !== 0 || !duration) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    setDragging(true);
    setPointed(at(event));
  };
  const onPointerUp = (event: PointerEvent) => {
    if (!dragging) return;
    setDragging(false);
    onSeek(at(event));
    if (event.pointerType !== "mouse") setPointed(null);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const to = {
      ArrowLeft: time - 5,
      ArrowDown: time - 5,
      ArrowRight: time + 5,
      ArrowUp: time + 5,
      PageUp: time + PAGE_S,
      PageDown: time - PAGE_S,
      Home: 0,
      End: duration,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    onSeek(Math.min(duration, Math.max(0, to)));
  };
  const part = (seconds: number) => `${duration ? Math.min(100, (100 * seconds) / duration) : 0}%`;
  const spoken = `${formatClock(shown)} of ${formatClock(duration)}${chapter ? `, chapter ${chapter.title}` : ""}`;
  return (
    <div
      ref={bar}
      role="slider"
      tabIndex={0}
      aria-label="Position"
      aria-valuemin={0}
      aria-valuemax={Math.round(duration)}
      aria-valuenow={Math.round(shown)}
      aria-valuetext={spoken}
      className="group relative flex h-6 cursor-pointer touch-none items-center rounded focus-visible:outline-white"
      onPointerEnter={() => setWanted(true)}
      onFocus={() => setWanted(true)}
      onPointerMove={(event) => (dragging || event.pointerType === "mouse") && setPointed(at(event))}
      onPointerLeave={() => !dragging && setPointed(null)}
      onPointerDown={onPointerDown}
      onPointerUp={onPointerUp}
      onPointerCancel={() => {
        setDragging(false);
        setPointed(null);
      }}
      onKeyDown={onKeyDown}
    >
      <div className="relative h-1 w-full overflow-hidden rounded-full bg-white/30 transition-[height] group-hover:h-1.5">
        <div className="absolute inset-y-0 left-0 bg-white/40" style={{ width: part(bufferedEnd) }} />
        <div className="absolute inset-y-0 left-0 bg-[#ff6a45]" style={{ width: part(shown) }} />
        {chapters.map(
          ({ startSeconds }) =>
            startSeconds > 0 && (
              <div
                key={startSeconds}
                className="absolute inset-y-0 w-0.5 bg-black/80"
                style={{ left: part(startSeconds) }}
              />
            ),
        )}
      </div>
      <div
        className="absolute size-3.5 -translate-x-1/2 rounded-full bg-[#ff6a45] shadow transition-transform group-hover:scale-110"
        style={{ left: part(shown) }}
      />
      {pointed !== null && duration > 0 && (
        <Preview
          seconds={pointed}
          left={part(pointed)}
          tile={tileAt(storyboard, pointed)}
          chapter={chapterAt(chapters, pointed)}
        />
      )}
    </div>
  );
}

const PREVIEW_PX = 160;

type PreviewProps = { seconds: number; left: string; tile: Tile | undefined; chapter: Chapter | undefined };

function Preview({ seconds, left, tile, chapter }: PreviewProps) {
  const scale = tile ? PREVIEW_PX / Math.max(tile.width, tile.height) : 1;
  return (
    <div
      aria-hidden="true"
      className="pointer-events-none absolute bottom-7 grid w-40 -translate-x-1/2 justify-items-center gap-1 text-white"
      style={{ left: `clamp(${PREVIEW_PX / 2}px, ${left}, calc(100% - ${PREVIEW_PX / 2}px))` }}
    >
      {tile && (
        <div
          className="overflow-hidden rounded-lg border-2 border-white/90 bg-black"
          style={{ width: tile.width * scale, height: tile.height * scale }}
        >
          {/* A picture scaled as a whole, of which the frame shows one tile: sheets come in any size. */}
          <img
            src={tile.url}
            alt=""
            className="max-w-none origin-top-left"
            style={{ transform: `scale(${scale}) translate(${-tile.x}px, ${-tile.y}px)` }}
          />
        </div>
      )}
      <span className="max-w-full truncate rounded bg-black/80 px-1.5 text-xs">
        {formatClock(seconds)}
        {chapter && ` · ${chapter.title}`}
      </span>
    </div>
  );
}

const NO_TILES: Tile[] = [];

/** The storyboard, once somebody looks for a place. */
function useStoryboard(url: string | null): Tile[] {
  const { data } = useQuery({
    queryKey: ["storyboard", url],
    enabled: url !== null,
    staleTime: Number.POSITIVE_INFINITY,
    retry: 1,
    queryFn: async ({ signal }) => {
      const response = await fetch(url ?? "", { signal });
      if (!response.ok) throw new Error(`storyboard: ${response.status}`);
      return parseStoryboard(await response.text(), response.url);
    },
  });
  return data ?? NO_TILES;
}
