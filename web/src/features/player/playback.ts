import type Hls from "hls.js";
import type { ErrorData } from "hls.js";
import { withoutToken } from "./address";
import { drawPicture, isBuffered } from "./picture";
import { messages, nothing, type PlaybackState } from "./playback-state";
import { qualitiesOf, qualityLabel } from "./quality";
import { feedTextTracks } from "./text-tracks";
import type { PlayerProblem } from "./types";

const expiredStatuses = [401, 403, 404, 410];
const maxRenewals = 2;
const maxNetworkTries = 5;
const maxRecoveries = 3;
const maxResets = 8;
/** After this long without trouble the decoder counts as well. */
const calmMs = 30_000;
const hlsType = "application/vnd.apple.mpegurl";

/**
 * One video element and what feeds it: hls.js where the browser has media sources, else the browser's own HLS.
 *
 * A reload (expired addresses, a longer ladder, a broken decoder) never loses the position.
 */
export class Playback {
  onExpired: (() => Promise<string | null>) | undefined;
  onProblem: ((problem: PlayerProblem | null) => void) | undefined;
  #state = nothing;
  readonly #listeners = new Set<() => void>();
  #video: HTMLVideoElement | null = null;
  #canvas: HTMLCanvasElement | null = null;
  #hls: Hls | null = null;
  #url = "";
  #revision: string | undefined;
  /** Where the page wants it to begin. */
  #startAt: number | undefined;
  /** The ladder has grown since it was loaded. */
  #stale = false;
  /** Where a load in progress shall begin; null: the element's own time counts. */
  #pending: number | null = null;
  #placed = false;
  /** Of overlapping loads the last one counts. */
  #turn = 0;
  #renewing = false;
  #renewals = 0;
  #captionRenewals = 0;
  #networkTries = 0;
  #recoveries = 0;
  #recoveredAt = 0;
  #wasPlaying = false;
  /** Somebody wants it to play; an error pauses the element as well. */
  #wanted = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #audioName: string | null = null;
  /** What was loaded before was the same video, so that its cues still hold. */
  #sameVideo = false;
  #leaveTracks: (() => void) | undefined;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
  readonly state = (): PlaybackState => this.#state;

