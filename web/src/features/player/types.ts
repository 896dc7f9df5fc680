export type PlayerCaption = {
  name: string;
  url: string;
  language: string;
  title: string;
  forced: boolean;
  /** As a machine made it, and nobody has read it over. */
  automatic?: boolean;
};
export type PlayerChapter = { startSeconds: number; title: string };

/** What a player needs to know of a video. Addresses are complete; null means: not made. */
export type PlayerSource = {
  playbackUrl: string;
  posterUrl: string | null;
  storyboardUrl: string | null;
  durationSeconds: number | null;
  title: string;
  width: number | null;
  height: number | null;
  captions: PlayerCaption[];
  /** In order of their start. */
  chapters: PlayerChapter[];
  /** Another value for the same video means that its playlist lists more now: the video's status, say. */
  revision?: string;
};

export type PlayerHandle = {
  seek(seconds: number): void;
  currentTime(): number;
  togglePlay(): void;
  /** A browser may refuse; then it stays paused. */
  play(): void;
};

export type PlayerProblem = { kind: "network" | "expired" | "media" | "unsupported"; message: string };
