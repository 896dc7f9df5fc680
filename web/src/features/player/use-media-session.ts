import { useEffect, useRef } from "react";
import type { PlayerSource } from "./types";

type Acts = { toggle: () => void; seek: (seconds: number) => void };

/** Tell the system what is playing, so that its media keys and its lock screen work. */
export function useMediaSession(source: PlayerSource, acts: Acts, time: number): void {
  const now = useRef({ acts, time });
  useEffect(() => {
    now.current = { acts, time };
  });
  const { title, posterUrl } = source;
  useEffect(() => {
    if (!("mediaSession" in navigator)) return;
    const { mediaSession } = navigator;
    mediaSession.metadata = new MediaMetadata({ title, artwork: posterUrl ? [{ src: posterUrl }] : [] });
    const by = (offset: number) => () => now.current.acts.seek(now.current.time + offset);
    const handlers: [MediaSessionAction, MediaSessionActionHandler][] = [
      ["play", () => now.current.acts.toggle()],
      ["pause", () => now.current.acts.toggle()],
      ["seekbackward", by(-10)],
      ["seekforward", by(10)],
      ["seekto", ({ seekTime }) => seekTime !== undefined && now.current.acts.seek(seekTime)],
    ];
    for (const [action, handler] of handlers) mediaSession.setActionHandler(action, handler);
    return () => {
      mediaSession.metadata = null;
      for (const [action] of handlers) mediaSession.setActionHandler(action, null);
    };
  }, [title, posterUrl]);
}