  attach(video: HTMLVideoElement, canvas: HTMLCanvasElement): () => void {
    this.#video = video;
    this.#canvas = canvas;
    const gone = new AbortController();
    const { signal } = gone;
    for (const name of ["loadeddata", "seeked", "playing"])
      video.addEventListener(name, this.#settle, { signal });
    video.addEventListener("play", this.#intend, { signal });
    video.addEventListener("pause", this.#intend, { signal });
    video.addEventListener("pause", this.#reloadIfStale, { signal });
    video.addEventListener("seeking", this.#reloadIfStale, { signal });
    video.addEventListener("error", this.#nativeError, { signal });
    video.addEventListener("loadedmetadata", this.#place, { signal });
    window.addEventListener("online", this.#online, { signal });
    return () => {
      gone.abort();
      this.#turn += 1;
      this.#release();
      video.removeAttribute("src");
      video.load();
      this.#video = null;
      this.#url = "";
    };
  }

  /** Play this address, from `startAt` on; the same video under another token goes on as it is. */
  open(url: string, revision: string | undefined, play: boolean, startAt: number | undefined): void {
    const same = this.#url !== "" && withoutToken(url) === withoutToken(this.#url);
    const grown = same && revision !== this.#revision;
    const renewed = same && url !== this.#url;
    const elsewhere = startAt !== undefined && startAt !== this.#startAt;
    this.#startAt = startAt;
    this.#url = url;
    this.#revision = revision;
    if (!same) {
      this.#publish(nothing);
      this.#audioName = null;
      this.#sameVideo = false;
      this.#forgive();
      void this.#load(startAt ?? 0, play);
    } else if (this.#state.problem && renewed) {
      this.retry();
    } else if (grown) {
      this.#stale = true;
      this.#sameVideo = false; // captions may have been edited: what was read of them holds no more
      if (this.#video?.paused) this.#reloadIfStale();
    }
    if (same && elsewhere) {
      this.seek(startAt);
      if (play) void this.#video?.play().catch(ignored);
    }
  }

  /** Seconds, also while a reload is on its way there. */
  position(): number {
    return this.#pending ?? this.#video?.currentTime ?? 0;
  }

  seek(seconds: number): void {
    const video = this.#video;
    if (!video) return;
    const end = Number.isFinite(video.duration) ? video.duration : Number.POSITIVE_INFINITY;
    const target = Math.max(0, Math.min(seconds, end));
    // Before there is anything to show, it is kept until there is: what is set now the source's first load undoes.
    if (this.#pending !== null || video.readyState === 0) {
      this.#pending = target;
      this.#placed = false;
      this.#publish({});
      if (video.readyState === 0) return;
    }
    video.currentTime = target;
  }

  choose(label: string | null): void {
    this.#publish({ chosen: label });
    if (this.#hls) this.#hls.nextLevel = this.#levelOf(label);
  }

  chooseAudio(id: number): void {
    this.#audioName = this.#state.audioTracks.find((track) => track.id === id)?.name ?? null;
    this.#publish({ audioTrack: id });
    if (this.#hls) this.#hls.audioTrack = id;
  }

  retry(): void {
    this.#forgive();
    this.#solved();
    this.#reload(this.#wasPlaying);
    this.#wasPlaying = false;
  }

  #levelOf(label: string | null): number {
    return this.#state.qualities.find((quality) => quality.label === label)?.level ?? -1;
  }

  #publish(changes: Partial<PlaybackState>): void {
    this.#state = { ...this.#state, ...changes };
    for (const listener of this.#listeners) listener();
  }

  #forgive(): void {
    this.#renewals = 0;
    this.#captionRenewals = 0;
    this.#networkTries = 0;
    this.#recoveries = 0;
  }

  #solved(): void {
    if (!this.#state.problem) return;
    this.#publish({ problem: null });
    this.onProblem?.(null);
  }

  #fail(kind: PlayerProblem["kind"]): void {
    const problem = { kind, message: messages[kind] };
    this.#wasPlaying = this.#video?.paused === false;
    if (kind === "media" && this.#video && this.#hls) {
      // hls.js would set up the decoder again and again.
      this.#pending = this.position();
      this.#release();
    }
    this.#hls?.stopLoad();
    this.#video?.pause();
    this.#publish({ problem });
    this.onProblem?.(problem);
  }

  #release(): void {
    clearTimeout(this.#timer);
    this.#leaveTracks?.();
    this.#leaveTracks = undefined;
    this.#hls?.destroy();
    this.#hls = null;
  }

  async #load(at: number, play: boolean): Promise<void> {
    this.#turn += 1;
    const turn = this.#turn;
    this.#stale = false;
    this.#pending = at > 0 ? at : null;
    this.#placed = false;
    if ("MediaSource" in window || "ManagedMediaSource" in window) {
      try {
        const { default: Engine } = await import("hls.js");
        if (turn !== this.#turn) return;
        if (Engine.isSupported()) return this.#loadWith(Engine, at, play);
      } catch {
        if (turn === this.#turn) this.#fail("network");
        return;
      }
    }
    const video = this.#video;
    if (!video?.canPlayType(hlsType)) return this.#fail("unsupported");
    this.#release();
    video.src = this.#url;
    if (play) void video.play().catch(ignored);
  }

  #loadWith(Engine: typeof Hls, at: number, play: boolean): void {
    const video = this.#video;
    if (!video) return;
    this.#release();
    const hls = new Engine({
      startPosition: at > 0 ? at : -1,
      capLevelToPlayerSize: true,
      maxBufferLength: 30,
      maxMaxBufferLength: 60, // what is loaded further ahead is mostly thrown away
      backBufferLength: 60,
      renderTextTracksNatively: false,
    });
    this.#hls = hls;
    const { Events } = Engine;
    this.#leaveTracks = feedTextTracks(Engine, hls, video, this.#sameVideo, (captionTracks) => {
      this.#sameVideo = true;
      this.#publish({ captionTracks });
    });
    hls.on(Events.MANIFEST_PARSED, (_, { levels }) => {
      this.#publish({ qualities: qualitiesOf(levels) });
      const level = this.#levelOf(this.#state.chosen);
      if (level >= 0) hls.loadLevel = level;
      else this.#publish({ chosen: null });
    });
    hls.on(Events.LEVEL_SWITCHED, (_, { level }) => {
      const shape = hls.levels[level];
      this.#publish({ playing: shape ? qualityLabel(shape) : null });
    });
    hls.on(Events.AUDIO_TRACKS_UPDATED, (_, { audioTracks }) => {
      this.#publish({
        audioTracks: audioTracks.map(({ id, name, lang }) => ({ id, name, language: lang ?? "" })),
        audioTrack: hls.audioTrack,
      });
      const wanted = audioTracks.find(({ name }) => name === this.#audioName);
      if (wanted && wanted.id !== hls.audioTrack) hls.audioTrack = wanted.id;
    });
    hls.on(Events.AUDIO_TRACK_SWITCHING, (_, { id }) => this.#publish({ audioTrack: id }));
    hls.on(Events.FRAG_BUFFERED, () => {
      this.#networkTries = 0;
      this.#renewals = 0;
      this.#solved();
    });
    hls.on(Events.ERROR, (_, error) => this.#failed(Engine, hls, error));
    hls.attachMedia(video);
    hls.loadSource(this.#url);
    if (play) void video.play().catch(ignored);
  }

  #failed(Engine: typeof Hls, hls: Hls, error: ErrorData): void {
    const { ErrorTypes, ErrorDetails } = Engine;
    if (hls !== this.#hls || this.#state.problem) return;
    const status = error.response?.code ?? 0;
    if (error.type === ErrorTypes.NETWORK_ERROR && expiredStatuses.includes(status)) {
      // Captions alone that are missing shall not stop the film: one renewal, then the film without them.
      if (!isCaption(error) || this.#captionRenewals++ === 0) void this.#renew();
      return;
    }
    if (!error.fatal) {
      // Of these hls.js recovers by itself, for ever.
      if (error.details === ErrorDetails.MEDIA_SOURCE_REQUIRES_RESET && this.#countRecovery() > maxResets) {
        this.#fail("media");
      }
      return;
    }
    if (error.type === ErrorTypes.NETWORK_ERROR) {
      // A storage whose refusals lack CORS headers shows them as status 0, so a new signed address is worth a try.
      const refused = error.details === ErrorDetails.FRAG_LOAD_ERROR && status === 0 && navigator.onLine;
      if (refused && this.#renewals < maxRenewals) void this.#renew();
      else this.#retryLater(hls);
    } else if (error.type === ErrorTypes.MEDIA_ERROR) {
      if (error.details === ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) this.#fail("unsupported");
      else this.#recover(hls);
    } else {
      this.#fail("media");
    }
  }

  #retryLater(hls: Hls): void {
    if (this.#networkTries >= maxNetworkTries) {
      this.#fail("network");
      return;
    }
    const delayMs = Math.min(500 * 2 ** this.#networkTries, 8000);
    this.#networkTries += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (hls !== this.#hls) return;
      if (hls.levels.length) hls.startLoad();
      else hls.loadSource(this.#url);
    }, delayMs);
  }

  #recover(hls: Hls): void {
    if (this.#countRecovery() > maxRecoveries) {
      this.#fail("media");
      return;
    }
    const play = this.#video?.paused === false;
    if (this.#recoveries === 2) hls.swapAudioCodec();
    hls.recoverMediaError();
    if (play) void this.#video?.play().catch(ignored);
  }

  /** How many there were in quick succession. */
  #countRecovery(): number {
    if (Date.now() - this.#recoveredAt > calmMs) this.#recoveries = 0;
    this.#recoveredAt = Date.now();
    this.#recoveries += 1;
    return this.#recoveries;
  }

  async #renew(play = false): Promise<void> {
    if (this.#renewing) return;
    if (this.#renewals >= maxRenewals) return this.#fail("expired");
    this.#renewals += 1;
    this.#renewing = true;
    this.#hls?.stopLoad();
    const turn = this.#turn;
    try {
      const url = await this.onExpired?.();
      if (turn === this.#turn && url) this.#url = url;
    } catch {
      // Loading the address once more says what is wrong.
    } finally {
      this.#renewing = false;
    }
    // Also without a new address: the playlists then name newly signed ones.
    if (turn === this.#turn) this.#reload(play);
  }

  #reload(play = false): void {
    const video = this.#video;
    if (!video) return;
    if (drawPicture(video, this.#canvas)) this.#publish({ frozen: true });
    void this.#load(this.position(), play || (!video.paused && !video.ended));
  }

  /** A longer ladder is fetched where nobody sees it: while paused, or on a jump to what is not loaded yet. */
  readonly #reloadIfStale = (): void => {
    const video = this.#video;
    if (!this.#stale || !video || video.ended || this.#pending !== null) return;
    if (video.paused || !isBuffered(video, video.currentTime)) this.#reload();
  };

  readonly #place = (): void => {
    const video = this.#video;
    if (this.#hls || !video) return;
    if (this.#pending !== null) video.currentTime = this.#pending;
    // Some browsers play HLS but leave out its captions.
    if (video.textTracks.length === 0) this.#publish({ captionTracks: [] });
  };

  readonly #settle = (): void => {
    const video = this.#video;
    if (!video || video.readyState < 2) return;
    if (!this.#hls) this.#solved();
    if (this.#pending !== null && !this.#placed && Math.abs(video.currentTime - this.#pending) > 1) {
      this.#placed = true; // once: an end that came nearer must not make a circle
      video.currentTime = this.#pending;
      return;
    }
    this.#pending = null;
    if (this.#state.frozen) this.#publish({ frozen: false });
  };

  readonly #nativeError = (): void => {
    if (this.#hls || !this.#video?.error || this.#state.problem) return; // hls.js reports its own
    if (this.#renewals >= maxRenewals)
      this.#fail(this.#video.error.code === MediaError.MEDIA_ERR_NETWORK ? "network" : "media");
    else void this.#renew(this.#wanted);
  };

  readonly #intend = (): void => {
    if (this.#video && !this.#video.error) this.#wanted = !this.#video.paused;
  };

  readonly #online = (): void => {
    if (this.#state.problem?.kind === "network") this.retry();
  };
}

/** A refused play(), by the autoplay policy or by a load that came between, leaves the video paused: that is shown. */
function ignored(): void {}

function isCaption(error: ErrorData): boolean {
  return error.details.startsWith("subtitle") || error.frag?.type === "subtitle";
}
