import { formatClock } from "@/lib/format";

type Chapter = { startSeconds: number; title: string };
/** A chapter while it is edited; `start` as typed. */
export type ChapterDraft = { start: string; title: string };

export function chapterDrafts(chapters: readonly Chapter[]): ChapterDraft[] {
  return chapters.map(({ startSeconds, title }) => ({ start: formatStart(startSeconds), title }));
}

/** A time that reads back as the same: whole seconds as on a clock, with tenths and so on where there are some. */
export function formatStart(seconds: number): string {
  const fraction = Math.round((seconds % 1) * 1000);
  if (fraction === 0 || fraction === 1000) return formatClock(Math.round(seconds));
  return `${formatClock(seconds)}.${String(fraction).padStart(3, "0").replace(/0+$/, "")}`;
}

/** Seconds from "75", "1:15" or "1:01:15.5"; null where it is no time. */
export function parseStart(text: string): number | null {
  const match = /^(?:(?:(\d{1,3}):)?([0-5]?\d):)?(\d{1,6}(?:\.\d{1,3})?)$/.exec(text.trim());
  if (!match) return null;
  const [, h, m, s] = match;
  const seconds = Number(s);
  if (m !== undefined && seconds >= 60) return null;
  return Number(h ?? 0) * 3600 + Number(m ?? 0) * 60 + seconds;
}

type Checked = { chapters: Chapter[]; errors: (string | undefined)[] };

/** The chapters for the server, in order of time, and what is wrong with each line. */
export function checkChapters(drafts: readonly ChapterDraft[], durationSeconds: number | null): Checked {
  const parsed = drafts.map(({ start, title }) => ({ startSeconds: parseStart(start), title: title.trim() }));
  const errors = parsed.map(({ startSeconds, title }, index) => {
    if (startSeconds === null) return "Write the time as 1:15 or 1:01:15.";
    if (!title) return "Give it a title.";
    if (durationSeconds !== null && startSeconds >= durationSeconds) {
      return `The video ends at ${formatClock(durationSeconds)}.`;
    }
    return parsed.findIndex((other) => other.startSeconds === startSeconds) < index
      ? "Two chapters cannot start at the same time."
      : undefined;
  });
  const chapters = parsed
    .filter((chapter): chapter is Chapter => chapter.startSeconds !== null)
    .sort((one, other) => one.startSeconds - other.startSeconds);
  return { chapters, errors };
}
