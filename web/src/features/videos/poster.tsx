import { Film } from "lucide-react";
import { useState } from "react";
import { cn } from "@/lib/cn";
import { formatClock } from "@/lib/format";

type PosterProps = { url: string | null; durationSeconds: number | null; className?: string };

/** The picture of a video in its frame, with its length. */
export function Poster({ url, durationSeconds, className }: PosterProps) {
  const [broken, setBroken] = useState<string | null>(null); // an address may expire; the next one is tried again
  return (
    <div className={cn("relative aspect-video shrink-0 overflow-hidden rounded-lg bg-raised", className)}>
      {url && broken !== url ? (
        <img
          src={url}
          alt=""
          loading="lazy"
          decoding="async"
          className="size-full object-cover"
          onError={() => setBroken(url)}
        />
      ) : (
        <div className="grid size-full place-items-center text-edge">
          <Film className="size-7" aria-hidden="true" />
        </div>
      )}
      {durationSeconds !== null && (
        <span className="absolute right-1.5 bottom-1.5 rounded bg-black/75 px-1.5 font-medium text-white text-xs">
          {formatClock(durationSeconds)}
        </span>
      )}
    </div>
  );
}
