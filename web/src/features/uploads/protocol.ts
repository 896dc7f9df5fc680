import { Problem } from "@/api/problem";
import type { Answer, Transport } from "./transport";

const KIB = 1024;
/** Google's resumable protocol takes chunks in multiples of this, but for the last one. */
export const CHUNK_ALIGNMENT_BYTES = 256 * KIB;
const DEFAULT_CHUNK_BYTES = 8 * KIB * KIB;
const STALL_MS = 30_000;
const LONGEST_WAIT_MS = 30_000;
/** So many failures in a row without a byte stored, on a network that is there, and a person has to look. */
const MOST_FAILURES = 12;
const MOST_RENEWALS = 5;
const FAILURES_UNTIL_LOOKING = 3;

/** Where the bytes go. `offsetBytes`: stored already; null when it has to be asked. */
export type Session = {
  url: string;
  /** All in one PUT, with these headers and no others; whatever comes of it, `renew` leads on. */
  inOnePut?: boolean;
  headers: Record<string, string>;
  chunkSizeBytes: number | null;
  offsetBytes: number | null;
};

export type SendFileOptions = {
  file: Blob;
  session: Session;
  transport: Transport;
  /** A new session for the same upload, when this one is gone or its address has expired; null: all bytes are stored. */
  renew: () => Promise<Session | null>;
  /** Bytes that have left; those of the chunk on its way included, so it may fall back. */
  onProgress: (sentBytes: number) => void;
  /** Whether it waits for the network now, and why. */
  onWaiting: (waiting: "offline" | "retrying" | null) => void;
  signal: AbortSignal;
  /** Resolves after so long, or earlier when the network has come back; rejects when aborted. */
  wait: (ms: number, signal: AbortSignal) => Promise<void>;
  isOnline: () => boolean;
  /** Whether anything at all answers there, be it nothing that this page may read. */
  isReachable: (url: string) => Promise<boolean>;
  random?: () => number;
};

/** The first byte that is not stored, from `Range: bytes=0-8388607`; without one nothing is. */
export function nextOffset(range: string | null): number {
  if (range === null) return 0;
  const match = /^bytes=0-(\d+)$/.exec(range.trim());
  if (!match)
    throw new Problem({ code: "bad_range", message: `The storage answered with the range "${range}".` });
  return Number(match[1]) + 1;
}

function storageProblem(answer: Answer): Problem {
  let told: { detail?: string; remedy?: string; code?: string } = {};
  try {
    told = JSON.parse(answer.body) as typeof told;
  } catch {
    told = {};
  }
  const remedies: Record<number, string> = {
    413: "A proxy in front of the storage refuses even chunks of 256 KiB: raise the size that it permits.",
    507: "The storage is full. Make room on it, then continue.",
  };
  return new Problem({
    code: told.code ?? `storage_${answer.status}`,
    message: told.detail ?? `The storage refused the bytes with status ${answer.status}.`,
    remedy: told.remedy ?? remedies[answer.status] ?? "Try again; if it stays so, look at the storage's log.",
    status: answer.status,
  });
}

function unreachable(url: string): Problem {
  const host = new URL(url).host;
  return new Problem({
    code: "storage_unreachable",
    message: `The storage at ${host} did not answer, or this page may not read its answers.`,
    remedy:
      `Check that ${host} can be reached from this computer, and that its CORS rules allow this page's origin ` +
      `(${globalThis.location?.origin ?? "this page"}), the method PUT, the header Content-Range, and expose the header Range.`,
  });
}

function tellsNothing(url: string): Problem {
  return new Problem({
    code: "storage_tells_nothing",
    message: "The storage takes the bytes and does not say that it keeps any.",
    remedy: `Let its CORS rules expose the header Range (${new URL(url).host}); otherwise look at the storage's log.`,
  });
}

/**
 * Send a file over Google's resumable protocol from wherever it stands, until the storage has all of it.
 *
 * After every failure the storage is asked what it has (an empty PUT whose Content-Range has a star for the bytes), so an
 * answer that was lost costs nothing and a chunk that was stored in part is continued where it ends. Throws `Problem` when a person has to do
 * something, and the signal's reason when aborted.
 */
