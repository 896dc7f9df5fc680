import type Hls from "hls.js";
import type { ErrorData, Level } from "hls.js";
import { type RefObject, useEffect, useRef, useState } from "react";
import type { Choice } from "./types";

const MOST_RETRIES = 6;
/** The tries begin anew when it has played so long since the last failure. */
const CALM_MS = 30_000;
const GONE = [401, 403, 404, 410];

export type Tracks = {
  qualities: Choice[];
  /** The quality that was chosen; -1: the player decides. */
  quality: number;
  /** What is played now, for "Auto (720p)". */
  playing: string;
  audios: Choice[];
  audio: number;
  captions: Choice[];
  /** -1: off. */
  caption: number;
};

const NONE: Tracks = {
  qualities: [],
  quality: -1,
  playing: "",
  audios: [],
  audio: -1,
  captions: [],
  caption: -1,
};

export type HlsHandle = {
  tracks: Tracks;
  failure: string | null;
  retry: () => void;
  setQuality: (id: number) => void;
  setAudio: (id: number) => void;
  setCaption: (id: number) => void;
};

type Options = {
  video: RefObject<HTMLVideoElement | null>;
  playbackUrl: string;
  revision: string;
  /** A fresh address, when the one in use is no longer good. */
  onExpired: (() => Promise<string | null>) | undefined;
};

/** By the short side, as people name qualities; portrait videos have it across. */
export function qualityLabel(level: Pick<Level, "width" | "height">): string {
  return `${Math.min(level.width || level.height, level.height)}p`;
}

const pathOf = (url: string) => new URL(url, window.location.href).pathname;

/** Plays an HLS stream: over Media Source Extensions where there are such, else as the browser can by itself. */
export function useHls({ video, playbackUrl, revision, onExpired }: Options): HlsHandle {
  const engine = useRef<Engine | null>(null);
  const [tracks, setTracks] = useState(NONE);
  const [failure, setFailure] = useState<string | null>(null);
  const expired = useRef(onExpired);
  const newest = useRef(playbackUrl);
  useEffect(() => {
    expired.current = onExpired;
    newest.current = playbackUrl;
  });
  const path = pathOf(playbackUrl);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another token in the same address is no other video
  useEffect(() => {
    const media = video.current;
    if (!media) return;
    const renew = async () => (await expired.current?.()) ?? newest.current;
    const started = new Engine(media, { onTracks: setTracks, onFailure: setFailure, renew });
    engine.current = started;
    void started.load(newest.current);
    return () => {
      started.destroy();
      engine.current = null;
      setTracks(NONE);
      setFailure(null);
    };
  }, [path, video]);
  const first = useRef(revision);
  useEffect(() => {
    if (revision === first.current) return;
    first.current = revision;
    engine.current?.refresh(newest.current);
  }, [revision]);
  return {
    tracks,
    failure,
    retry: () => void engine.current?.retry(),
    setQuality: (id) => engine.current?.setQuality(id),
    setAudio: (id) => engine.current?.setAudio(id),
    setCaption: (id) => engine.current?.setCaption(id),
  };
}

type Callbacks = {
  onTracks: (tracks: Tracks) => void;
  onFailure: (sentence: string | null) => void;
  renew: () => Promise<string>;
};

