import type { Quality } from "./quality";
import type { PlayerProblem } from "./types";

export type AudioTrack = { id: number; name: string; language: string };

export type PlaybackState = {
  qualities: readonly Quality[];
  /** The chosen quality's label; null: the player chooses. */
  chosen: string | null;
  /** The label of what plays now. */
  playing: string | null;
  audioTracks: readonly AudioTrack[];
  audioTrack: number;
  /** The captions in the playlist; null until it is read, and where the browser reads it. */
  captionTracks: readonly TextTrack[] | null;
  /** The last picture covers a reload. */
  frozen: boolean;
  problem: PlayerProblem | null;
};

export const nothing: PlaybackState = {
  qualities: [],
  chosen: null,
  playing: null,
  audioTracks: [],
  audioTrack: -1,
  captionTracks: null,
  frozen: false,
  problem: null,
};
export const messages: Record<PlayerProblem["kind"], string> = {
  network: "The video could not be loaded. Check the connection and try again.",
  expired: "The permission to watch this video has run out, or the video is gone.",
  media: "The video could not be decoded here.",
  unsupported: "This browser cannot play this video.",
};
