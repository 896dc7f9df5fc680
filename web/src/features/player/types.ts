/** What is played, as the API tells it. */
export type PlayerSource = {
  playbackUrl: string;
  posterUrl: string | null;
  storyboardUrl: string | null;
  durationSeconds: number | null;
  title: string;
  width: number | null;
  height: number | null;
  captions: readonly { name: string; url: string; language: string; title: string; forced: boolean }[];
  chapters: readonly Chapter[];
  /** Changes when the stream has got more qualities; they come in at a moment when nobody notices. */
  revision: string;
};

export type Chapter = { startSeconds: number; title: string };

/** What the page around may ask of the player. */
export type PlayerControl = {
  seek: (seconds: number) => void;
  currentTime: () => number;
};

/** One entry of a menu of the player: a quality, a language. */
export type Choice = { id: number; label: string };
