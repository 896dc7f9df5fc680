import type { PlayerChapter } from "./types";

/** The index of the chapter that is on at `seconds`; -1 before the first. `chapters` are in order of start. */
export function chapterIndexAt(chapters: readonly PlayerChapter[], seconds: number): number {
  let low = 0;
  let high = chapters.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((chapters[middle]?.startSeconds ?? 0) <= seconds) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The title of the chapter that is on at `seconds`; empty where there is none. */
export function chapterTitleAt(chapters: readonly PlayerChapter[], seconds: number): string {
  return chapters[chapterIndexAt(chapters, seconds)]?.title ?? "";
}
