import { useMemo } from "react";
import type { CaptionTrack } from "./caption-text";
import { nextSpeed, type PlayerAction } from "./keyboard";
import type { Playback } from "./playback";
import { saveSettings } from "./settings";
import type { Captions } from "./use-captions";

export type PlayerActions = {
  togglePlay(): void;
  toggleMute(): void;
  setVolume(volume: number): void;
  setSpeed(rate: number): void;
  skip(seconds: number): void;
  chooseCaptions(track: CaptionTrack | null): void;
  /** Null where the browser has none. */
  toggleFullscreen: (() => void) | null;
  togglePictureInPicture: (() => void) | null;
  perform(action: PlayerAction): void;
};

type Parts = {
  video: HTMLVideoElement | null;
  playback: Playback;
  captions: Captions;
  toggleFullscreen: (() => void) | null;
  /** `spoken`: also for screen readers. */
  say(text: string, spoken?: boolean): void;
  toggleHelp(): void;
};

export function useActions(parts: Parts): PlayerActions {
  const { video, playback, captions, toggleFullscreen, say, toggleHelp } = parts;
  const { chosen, tracks, choose, toggle } = captions;
  return useMemo(() => {
    const togglePlay = () => {
      if (!video) return;
      if (video.ended) playback.seek(0);
      if (video.paused) void video.play().catch(() => undefined);
      else video.pause();
    };
    const setVolume = (volume: number) => {
      if (!video) return;
      video.volume = Math.round(volume * 100) / 100;
      video.muted = volume === 0;
    };
    const toggleMute = () => {
      if (!video) return;
      if (video.volume === 0) setVolume(0.5);
      else video.muted = !video.muted;
    };
    const setSpeed = (rate: number) => {
      if (!video) return;
      video.defaultPlaybackRate = rate; // what a reload resets the rate to
      video.playbackRate = rate;
      saveSettings({ rate });
      say(`Speed ${rate}×`, true);
    };
    const skip = (seconds: number) => playback.seek(playback.position() + seconds);
    const chooseCaptions = (track: CaptionTrack | null) => {
      choose(track);
      say(captionWords(track), true);
    };
    const pip =
      video && document.pictureInPictureEnabled && "requestPictureInPicture" in video ? video : null;
    const togglePictureInPicture = pip
      ? () => {
          const change: Promise<unknown> =
            document.pictureInPictureElement === pip
              ? document.exitPictureInPicture()
              : pip.requestPictureInPicture();
          change.catch(() => say("Picture in picture is not possible now", true));
        }
      : null;

    const perform = (action: PlayerAction) => {
      if (!video) return;
      switch (action.do) {
        case "toggle-play":
          return togglePlay();
        case "mute":
          toggleMute();
          return say(video.muted ? "Sound off" : "Sound on", true);
        case "volume":
          setVolume(Math.max(0, Math.min(1, (video.muted ? 0 : video.volume) + action.by)));
          return say(`Volume ${Math.round(video.volume * 100)} %`);
        case "skip":
          skip(action.seconds);
          return say(`${action.seconds > 0 ? "+" : "−"}${Math.abs(action.seconds)} s`);
        case "seek-to":
          return playback.seek((Number.isFinite(video.duration) ? video.duration : 0) * action.fraction);
        case "speed":
          return setSpeed(nextSpeed(video.playbackRate, action.by));
        case "captions":
          if (tracks.length === 0 && !chosen) return say("No captions", true);
          return say(captionWords(toggle()), true);
        case "fullscreen":
          return toggleFullscreen?.();
        case "help":
          return toggleHelp();
      }
    };
    return {
      togglePlay,
      toggleMute,
      setVolume,
      setSpeed,
      skip,
      chooseCaptions,
      toggleFullscreen,
      togglePictureInPicture,
      perform,
    };
  }, [video, playback, chosen, tracks, choose, toggle, toggleFullscreen, say, toggleHelp]);
}

function captionWords(track: CaptionTrack | null): string {
  return track ? `Captions: ${track.label}` : "Captions off";
}
