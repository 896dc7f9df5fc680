import type { Cue } from "./cues";

/** The cues with what they were before and after; `kind` names the last change, so that typing becomes one step. */
export type History = {
  past: readonly (readonly Cue[])[];
  present: readonly Cue[];
  future: readonly (readonly Cue[])[];
  kind: string | null;
};

const MOST_STEPS = 200;

export function begun(cues: readonly Cue[]): History {
  return { past: [], present: cues, future: [], kind: null };
}

/** After a change. Changes of the same `kind` one after another are undone together; null: this one stands alone. */
export function changed(history: History, cues: readonly Cue[], kind: string | null = null): History {
  if (cues === history.present) return history;
  const together = kind !== null && kind === history.kind;
  const past = together ? history.past : [...history.past.slice(-MOST_STEPS + 1), history.present];
  return { past, present: cues, future: [], kind };
}

export function undone(history: History): History {
  const before = history.past.at(-1);
  if (!before) return history;
  return {
    past: history.past.slice(0, -1),
    present: before,
    future: [history.present, ...history.future],
    kind: null,
  };
}

export function redone(history: History): History {
  const [after, ...future] = history.future;
  if (!after) return history;
  return { past: [...history.past, history.present], present: after, future, kind: null };
}
