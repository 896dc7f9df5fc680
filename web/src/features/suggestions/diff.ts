export type DiffPart = { kind: "same" | "added" | "removed"; text: string };

/** Tables larger than this are not worth the wait: then the whole is shown as replaced. */
const MOST_CELLS = 4_000_000;

/** The difference of two lists, in order: what is in both, what only in the first (removed) or the second (added). */
export function diffLists<T>(
  before: readonly T[],
  after: readonly T[],
  key: (one: T) => string,
): { kind: DiffPart["kind"]; value: T }[] {
  const [a, b] = [before.map(key), after.map(key)];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  const [rows, columns] = [a.length - head - tail, b.length - head - tail];
  const parts: { kind: DiffPart["kind"]; value: T }[] = after
    .slice(0, head)
    .map((value) => ({ kind: "same", value }));
  const push = (kind: DiffPart["kind"], value: T | undefined) =>
    value !== undefined && parts.push({ kind, value });
  if (rows * columns > MOST_CELLS) {
    for (let i = 0; i < rows; i += 1) push("removed", before[head + i]);
    for (let j = 0; j < columns; j += 1) push("added", after[head + j]);
  } else {
    // The longest common subsequence, from the end so that it is read from the start.
    const width = columns + 1;
    const longest = new Uint16Array((rows + 1) * width);
    for (let i = rows - 1; i >= 0; i -= 1)
      for (let j = columns - 1; j >= 0; j -= 1)
        longest[i * width + j] =
          a[head + i] === b[head + j]
            ? (longest[(i + 1) * width + j + 1] ?? 0) + 1
            : Math.max(longest[(i + 1) * width + j] ?? 0, longest[i * width + j + 1] ?? 0);
    let [i, j] = [0, 0];
    while (i < rows || j < columns) {
      if (i < rows && j < columns && a[head + i] === b[head + j]) {
        push("same", after[head + j]);
        i += 1;
        j += 1;
      } else if (
        j >= columns ||
        (i < rows && (longest[(i + 1) * width + j] ?? 0) >= (longest[i * width + j + 1] ?? 0))
      ) {
        push("removed", before[head + i]);
        i += 1;
      } else {
        push("added", after[head + j]);
        j += 1;
      }
    }
  }
  for (const value of after.slice(after.length - tail)) if (tail > 0) push("same", value);
  return parts;
}

/** The difference of two texts, word by word; neighbours of the same kind are one part. */
export function diffWords(before: string, after: string): DiffPart[] {
  const words = (text: string) => text.match(/\s+|[^\s]+/g) ?? [];
  const parts: DiffPart[] = [];
  for (const { kind, value } of diffLists(words(before), words(after), (word) => word)) {
    const last = parts.at(-1);
    if (last?.kind === kind) last.text += value;
    else parts.push({ kind, text: value });
  }
  return parts;
}
