import { useEffect, useState, useSyncExternalStore } from "react";
import type { Playback } from "./playback";
import { readSettings, saveSettings } from "./settings";

export type MediaState = {
  paused: boolean;
  ended: boolean;
  /** Something was played: the poster is gone. */
  started: boolean;
  waiting: boolean;
  durationSeconds: number | null;
  volume: number;
  muted: boolean;
  rate: number;
  pictureInPicture: boolean;
};

const initial: MediaState = {
  paused: true,
  ended: false,
  started: false,
  waiting: false,
  durationSeconds: null,
  volume: 1,
  muted: false,
  rate: 1,
  pictureInPicture: false,
};
const changes = [
  ..."play pause playing ended waiting canplay seeking seeked loadeddata durationchange volumechange".split(
    " ",
  ),
  ..."ratechange timeupdate stalled enterpictureinpicture leavepictureinpicture".split(" "),
];

/** What the element does, without its time: that changes too often for everything to be drawn again. */
export function useMedia(video: HTMLVideoElement | null): MediaState {
  const [state, setState] = useState(initial);
  useEffect(() => {
    if (!video) return;
    const kept = readSettings();
    video.volume = kept.volume;
    video.muted = kept.muted;
    video.defaultPlaybackRate = kept.rate; // what a load resets the rate to
    video.playbackRate = kept.rate;
    const gone = new AbortController();
    const read = () => setState((before) => same(before, snapshot(video, before.started)));
    for (const name of changes) video.addEventListener(name, read, { signal: gone.signal });
    video.addEventListener(
      "volumechange",
      () => saveSettings({ volume: video.volume, muted: video.muted }),
      gone,
    );
    read();
    return () => gone.abort();
  }, [video]);
  return state;
}

function snapshot(video: HTMLVideoElement, started: boolean): MediaState {
  return {
    paused: video.paused,
    ended: video.ended,
    started: started || video.played.length > 0,
    waiting: !video.ended && (video.paused ? video.seeking && video.readyState < 2 : video.readyState < 3),
    durationSeconds: Number.isFinite(video.duration) ? video.duration : null,
    volume: video.volume,
    muted: video.muted,
    rate: video.playbackRate,
    pictureInPicture: document.pictureInPictureElement === video,
  };
}

function same(before: MediaState, now: MediaState): MediaState {
  const names = Object.keys(now) as (keyof MediaState)[];
  return names.every((name) => before[name] === now[name]) ? before : now;
}

/** The position in seconds, several times a second. */
export function usePosition(video: HTMLVideoElement | null, playback: Playback): number {
  return useSyncExternalStore(
    (changed) => {
      const gone = new AbortController();
      for (const name of ["timeupdate", "seeking", "seeked", "loadeddata"]) {
        video?.addEventListener(name, changed, gone);
      }
      const leave = playback.subscribe(changed);
      return () => {
        gone.abort();
        leave();
      };
    },
    () => playback.position(),
  );
}

export type Range = readonly [startSeconds: number, endSeconds: number];

export function useBuffered(video: HTMLVideoElement | null): readonly Range[] {
  const [ranges, setRanges] = useState<readonly Range[]>([]);
  useEffect(() => {
    if (!video) return;
    const gone = new AbortController();
    const read = () => {
      const { buffered } = video;
      setRanges(Array.from({ length: buffered.length }, (_, at) => [buffered.start(at), buffered.end(at)]));
    };
    for (const name of ["progress", "seeked", "loadeddata", "timeupdate"])
      video.addEventListener(name, read, gone);
    return () => gone.abort();
  }, [video]);
  return ranges;
}