export async function sendFile(options: SendFileOptions): Promise<void> {
  const {
    file,
    transport,
    renew,
    onProgress,
    onWaiting,
    signal,
    wait,
    isOnline,
    isReachable,
    random = Math.random,
  } = options;
  const total = file.size;
  let session = options.session;
  let offset = session.offsetBytes;
  let stored = offset ?? -1; // the most that this session has told us of
  let furthest = stored; // the most that any session has
  let failures = 0;
  let renewals = 0;
  let hasAnswered = false;
  let largestChunk = Number.POSITIVE_INFINITY; // halved when something on the way refuses the size

  const pause = async (answer: Answer) => {
    failures += 1;
    // Something is there, and this page gets nothing of it: no waiting will change the storage's CORS rules.
    if (answer.status === 0 && !hasAnswered && failures === FAILURES_UNTIL_LOOKING && isOnline()) {
      if (await isReachable(session.url)) throw unreachable(session.url);
    }
    if (failures > MOST_FAILURES)
      throw answer.status === 0 ? unreachable(session.url) : storageProblem(answer);
    const grown = Math.min(LONGEST_WAIT_MS, 500 * 2 ** (failures - 1)) * (0.5 + random());
    onWaiting(isOnline() ? "retrying" : "offline");
    await wait(Math.max(grown, (answer.retryAfterS ?? 0) * 1000), signal);
    while (!isOnline()) {
      failures = 0; // being offline is nobody's fault, and may last
      await wait(LONGEST_WAIT_MS, signal);
    }
    onWaiting(null);
  };

  if (session.inOnePut) {
    const answer = await transport(session.url, {
      method: "PUT",
      headers: session.headers,
      body: file,
      signal,
      onProgress,
      stallMs: STALL_MS,
    });
    // 412: there is a file already, after an answer that was lost; completing tells whether it is this one.
    if (answer.status !== 200 && answer.status !== 201 && answer.status !== 412) {
      if (answer.status === 0) await pause(answer);
      const renewed = await renew();
      if (renewed !== null) {
        await sendFile({ ...options, session: renewed });
        return;
      }
    }
    onProgress(total);
    return;
  }

  for (;;) {
    signal.throwIfAborted();
    const asking = offset === null || offset >= total;
    const start = offset ?? 0;
    const end = asking ? start : Math.min(total, start + Math.min(largestChunk, chunkSize(session)));
    const range = asking ? `bytes */${total}` : `bytes ${start}-${end - 1}/${total}`;
    const answer = await transport(session.url, {
      method: "PUT",
      headers: { ...session.headers, "Content-Range": range },
      body: asking ? null : file.slice(start, end),
      signal,
      onProgress: (sent) => !asking && onProgress(Math.min(end, start + sent)),
      stallMs: STALL_MS,
    });

    hasAnswered ||= answer.status !== 0;
    if (answer.status === 200 || answer.status === 201) {
      onProgress(total);
      return;
    }
    if (answer.status === 308) {
      offset = nextOffset(answer.range);
      if (offset > total) throw storageHasMore(offset, total);
      onProgress(offset);
      if (offset > stored) {
        stored = offset;
        failures = 0;
        if (offset > furthest) {
          furthest = offset;
          renewals = 0; // a storage that forgets again and again is not followed for ever
        }
      } else if (!asking || offset >= total) {
        if (!asking && stored <= 0 && failures >= FAILURES_UNTIL_LOOKING) throw tellsNothing(session.url);
        await pause(answer); // it took nothing: not at once again
      }
      continue;
    }
    // 412: the file is there already, by another way than this session; the server tells whether it is whole.
    if ([401, 403, 404, 410, 412].includes(answer.status)) {
      renewals += 1;
      if (renewals > MOST_RENEWALS) throw storageProblem(answer);
      const renewed = await renew();
      if (renewed === null) {
        onProgress(total);
        return;
      }
      session = renewed;
      offset = renewed.offsetBytes;
      stored = offset ?? -1; // less than before, if the storage has forgotten the bytes
      onProgress(offset ?? 0);
      continue;
    }
    if (answer.status === 0 || answer.status === 408 || answer.status === 429 || isPassing(answer.status)) {
      await pause(answer);
      offset = null;
      continue;
    }
    if (answer.status === 416 || answer.status === 409) {
      await pause(answer); // it has other bytes than we thought: ask
      offset = null;
      continue;
    }
    if (answer.status === 413 && end - start > CHUNK_ALIGNMENT_BYTES) {
      largestChunk = aligned((end - start) / 2);
      offset = null;
      continue;
    }
    throw storageProblem(answer);
  }
}

function isPassing(status: number): boolean {
  return status >= 500 && status !== 501 && status !== 507;
}

function storageHasMore(stored: number, total: number): Problem {
  return new Problem({
    code: "not_the_same_file",
    message: `The storage already has ${stored} bytes, more than the ${total} of this file.`,
    remedy: "Choose the file that this upload was begun with, or delete the video and upload anew.",
  });
}

function chunkSize(session: Session): number {
  return aligned(session.chunkSizeBytes ?? DEFAULT_CHUNK_BYTES);
}

function aligned(bytes: number): number {
  return Math.max(CHUNK_ALIGNMENT_BYTES, Math.floor(bytes / CHUNK_ALIGNMENT_BYTES) * CHUNK_ALIGNMENT_BYTES);
}
