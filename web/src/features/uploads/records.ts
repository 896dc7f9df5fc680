import { readStored, writeStored } from "@/lib/stored";

/** What is needed to go on with an upload after a reload. The upload's address is a secret and is not kept: it is asked for anew. */
export type UploadRecord = { videoId: string; name: string; size: number; lastModified: number; at: number };

const KEEP_MS = 7 * 86_400_000;
const KEEP_MOST = 200;

const key = (userId: string) => `echo:uploads:${userId}`;

function read(userId: string): UploadRecord[] {
  try {
    const kept: unknown = JSON.parse(readStored(key(userId)) ?? "[]");
    return Array.isArray(kept)
      ? (kept as UploadRecord[]).filter((record) => record.at > Date.now() - KEEP_MS)
      : [];
  } catch {
    return [];
  }
}

export function keepRecord(userId: string, file: File, videoId: string): void {
  const others = read(userId).filter((record) => record.videoId !== videoId);
  const record = {
    videoId,
    name: file.name,
    size: file.size,
    lastModified: file.lastModified,
    at: Date.now(),
  };
  writeStored(key(userId), JSON.stringify([record, ...others].slice(0, KEEP_MOST)));
}

export function dropRecord(userId: string, videoId: string): void {
  writeStored(key(userId), JSON.stringify(read(userId).filter((record) => record.videoId !== videoId)));
}

/** The unfinished upload of this very file: same name, size and time of change. */
export function findRecord(userId: string, file: File): UploadRecord | undefined {
  return read(userId).find(
    (record) =>
      record.name === file.name && record.size === file.size && record.lastModified === file.lastModified,
  );
}
