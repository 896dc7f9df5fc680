import { type RefObject, useEffect, useState } from "react";
import { readStored, writeStored } from "@/lib/stored";

/** What a media element tells of itself. Times in seconds. */
export type MediaState = {
  paused: boolean;
  ended: boolean;
  started: boolean;
  waiting: boolean;
  time: number;
  duration: number;
  bufferedEnd: number;
  volume: number;
  muted: boolean;
  rate: number;
};

const EVENTS = [
  "play",
  "playing",
  "pause",
  "ended",
  "timeupdate",
  "seeking",
  "seeked",
  "durationchange",
  "progress",
  "volumechange",
  "ratechange",
  "waiting",
  "canplay",
  "loadeddata",
  "emptied",
] as const;

const KEY = "echo:player";
type Kept = { volume: number; muted: boolean; rate: number };

function kept(): Kept {
  try {
    const { volume, muted, rate } = JSON.parse(readStored(KEY) ?? "{}") as Partial<Kept>;
    return { volume: volume ?? 1, muted: muted ?? false, rate: rate ?? 1 };
  } catch {
    return { volume: 1, muted: false, rate: 1 };
  }
}

function bufferedEnd(media: HTMLMediaElement): number {
  for (let index = 0; index < media.buffered.length; index += 1) {
    if (
      media.buffered.start(index) <= media.currentTime + 0.1 &&
      media.currentTime <= media.buffered.end(index)
    ) {
      return media.buffered.end(index);
    }
  }
  return media.currentTime;
}

/** Follow a media element; volume and speed are as this browser had them last. */
export function useMedia(ref: RefObject<HTMLVideoElement | null>, knownDuration: number | null): MediaState {
  const [state, setState] = useState<MediaState>(() => ({
    paused: true,
    ended: false,
    started: false,
    waiting: false,
    time: 0,
    duration: knownDuration ?? 0,
    bufferedEnd: 0,
    ...kept(),
  }));
  useEffect(() => {
    const media = ref.current;
    if (!media) return;
    const { volume, muted, rate } = kept();
    Object.assign(media, { volume, muted, defaultPlaybackRate: rate, playbackRate: rate });
    const read = (event: Event) => {
      setState((before) => ({
        paused: media.paused,
        ended: media.ended,
        started: before.started || event.type === "playing" || media.currentTime > 0,
        waiting: !media.paused && media.readyState < HTMLMediaElement.HAVE_FUTURE_DATA && !media.ended,
        time: media.currentTime,
        duration:
          Number.isFinite(media.duration) && media.duration > 0 ? media.duration : (knownDuration ?? 0),
        bufferedEnd: bufferedEnd(media),
        volume: media.volume,
        muted: media.muted,
        rate: media.playbackRate,
      }));
      if (event.type === "volumechange" || event.type === "ratechange") {
        writeStored(
          KEY,
          JSON.stringify({ volume: media.volume, muted: media.muted, rate: media.playbackRate }),
        );
      }
    };
    for (const name of EVENTS) media.addEventListener(name, read);
    return () => {
      for (const name of EVENTS) media.removeEventListener(name, read);
    };
  }, [ref, knownDuration]);
  return state;
}
