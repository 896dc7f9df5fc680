import type { CaptionCue } from "@/api/ai";
import { readStored, writeStored } from "@/lib/stored";

/** What was edited and not saved, with the tag of what it was made from. */
export type KeptCues = { etag: string; cues: CaptionCue[] };

const key = (userId: string, videoId: string, name: string) => `echo:captions:${userId}:${videoId}:${name}`;

export function keptCues(userId: string, videoId: string, name: string): KeptCues | null {
  try {
    const kept: unknown = JSON.parse(readStored(key(userId, videoId, name)) ?? "null");
    if (typeof kept !== "object" || kept === null || !("cues" in kept) || !Array.isArray(kept.cues))
      return null;
    return kept.cues.every(isCue) && "etag" in kept && typeof kept.etag === "string"
      ? { etag: kept.etag, cues: kept.cues }
      : null;
  } catch {
    return null;
  }
}

export function keepCues(userId: string, videoId: string, name: string, kept: KeptCues | null): void {
  writeStored(key(userId, videoId, name), kept && JSON.stringify(kept));
}

function isCue(value: unknown): value is CaptionCue {
  if (typeof value !== "object" || value === null) return false;
  const { startSeconds, endSeconds, text } = value as Partial<Record<keyof CaptionCue, unknown>>;
  return typeof startSeconds === "number" && typeof endSeconds === "number" && typeof text === "string";
}
