import type { Video, Visibility } from "@/api/client";
import { readStored, writeStored } from "@/lib/stored";
import type { ChapterDraft } from "./chapters";
import { chapterDrafts } from "./chapters";

/** What the editor edits. */
export type Draft = {
  title: string;
  description: string;
  tags: string[];
  language: string;
  visibility: Visibility;
  poster: string;
  chapters: ChapterDraft[];
};

export function draftOf(video: Video): Draft {
  const { title, description, tags, language, visibility, poster } = video;
  return { title, description, tags, language, visibility, poster, chapters: chapterDrafts(video.chapters) };
}

/** The fields in which two drafts differ. */
export function changedFields(before: Draft, after: Draft): (keyof Draft)[] {
  return (Object.keys(before) as (keyof Draft)[]).filter(
    (field) => JSON.stringify(before[field]) !== JSON.stringify(after[field]),
  );
}

/**
 * What is being edited after one field was changed on the server at the person's own wish: that field is as it is there,
 * and so is what nobody has touched. Null where somebody else has changed what is being edited as well.
 */
export function rebased(before: Draft, edited: Draft, now: Draft, taken: keyof Draft): Draft | null {
  const mine = changedFields(before, edited).filter((field) => field !== taken);
  const theirs = changedFields(before, now);
  if (mine.some((field) => theirs.includes(field))) return null;
  return { ...now, ...(Object.fromEntries(mine.map((field) => [field, edited[field]])) as Partial<Draft>) };
}

const key = (userId: string, videoId: string) => `echo:draft:${userId}:${videoId}`;

/** What was typed and not saved when the page was left; only the fields that were changed. */
export function keptDraft(userId: string, videoId: string): Partial<Draft> | null {
  try {
    const kept: unknown = JSON.parse(readStored(key(userId, videoId)) ?? "null");
    return typeof kept === "object" ? (kept as Partial<Draft> | null) : null;
  } catch {
    return null;
  }
}

export function keepDraft(userId: string, videoId: string, changes: Partial<Draft> | null): void {
  writeStored(key(userId, videoId), changes && JSON.stringify(changes));
}
