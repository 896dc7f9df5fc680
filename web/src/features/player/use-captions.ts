import { type RefObject, useEffect, useState } from "react";

/** The lines that the chosen captions say now. */
export function useCaptionLines(video: RefObject<HTMLVideoElement | null>, chosen: number): string[] {
  const [lines, setLines] = useState<string[]>([]);
  useEffect(() => {
    const media = video.current;
    if (!media || chosen < 0) {
      setLines([]);
      return;
    }
    const read = () => {
      const active = [...media.textTracks]
        .filter(
          (track) => track.mode === "hidden" && (track.kind === "subtitles" || track.kind === "captions"),
        )
        .flatMap((track) => [...(track.activeCues ?? [])]);
      setLines(active.map((cue) => (cue as VTTCue).getCueAsHTML().textContent ?? "").filter(Boolean));
    };
    media.addEventListener("timeupdate", read);
    media.addEventListener("seeked", read);
    read();
    return () => {
      media.removeEventListener("timeupdate", read);
      media.removeEventListener("seeked", read);
    };
  }, [video, chosen]);
  return lines;
}