class Engine {
  private hls: Hls | null = null;
  private destroyed = false;
  private retries = 0;
  private renewals = 0;
  private failedAt = 0;
  private quiet: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly media: HTMLVideoElement,
    private readonly on: Callbacks,
  ) {}

  async load(url: string, position = -1): Promise<void> {
    const { default: HlsClass } = await import("hls.js").catch(() => ({ default: null }));
    if (this.destroyed) return;
    if (!HlsClass) {
      this.on.onFailure(
        "The player could not be loaded. Check the connection, or reload the page if Echo was updated.",
      );
      return;
    }
    if (!HlsClass.isSupported()) {
      this.loadNatively(url, position);
      return;
    }
    this.hls?.destroy();
    const hls = new HlsClass({ startPosition: position, backBufferLength: 60, maxBufferLength: 30 });
    this.hls = hls;
    hls.subtitleDisplay = false; // the cues are drawn by the player, above its controls
    const { Events } = HlsClass;
    const tell = () => this.on.onTracks(this.tracks(hls));
    for (const name of [
      Events.MANIFEST_PARSED,
      Events.LEVELS_UPDATED,
      Events.LEVEL_SWITCHED,
      Events.AUDIO_TRACKS_UPDATED,
      Events.AUDIO_TRACK_SWITCHED,
      Events.SUBTITLE_TRACKS_UPDATED,
      Events.SUBTITLE_TRACK_SWITCH,
    ] as const) {
      hls.on(name, tell);
    }
    hls.on(Events.ERROR, (_event, data) => data.fatal && this.failed(HlsClass, data));
    hls.loadSource(url);
    hls.attachMedia(this.media);
  }

  /** Load the stream again, where it stands, as soon as a gap in the picture does not matter. */
  refresh(url: string): void {
    this.quiet?.abort();
    const quiet = new AbortController();
    this.quiet = quiet;
    const load = () => {
      if (this.media.ended) return; // the last picture stays until somebody plays it again
      quiet.abort();
      void this.resuming(() => this.load(url, this.media.currentTime || -1));
    };
    for (const name of ["pause", "seeking"])
      this.media.addEventListener(name, load, { signal: quiet.signal });
    if (this.media.paused) load();
  }

  private loadNatively(url: string, position: number): void {
    if (!this.media.canPlayType("application/vnd.apple.mpegurl")) {
      this.on.onFailure("This browser cannot play HLS video. Try a newer one.");
      return;
    }
    this.media.onerror = () => this.on.onFailure("The video could not be played.");
    this.media.src = url;
    if (position > 0) this.media.currentTime = position;
    const list = this.media.textTracks;
    const tell = () => {
      const captions = [...list].map((track, id) => ({ id, label: track.label || track.language }));
      const caption = [...list].findIndex((track) => track.mode === "hidden");
      this.on.onTracks({ ...NONE, captions, caption });
    };
    list.onaddtrack = tell;
    list.onchange = tell;
  }

  private tracks(hls: Hls): Tracks {
    const current = hls.levels[hls.currentLevel];
    const seen = new Set<string>();
    const qualities = hls.levels
      .map((level, id) => ({ id, label: qualityLabel(level), height: level.height }))
      .toSorted((one, other) => other.height - one.height)
      // Two encodes of one size (the original beside the ladder's own) look the same in a menu.
      .filter(({ label }) => !seen.has(label) && seen.add(label));
    return {
      qualities,
      quality: hls.autoLevelEnabled ? -1 : hls.loadLevel,
      playing: current ? qualityLabel(current) : "",
      audios: hls.audioTracks.map((track, id) => ({
        id,
        label: track.name || track.lang || `Track ${id + 1}`,
      })),
      audio: hls.audioTrack,
      captions: hls.subtitleTracks.map((track, id) => ({
        id,
        label: track.name || track.lang || `Track ${id + 1}`,
      })),
      caption: hls.subtitleTrack,
    };
  }

  private failed(HlsClass: typeof Hls, data: ErrorData): void {
    if (Date.now() - this.failedAt > CALM_MS) this.retries = this.renewals = 0;
    this.failedAt = Date.now();
    const position = this.media.currentTime || -1;
    if (data.type === HlsClass.ErrorTypes.MEDIA_ERROR && this.retries < 2) {
      this.retries += 1;
      this.hls?.recoverMediaError();
      return;
    }
    if (data.type === HlsClass.ErrorTypes.NETWORK_ERROR) {
      const gone = GONE.includes(data.response?.code ?? 0);
      if (gone && this.renewals < 2) {
        this.renewals += 1;
        void this.renew(position);
        return;
      }
      if (!gone && this.retries < MOST_RETRIES) {
        this.later(() => this.load(this.hls?.url ?? "", position));
        return;
      }
    }
    this.hls?.stopLoad();
    this.on.onFailure(
      data.type === HlsClass.ErrorTypes.NETWORK_ERROR
        ? "The video could not be loaded. Check the connection."
        : "The video could not be played.",
    );
  }

  private later(then: () => Promise<void>): void {
    const wait = Math.min(8000, 500 * 2 ** this.retries);
    this.retries += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.resuming(then), wait);
  }

  /** Do something that begins the stream anew, and play on if it was playing. */
  private async resuming(then: () => Promise<void>): Promise<void> {
    if (this.destroyed) return;
    const playing = !this.media.paused;
    await then();
    if (playing) this.media.play().catch(() => undefined); // the person has paused meanwhile, or has to press play
  }

  private async renew(position: number): Promise<void> {
    try {
      const url = await this.on.renew();
      await this.resuming(() => this.load(url, position));
    } catch {
      this.on.onFailure("The video is no longer available at this address. Reload the page.");
    }
  }

  async retry(): Promise<void> {
    this.on.onFailure(null);
    this.retries = this.renewals = 0;
    await this.renew(this.media.currentTime || -1);
  }

  setQuality(id: number): void {
    if (this.hls) {
      this.hls.nextLevel = id;
      this.on.onTracks({ ...this.tracks(this.hls), quality: id });
    }
  }

  setAudio(id: number): void {
    if (this.hls) this.hls.audioTrack = id;
  }

  setCaption(id: number): void {
    if (this.hls) {
      this.hls.subtitleTrack = id;
      return;
    }
    for (const [index, track] of [...this.media.textTracks].entries())
      track.mode = index === id ? "hidden" : "disabled";
  }

  destroy(): void {
    this.destroyed = true;
    clearTimeout(this.timer);
    this.quiet?.abort();
    this.hls?.destroy();
    this.media.removeAttribute("src");
    this.media.onerror = null;
  }
}
