export type PlayerAction =
  | { do: "toggle-play" | "mute" | "fullscreen" | "captions" | "help" }
  | { do: "skip"; seconds: number }
  | { do: "seek-to"; fraction: number }
  | { do: "volume"; by: number }
  | { do: "speed"; by: 1 | -1 };

export const speeds = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2] as const;

const keys = new Map<string, PlayerAction>(
  Object.entries({
    " ": { do: "toggle-play" },
    k: { do: "toggle-play" },
    j: { do: "skip", seconds: -10 },
    l: { do: "skip", seconds: 10 },
    ArrowLeft: { do: "skip", seconds: -5 },
    ArrowRight: { do: "skip", seconds: 5 },
    ArrowUp: { do: "volume", by: 0.05 },
    ArrowDown: { do: "volume", by: -0.05 },
    m: { do: "mute" },
    f: { do: "fullscreen" },
    c: { do: "captions" },
    "<": { do: "speed", by: -1 },
    ">": { do: "speed", by: 1 },
    Home: { do: "seek-to", fraction: 0 },
    End: { do: "seek-to", fraction: 1 },
    "?": { do: "help" },
  }),
);

export const shortcuts: readonly (readonly [keys: string, meaning: string])[] = [
  ["Space, K", "Play or pause"],
  ["J, L", "10 seconds back, forward"],
  ["←, →", "5 seconds back, forward"],
  ["↑, ↓", "Volume"],
  ["M", "Sound off or on"],
  ["C", "Captions off or on"],
  ["F", "Full screen"],
  ["<, >", "Slower, faster"],
  ["0 – 9", "To 0 % – 90 %"],
  ["Home, End", "To the start, the end"],
];

type Press = { key: string; altKey: boolean; ctrlKey: boolean; metaKey: boolean };

/** What a key means to the player; null: nothing. */
export function actionOf({ key, altKey, ctrlKey, metaKey }: Press): PlayerAction | null {
  if (altKey || ctrlKey || metaKey) return null;
  if (/^[0-9]$/.test(key)) return { do: "seek-to", fraction: Number(key) / 10 };
  return keys.get(key) ?? keys.get(key.toLowerCase()) ?? null;
}

/** Whether the key belongs to the element that has it: writing, a menu, or pressing a focused button. */
export function isTakenBy(target: EventTarget | null, key: string): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.closest("input, textarea, select, [role=menu]")) return true;
  return key === " " && target.closest("button, a[href], summary") !== null;
}

/** The next speed in the list; the same at its ends. */
export function nextSpeed(rate: number, by: 1 | -1): number {
  if (by > 0) return speeds.find((speed) => speed > rate + 0.01) ?? rate;
  return speeds.findLast((speed) => speed < rate - 0.01) ?? rate;
}
