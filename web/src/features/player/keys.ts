import type { Chapter } from "./types";

export type Command =
  | { do: "toggle" | "mute" | "fullscreen" | "captions" | "help" | "faster" | "slower" }
  | { do: "seekBy" | "volumeBy"; by: number }
  | { do: "seekTo"; fraction: number };

/** What the help lists, in the order of use. */
export const SHORTCUTS: readonly [keys: string, what: string][] = [
  ["Space, K", "Play or pause"],
  ["← →", "5 seconds back or forth"],
  ["J, L", "10 seconds back or forth"],
  ["0 to 9", "To that tenth of the video"],
  ["Home, End", "To the start or the end"],
  ["↑ ↓", "Louder or quieter"],
  ["M", "Mute"],
  ["C", "Captions"],
  ["< >", "Slower or faster"],
  ["F", "Full screen"],
  ["?", "This list"],
];

const COMMANDS: Record<string, Command> = {
  " ": { do: "toggle" },
  k: { do: "toggle" },
  j: { do: "seekBy", by: -10 },
  l: { do: "seekBy", by: 10 },
  arrowleft: { do: "seekBy", by: -5 },
  arrowright: { do: "seekBy", by: 5 },
  arrowup: { do: "volumeBy", by: 0.05 },
  arrowdown: { do: "volumeBy", by: -0.05 },
  home: { do: "seekTo", fraction: 0 },
  end: { do: "seekTo", fraction: 1 },
  m: { do: "mute" },
  f: { do: "fullscreen" },
  c: { do: "captions" },
  "<": { do: "slower" },
  ">": { do: "faster" },
  "?": { do: "help" },
};

type Pressed = { key: string; ctrlKey: boolean; metaKey: boolean; altKey: boolean };

/** What a key means to the player; null for keys that it leaves to the browser. */
export function commandFor({ key, ctrlKey, metaKey, altKey }: Pressed): Command | null {
  if (ctrlKey || metaKey || altKey) return null;
  if (/^\d$/.test(key)) return { do: "seekTo", fraction: Number(key) / 10 };
  return COMMANDS[key.toLowerCase()] ?? null;
}

export const RATES = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2] as const;

/** The next speed up or down; the ends stay. */
export function nextRate(rate: number, direction: 1 | -1): number {
  const sorted = direction === 1 ? RATES : RATES.toReversed();
  return sorted.find((one) => (direction === 1 ? one > rate + 0.01 : one < rate - 0.01)) ?? rate;
}

/** The chapter that a moment is in. */
export function chapterAt(chapters: readonly Chapter[], time: number): Chapter | undefined {
  return chapters.findLast((chapter) => chapter.startSeconds <= time + 0.01);
}
