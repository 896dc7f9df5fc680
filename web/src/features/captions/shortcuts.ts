export type EditorAction =
  | "split"
  | "merge"
  | "add"
  | "remove"
  | "start"
  | "end"
  | "earlier"
  | "later"
  | "previous"
  | "next"
  | "play"
  | "from-here"
  | "undo"
  | "redo"
  | "save"
  | "shift"
  | "help";

export const shortcuts: readonly (readonly [keys: string, meaning: string])[] = [
  ["Ctrl Enter", "Split at the caret"],
  ["Alt J", "Merge with the next"],
  ["Alt N", "New cue where the player stands"],
  ["Alt X", "Delete the cue"],
  ["Alt I, Alt O", "Start, end: where the player stands"],
  ["Alt ←, Alt →", "Cue 100 ms earlier, later"],
  ["Alt U", "Shift one or all by milliseconds"],
  ["Alt ↑, Alt ↓", "Previous, next cue"],
  ["Alt P", "Play or pause"],
  ["Alt L", "Play from this cue on"],
  ["Ctrl Z, Ctrl Shift Z", "Undo, redo"],
  ["Ctrl S", "Save"],
  ["Alt K", "This list"],
];

const alt: Record<string, EditorAction> = {
  KeyJ: "merge",
  KeyN: "add",
  KeyX: "remove",
  KeyI: "start",
  KeyO: "end",
  ArrowLeft: "earlier",
  ArrowRight: "later",
  ArrowUp: "previous",
  ArrowDown: "next",
  KeyP: "play",
  KeyL: "from-here",
  KeyU: "shift",
  KeyK: "help",
};

type Press = {
  key: string;
  code: string;
  altKey: boolean;
  ctrlKey: boolean;
  metaKey: boolean;
  shiftKey: boolean;
};

/** What a key means to the editor; null: nothing. By the place of a key where Alt makes another letter of it. */
export function actionOf({ key, code, altKey, ctrlKey, metaKey, shiftKey }: Press): EditorAction | null {
  const control = ctrlKey || metaKey;
  if (altKey) return control || shiftKey ? null : (alt[code] ?? null);
  if (!control) return null;
  if (key === "Enter") return "split";
  const letter = key.toLowerCase();
  if (letter === "z") return shiftKey ? "redo" : "undo";
  if (letter === "y") return "redo";
  return letter === "s" ? "save" : null;
}
