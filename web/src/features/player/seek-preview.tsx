import { useLayoutEffect, useRef, useState } from "react";
import { formatClock } from "@/lib/format";
import { type Tile, tileAt } from "./storyboard";
import { useStoryboard } from "./use-storyboard";

type SeekPreviewProps = {
  seconds: number;
  /** Where on the bar, 0 to 1. */
  fraction: number;
  chapter: string;
  storyboardUrl: string | null;
  wanted: boolean;
};

/** Picture, time and chapter above the place on the bar; it stays within the bar's ends. */
export function SeekPreview({ seconds, fraction, chapter, storyboardUrl, wanted }: SeekPreviewProps) {
  const box = useRef<HTMLDivElement>(null);
  const [left, setLeft] = useState(0);
  const tile = tileAt(useStoryboard(storyboardUrl, wanted), seconds);
  // biome-ignore lint/correctness/useExhaustiveDependencies: what is inside decides how wide the box is
  useLayoutEffect(() => {
    const width = box.current?.offsetWidth ?? 0;
    const room = box.current?.parentElement?.clientWidth ?? 0;
    setLeft(Math.max(0, Math.min(fraction * room - width / 2, room - width)));
  }, [fraction, tile, chapter]);
  return (
    <div
      ref={box}
      aria-hidden="true"
      data-testid="seek-preview"
      className="pointer-events-none absolute bottom-full z-10 mb-1.5 flex max-w-full flex-col items-center gap-1 text-sm text-white"
      style={{ left }}
    >
      {tile && <TilePicture tile={tile} />}
      <span className="flex max-w-60 flex-col items-center rounded bg-neutral-900/90 px-2 py-0.5 text-center">
        {chapter && <span className="line-clamp-2 text-xs">{chapter}</span>}
        <span className="font-medium tabular-nums">{formatClock(seconds)}</span>
      </span>
    </div>
  );
}

const pictureArea = 160 * 90;

function TilePicture({ tile }: { tile: Tile }) {
  const { width, height, x, y, url } = tile;
  // The same area for every shape, and never larger than the file's own pixels.
  const scale = Math.min(1, Math.sqrt(pictureArea / (width * height)));
  return (
    <div
      className="overflow-hidden rounded-md bg-black shadow-float ring-2 ring-white/90"
      style={{ width: width * scale, height: height * scale }}
    >
      <div
        style={{
          width,
          height,
          backgroundImage: `url(${JSON.stringify(url)})`,
          backgroundPosition: `-${x}px -${y}px`,
          transform: `scale(${scale})`,
          transformOrigin: "0 0",
        }}
      />
    </div>
  );
}
