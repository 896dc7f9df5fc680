import { useEffect } from "react";
import type { Playback } from "./playback";

type Session = { title: string; posterUrl: string | null; started: boolean; paused: boolean };

/** Title, picture and buttons for the system's media controls, from the first play on. */
export function useMediaSession(
  video: HTMLVideoElement | null,
  playback: Playback,
  { title, posterUrl, started, paused }: Session,
): void {
  useEffect(() => {
    if (!started || !("mediaSession" in navigator)) return;
    const artwork = posterUrl ? [{ src: new URL(posterUrl, document.baseURI).href }] : [];
    navigator.mediaSession.metadata = new MediaMetadata({ title, artwork });
    return () => {
      navigator.mediaSession.metadata = null;
    };
  }, [title, posterUrl, started]);
  useEffect(() => {
    if (!video || !started || !("mediaSession" in navigator)) return;
    const handlers: [MediaSessionAction, MediaSessionActionHandler][] = [
      ["play", () => void video.play().catch(() => undefined)],
      ["pause", () => video.pause()],
      ["seekbackward", ({ seekOffset }) => playback.seek(playback.position() - (seekOffset ?? 10))],
      ["seekforward", ({ seekOffset }) => playback.seek(playback.position() + (seekOffset ?? 10))],
      ["seekto", ({ seekTime }) => playback.seek(seekTime ?? playback.position())],
    ];
    for (const [action, handler] of handlers) setHandler(action, handler);
    return () => {
      for (const [action] of handlers) setHandler(action, null);
    };
  }, [video, playback, started]);
  useEffect(() => {
    if (started && "mediaSession" in navigator)
      navigator.mediaSession.playbackState = paused ? "paused" : "playing";
  }, [started, paused]);
}

function setHandler(action: MediaSessionAction, handler: MediaSessionActionHandler | null): void {
  try {
    navigator.mediaSession.setActionHandler(action, handler);
  } catch {
    // A browser that does not know the action has no button for it either.
  }
}
