import { useEffect, useState, useSyncExternalStore } from "react";
import { Playback } from "./playback";
import type { PlaybackState } from "./playback-state";
import type { PlayerProblem, PlayerSource } from "./types";

type Options = {
  source: PlayerSource;
  autoPlay: boolean;
  startAt: number | undefined;
  onExpired: (() => Promise<string | null>) | undefined;
  onProblem: ((problem: PlayerProblem | null) => void) | undefined;
};

/** Feed the video element with the source; the canvas covers reloads with the last picture. */
export function usePlayback(
  video: HTMLVideoElement | null,
  canvas: HTMLCanvasElement | null,
  { source, autoPlay, startAt, onExpired, onProblem }: Options,
): [Playback, PlaybackState] {
  const [playback] = useState(() => new Playback());
  const state = useSyncExternalStore(playback.subscribe, playback.state);
  const { playbackUrl, revision } = source;
  useEffect(() => {
    playback.onExpired = onExpired;
    playback.onProblem = onProblem;
  }, [playback, onExpired, onProblem]);
  useEffect(() => {
    if (video && canvas) return playback.attach(video, canvas);
  }, [playback, video, canvas]);
  useEffect(() => {
    if (video && canvas) playback.open(playbackUrl, revision, autoPlay, startAt);
  }, [playback, video, canvas, playbackUrl, revision, autoPlay, startAt]);
  return [playback, state];
}
