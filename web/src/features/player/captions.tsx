import { cn } from "@/lib/cn";
import type { ShownCue } from "./use-captions";

type CaptionsProps = { cues: readonly ShownCue[]; playerWidth: number; aboveControls: boolean };

export function CaptionLayer({ cues, playerWidth, aboveControls }: CaptionsProps) {
  const size = Math.max(14, Math.min(playerWidth * 0.023, 40));
  return (
    <div
      className="pointer-events-none absolute inset-0 z-1 flex flex-col text-center"
      style={{ fontSize: size, lineHeight: 1.35 }}
      data-testid="captions"
    >
      {[true, false].map((top) => (
        <div
          key={top ? "top" : "bottom"}
          className={cn(
            "flex flex-col items-center gap-1 px-[5%] transition-[padding] duration-150",
            top ? "pt-[3%]" : "mt-auto",
            !top && (aboveControls ? "pb-22" : "pb-[3%]"),
          )}
        >
          {cues
            .filter((cue) => cue.top === top)
            .map(({ key, lines }) => (
              <p
                key={key}
                dir="auto"
                className="max-w-full rounded bg-black/80 px-[0.5em] py-[0.1em] text-white"
              >
                {lines.map((line, at) => (
                  // biome-ignore lint/suspicious/noArrayIndexKey: the lines of a cue never change places
                  <span key={at} className="block">
                    {line}
                  </span>
                ))}
              </p>
            ))}
        </div>
      ))}
    </div>
  );
}
