import type { CaptionCue } from "@/api/ai";

/** A cue while it is edited; `id` stays the same through every change but a split or a merge. */
export type Cue = CaptionCue & { id: number };

/** Cues shorter than this cannot be read, nor told apart on a timeline. */
export const MIN_SECONDS = 0.1;
/** What people read in a second; the limit of common subtitle guides for adults. */
export const FAST_CPS = 21;
const LONGEST_S = 2;

let nextId = 1;

/** Times of the server and of this page are both whole milliseconds, so that the same time is the same number. */
export function toMs(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}

function cue(startSeconds: number, endSeconds: number, text: string): Cue {
  return { id: nextId++, startSeconds: toMs(startSeconds), endSeconds: toMs(endSeconds), text };
}

export function editable(cues: readonly CaptionCue[]): Cue[] {
  return cues.map((one) => cue(one.startSeconds, one.endSeconds, one.text));
}

export function plain(cues: readonly Cue[]): CaptionCue[] {
  return cues.map(({ startSeconds, endSeconds, text }) => ({ startSeconds, endSeconds, text: text.trim() }));
}

/** The index of the cue that is on at `seconds`, or of the last that was; -1 before the first. */
export function cueIndexAt(cues: readonly CaptionCue[], seconds: number): number {
  let low = 0;
  let high = cues.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((cues[middle]?.startSeconds ?? 0) <= seconds) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export function setText(cues: readonly Cue[], at: number, text: string): Cue[] {
  return cues.map((one, index) => (index === at ? { ...one, text } : one));
}

/** Move one end of a cue; a start behind its end, or the reverse, moves that along by the shortest length. */
export function setTime(cues: readonly Cue[], at: number, end: "start" | "end", seconds: number): Cue[] {
  const time = toMs(Math.max(0, seconds));
  return cues.map((one, index) => {
    if (index !== at) return one;
    return end === "start"
      ? { ...one, startSeconds: time, endSeconds: toMs(Math.max(one.endSeconds, time + MIN_SECONDS)) }
      : {
          ...one,
          startSeconds: toMs(Math.max(0, Math.min(one.startSeconds, time - MIN_SECONDS))),
          endSeconds: toMs(Math.max(time, MIN_SECONDS)),
        };
  });
}

/** Two cues of one, at a place in its text; the time is shared in proportion to the letters. The same where a side is empty. */
export function split(cues: readonly Cue[], at: number, caret: number): readonly Cue[] {
  const one = cues[at];
  if (!one) return cues;
  const before = one.text.slice(0, caret).trim();
  const after = one.text.slice(caret).trim();
  const length = one.endSeconds - one.startSeconds;
  if (!before || !after || length < 2 * MIN_SECONDS) return cues;
  const share = before.length / (before.length + after.length);
  const middle = one.startSeconds + Math.max(MIN_SECONDS, Math.min(length - MIN_SECONDS, length * share));
  return cues.toSpliced(
    at,
    1,
    { ...one, endSeconds: toMs(middle), text: before },
    cue(middle, one.endSeconds, after),
  );
}

/** One cue of this and the next. */
export function mergeNext(cues: readonly Cue[], at: number): readonly Cue[] {
  const [one, next] = [cues[at], cues[at + 1]];
  if (!one || !next) return cues;
  const text = [one.text.trim(), next.text.trim()].filter(Boolean).join(" ");
  return cues.toSpliced(at, 2, { ...one, endSeconds: Math.max(one.endSeconds, next.endSeconds), text });
}

export function remove(cues: readonly Cue[], at: number): readonly Cue[] {
  return cues.toSpliced(at, 1);
}

/** A new, empty cue at a time, in its place in the order; as long as there is room for, two seconds at most. */
export function add(cues: readonly Cue[], seconds: number): { cues: Cue[]; at: number } {
  const on = cueIndexAt(cues, seconds);
  const before = cues[on];
  const start = before && before.endSeconds > seconds ? before.endSeconds : seconds;
  const next = cues[on + 1]?.startSeconds ?? Number.POSITIVE_INFINITY;
  const end = Math.max(start + MIN_SECONDS, Math.min(start + LONGEST_S, next));
  return { cues: cues.toSpliced(on + 1, 0, cue(start, end, "")), at: on + 1 };
}

/** Move one cue or all (`at` null); none begins before 0, and none changes its length. */
export function shift(cues: readonly Cue[], at: number | null, seconds: number): Cue[] {
  const moved = cues.filter((_, index) => at === null || index === at);
  const by = Math.max(seconds, -Math.min(...moved.map((one) => one.startSeconds)));
  return cues.map((one, index) =>
    at === null || index === at
      ? { ...one, startSeconds: toMs(one.startSeconds + by), endSeconds: toMs(one.endSeconds + by) }
      : one,
  );
}

/** In order of start; the same array where it is so already. */
export function sorted(cues: readonly Cue[]): readonly Cue[] {
  const ordered = cues.every((one, at) => at === 0 || (cues[at - 1]?.startSeconds ?? 0) <= one.startSeconds);
  return ordered ? cues : cues.toSorted((a, b) => a.startSeconds - b.startSeconds);
}

export type CueWarning = { grave: boolean; text: string };

/** Letters a second, without line breaks and spaces at the ends. */
export function charactersPerSecond({ startSeconds, endSeconds, text }: CaptionCue): number {
  const length = endSeconds - startSeconds;
  return length > 0 ? text.trim().replace(/\s+/g, " ").length / length : 0;
}

/** What is wrong with a cue; `grave`: the server would not take it. */
export function warningsOf(
  cues: readonly CaptionCue[],
  at: number,
  durationSeconds: number | null,
): CueWarning[] {
  const one = cues[at];
  if (!one) return [];
  const found: CueWarning[] = [];
  const cps = charactersPerSecond(one);
  const next = cues[at + 1];
  if (!one.text.trim()) found.push({ grave: true, text: "It has no text: write some, or delete it." });
  if (one.endSeconds <= one.startSeconds)
    found.push({ grave: true, text: "It ends before it begins: change a time." });
  if (durationSeconds !== null && one.endSeconds > durationSeconds + 0.5)
    found.push({ grave: true, text: "It ends after the video does." });
  if (next && next.startSeconds < one.startSeconds)
    found.push({ grave: false, text: "It begins after the next one; saving puts them in order." });
  else if (next && next.startSeconds === one.startSeconds)
    found.push({ grave: true, text: "It begins with the next one: merge them, or change a time." });
  else if (next && next.startSeconds < one.endSeconds)
    found.push({
      grave: false,
      text: `It overlaps the next by ${formatLength(one.endSeconds - next.startSeconds)}.`,
    });
  if (cps > FAST_CPS)
    found.push({ grave: false, text: `Fast to read: ${Math.round(cps)} letters a second.` });
  return found;
}

function formatLength(seconds: number): string {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

/** The cues as the server has kept them, each under its name here; their number is the same. */
export function asKept(sent: readonly Cue[], kept: readonly CaptionCue[]): Cue[] {
  if (sent.length !== kept.length) return editable(kept);
  return kept.map((one, at) => ({ id: sent[at]?.id ?? nextId++, ...one }));
}

export function isSame(one: readonly CaptionCue[], other: readonly CaptionCue[]): boolean {
  return (
    one.length === other.length &&
    one.every((cue, at) => {
      const there = other[at];
      return (
        there !== undefined &&
        cue.startSeconds === there.startSeconds &&
        cue.endSeconds === there.endSeconds &&
        cue.text === there.text
      );
    })
  );
}
