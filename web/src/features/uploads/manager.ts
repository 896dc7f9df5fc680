import { api, body, once, type UploadTarget } from "@/api/client";
import { instance } from "@/api/instance";
import { asProblem, Problem } from "@/api/problem";
import { queryClient } from "@/api/query-client";
import { toast } from "@/components/toast";
import { deleteVideo, videoKeys } from "@/features/videos/queries";
import { formatBytes } from "@/lib/format";
import { contentTypeOf } from "./content-types";
import { type Session, sendFile } from "./protocol";
import { Rate } from "./rate";
import { dropRecord, findRecord, keepRecord } from "./records";
import { xhrTransport } from "./transport";

export type UploadState = "waiting" | "starting" | "uploading" | "paused" | "finishing" | "done" | "failed";

export type Upload = {
  /** This page's own; the video's id comes with the first answer of the server. */
  key: number;
  name: string;
  sizeBytes: number;
  state: UploadState;
  videoId: string | null;
  jobId: string | null;
  sentBytes: number;
  bytesPerSecond: number | null;
  etaSeconds: number | null;
  /** Why no bytes go although it is uploading. */
  holdup: "offline" | "retrying" | null;
  /** Whether it continues what an earlier page began. */
  continued: boolean;
  problem: Problem | null;
};

type Work = {
  file: File;
  userId: string;
  videoId: string | null;
  storagePath: string;
  /** As announced, perhaps by another browser that calls the same file something else. */
  contentType: string;
  /** Makes beginning happen once, however often it is asked for: after a lost answer, or paused and resumed meanwhile. */
  begin: ReturnType<typeof once>;
  abort: AbortController | null;
  rate: Rate;
};

const AT_ONCE = 3;
/** With the waits between them about eight minutes; then a person has to look. */
const MOST_TRIES = 20;
/** The list of videos tells the rest. */
const SHOW_DONE_MS = 8000;
/** What is stored is not the file that was announced. */
const QUARANTINED = new Set([
  "upload_size_mismatch",
  "upload_content_type_mismatch",
  "upload_checksum_mismatch",
]);
const REFUSALS = ["empty_file", "too_large", "no_video"];
const PAUSED = new DOMException("paused", "AbortError");
const ACTIVE: readonly UploadState[] = ["waiting", "starting", "uploading", "finishing"];

let uploads: readonly Upload[] = [];
let nextKey = 1;
const work = new Map<number, Work>();
const listeners = new Set<() => void>();

export function subscribeUploads(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function currentUploads(): readonly Upload[] {
  return uploads;
}

function publish(next: readonly Upload[]): void {
  uploads = next;
  for (const listener of listeners) listener();
}

function patch(key: number, change: Partial<Upload>): void {
  publish(uploads.map((upload) => (upload.key === key ? { ...upload, ...change } : upload)));
}

function get(key: number): Upload | undefined {
  return uploads.find((upload) => upload.key === key);
}

/** Why this file cannot be uploaded, before a byte is sent. */
function refusal(file: File): Problem | null {
  const { maxSizeBytes } = instance().upload;
  if (file.size === 0) {
    return new Problem({
      code: "empty_file",
      message: "The file is empty.",
      remedy:
        "A folder or a file that is still being copied looks empty too: choose the video itself, once it is there.",
    });
  }
  if (file.size > maxSizeBytes) {
    return new Problem({
      code: "too_large",
      message: `The file has ${formatBytes(file.size)}; this Echo takes up to ${formatBytes(maxSizeBytes)}.`,
      remedy: "Export it smaller, or ask the operator to raise upload.max_size_bytes.",
    });
  }
  if (contentTypeOf(file) === null) {
    return new Problem({
      code: "no_video",
      message: `“${file.name}” is not a video or a sound.`,
      remedy: "Choose an MP4, MOV, MKV, WebM, AVI or another video file.",
    });
  }
  return null;
}

/**
 * Take files. Each starts at once (three go at the same time), or goes on where an earlier page left it. With
 * `continuing` a file is the rest of that video, whatever this browser remembers.
 */
export function addFiles(files: readonly File[], userId: string, continuing?: { videoId: string }): number[] {
  const keys: number[] = [];
  for (const file of files) {
    const same = uploads.find(
      (upload) => upload.state !== "done" && !isRefused(upload) && isSame(work.get(upload.key)?.file, file),
    );
    if (same) {
      if (isActive(same)) toast.info(`“${file.name}” is being uploaded already`);
      else resumeUpload(same.key);
      continue;
    }
    const key = nextKey++;
    const videoId = continuing?.videoId ?? findRecord(userId, file)?.videoId ?? null;
    const problem = refusal(file);
    work.set(key, {
      file,
      userId,
      videoId,
      storagePath: "",
      contentType: "",
      begin: once(),
      abort: null,
      rate: new Rate(),
    });
    publish([
      ...uploads,
      {
        key,
        name: file.name,
        sizeBytes: file.size,
        state: problem ? "failed" : "waiting",
        videoId,
        jobId: null,
        sentBytes: 0,
        bytesPerSecond: null,
        etaSeconds: null,
        holdup: null,
        continued: videoId !== null,
        problem,
      },
    ]);
    keys.push(key);
  }
  startWaiting();
  return keys;
}

function isSame(one: File | undefined, other: File): boolean {
  return one?.name === other.name && one.size === other.size && one.lastModified === other.lastModified;
}

function startWaiting(): void {
  const going = uploads.filter((upload) =>
    ["starting", "uploading", "finishing"].includes(upload.state),
  ).length;
  for (const upload of uploads
    .filter(({ state }) => state === "waiting")
    .slice(0, Math.max(0, AT_ONCE - going))) {
    void run(upload.key);
  }
}

async function run(key: number): Promise<void> {
  const task = work.get(key);
  if (!task) return;
  const abort = new AbortController();
  task.abort = abort;
  patch(key, { state: "starting", problem: null, holdup: null });
  try {
    const first = await begin(key, task, abort.signal);
    const videoId = get(key)?.videoId ?? task.videoId;
    if (videoId && !work.has(key)) await remove(videoId); // cancelled while the server made it
    abort.signal.throwIfAborted();
    if (!videoId) throw new Problem({ code: "unexpected", message: "The upload got no video." });
    await withLock(videoId, async () => {
      if (first) await send(key, task, videoId, first, abort.signal);
      await finish(key, task, videoId, abort.signal);
    });
  } catch (error) {
    if (abort.signal.aborted) return; // paused or cancelled: whoever did it has said so
    const problem = asProblem(error);
    patch(key, { state: "failed", problem, holdup: null, bytesPerSecond: null, etaSeconds: null });
  } finally {
    if (task.abort === abort) task.abort = null;
    startWaiting();
  }
}

/** A session for the bytes that are missing; null when none is. */
async function begin(key: number, task: Work, signal: AbortSignal): Promise<Session | null> {
  const upload = get(key);
  if (upload?.videoId) {
    const { videoId } = upload;
    try {
      return await untilAnswered(key, signal, () => renew(task, videoId));
    } catch (error) {
      const problem = asProblem(error);
      // What was begun is gone or finished; with the same file in hand, beginning anew is what is meant.
      if (problem.status !== 404 && problem.status !== 409) throw error;
      if (QUARANTINED.has(problem.code)) await remove(videoId); // nothing will be made of it; it would only be in the way
      dropRecord(task.userId, videoId);
      patch(key, { videoId: null, continued: false });
      task.begin = once();
    }
  }
  const contentType = contentTypeOf(task.file) ?? "video/mp4";
  const header = task.begin;
  const announced = { filename: task.file.name, contentType, sizeBytes: task.file.size };
  const announce = (more: { protocols?: ("google-resumable" | "signed-put")[] }) =>
    untilAnswered(key, signal, () =>
      body(
        api.POST("/api/v1/videos/signed-upload-url", { params: { header }, body: { ...announced, ...more } }),
      ),
    );
  const begun = await announce({ protocols: ["google-resumable", "signed-put"] }).catch((error: unknown) => {
    // A process of the version before, while a newer one is rolled out. A refusal uses up no key.
    if (!asProblem(error).refusesField("/protocols")) throw error;
    return announce({});
  });
  task.storagePath = begun.storagePath;
  keepRecord(task.userId, task.file, begun.videoId);
  task.videoId = begun.videoId;
  patch(key, { videoId: begun.videoId });
  void queryClient.invalidateQueries({ queryKey: videoKeys.lists() });
  task.contentType = contentType;
  return sessionOf(begun.uploadUrl, begun.upload, 0);
}

/** Ask again while nothing but the network, or a server that restarts, is in the way. */
async function untilAnswered<T>(key: number, signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await ask();
    } catch (error) {
      signal.throwIfAborted();
      const problem = asProblem(error);
      const passing = problem.temporary || problem.code === "idempotency_in_progress";
      if (!passing || tries >= MOST_TRIES) throw error;
      await holdUp(key, Math.max(1000 * (problem.retryAfterS ?? 0), backoffMs(tries)), signal);
    }
  }
}

const backoffMs = (tries: number) => Math.min(30_000, 500 * 2 ** tries);

/** Wait so long, and as long as there is no network at all. */
async function holdUp(key: number, ms: number, signal: AbortSignal): Promise<void> {
  patch(key, { holdup: navigator.onLine ? "retrying" : "offline" });
  await untilOnlineOr(ms, signal);
  while (!navigator.onLine) await untilOnlineOr(30_000, signal);
  patch(key, { holdup: null });
}

async function renew(task: Work, videoId: string): Promise<Session | null> {
  const resumed = await body(
    api.POST("/api/v1/videos/{videoId}/upload/resume", { params: { path: { videoId }, header: once() } }),
  );
  task.storagePath = resumed.storagePath;
  if (resumed.complete || !resumed.uploadUrl || !resumed.upload) return null;
  task.contentType ||= resumed.upload.headers["Content-Type"] ?? "";
  return sessionOf(resumed.uploadUrl, resumed.upload, resumed.offsetBytes);
}

function sessionOf(url: string, target: UploadTarget, offsetBytes: number): Session {
  const { headers, chunkSizeBytes } = target;
  return { url, headers, chunkSizeBytes, offsetBytes, inOnePut: target.protocol === "signed-put" };
}

async function send(
  key: number,
  task: Work,
  videoId: string,
  first: Session,
  signal: AbortSignal,
): Promise<void> {
  task.rate.reset();
  patch(key, { state: "uploading", sentBytes: first.offsetBytes ?? 0 });
  await sendFile({
    file: task.file,
    session: first,
    transport: xhrTransport,
    renew: () => renew(task, videoId),
    onProgress: (sentBytes) => {
      task.rate.add(performance.now(), sentBytes);
      const bytesPerSecond = task.rate.bytesPerSecond();
      const left = task.file.size - sentBytes;
      patch(key, { sentBytes, bytesPerSecond, etaSeconds: bytesPerSecond ? left / bytesPerSecond : null });
    },
    onWaiting: (holdup) => {
      task.rate.reset();
      patch(key, { holdup, bytesPerSecond: null, etaSeconds: null });
    },
    signal,
    wait: untilOnlineOr,
    isOnline: () => navigator.onLine,
    isReachable,
  });
}

/** Without CORS a page is told nothing but whether there was an answer. */
async function isReachable(url: string): Promise<boolean> {
  const { origin } = new URL(url);
  if (origin === location.origin) return false; // no CORS is needed there
  const asked = fetch(origin, { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(5000) });
  return asked.then(
    () => true,
    () => false,
  );
}

async function finish(key: number, task: Work, videoId: string, signal: AbortSignal): Promise<void> {
  patch(key, {
    state: "finishing",
    sentBytes: task.file.size,
    holdup: null,
    bytesPerSecond: null,
    etaSeconds: null,
  });
  const header = once();
  for (let tries = 0; ; tries += 1) {
    try {
      const completed = await body(
        api.POST("/api/v1/videos/upload-complete", {
          params: { header },
          body: {
            videoId,
            originalFilename: task.file.name,
            storagePath: task.storagePath,
            contentType: task.contentType || (contentTypeOf(task.file) ?? "video/mp4"),
            sizeBytes: task.file.size, // no checksum: it would take another reading of the whole file
          },
          signal,
        }),
      );
      dropRecord(task.userId, videoId);
      patch(key, { state: "done", jobId: completed.jobId });
      setTimeout(() => dismissUpload(key), SHOW_DONE_MS);
      void queryClient.invalidateQueries({ queryKey: videoKeys.all });
      return;
    } catch (error) {
      signal.throwIfAborted();
      const problem = asProblem(error);
      const incomplete = problem.code === "upload_incomplete" || problem.code === "upload_gone";
      if ((!problem.temporary && !incomplete) || tries >= MOST_TRIES) throw error;
      if (incomplete) {
        const session = await renew(task, videoId);
        if (session) await send(key, task, videoId, session, signal);
      } else {
        await holdUp(key, backoffMs(tries), signal);
      }
    }
  }
}

/** Two tabs that send the same upload would only disturb each other. */
async function withLock(videoId: string, then: () => Promise<void>): Promise<void> {
  if (!("locks" in navigator)) return then(); // plain http on a host that is not this machine
  await navigator.locks.request(`echo-upload:${videoId}`, { ifAvailable: true }, async (lock) => {
    if (!lock) {
      throw new Problem({
        code: "elsewhere",
        message: "This file is being uploaded in another tab.",
        remedy: "Let that tab go on, or close it and try again.",
      });
    }
    await then();
  });
}

function untilOnlineOr(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (then: () => void) => {
      clearTimeout(timer);
      window.removeEventListener("online", online);
      signal.removeEventListener("abort", aborted);
      then();
    };
    const online = () => end(resolve);
    const aborted = () => end(() => reject(signal.reason));
    const timer = setTimeout(() => end(resolve), ms);
    window.addEventListener("online", online);
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
  });
}

export function pauseUpload(key: number): void {
  const upload = get(key);
  if (!upload || !["waiting", "starting", "uploading"].includes(upload.state)) return;
  work.get(key)?.abort?.abort(PAUSED);
  patch(key, { state: "paused", holdup: null, bytesPerSecond: null, etaSeconds: null });
}

/** Go on with what was paused, or try again what failed. */
export function resumeUpload(key: number): void {
  const upload = get(key);
  const task = work.get(key);
  if (!upload || !task || (upload.state !== "paused" && upload.state !== "failed")) return;
  const problem = refusal(task.file);
  patch(key, problem ? { state: "failed", problem } : { state: "waiting", problem: null });
  startWaiting();
}

/** Stop, and delete what was begun. */
export async function cancelUpload(key: number): Promise<void> {
  const upload = get(key);
  const task = work.get(key);
  if (!upload || !task) return;
  task.abort?.abort(PAUSED);
  patch(key, { state: "paused", holdup: null });
  if (upload.videoId) {
    await remove(upload.videoId);
    dropRecord(task.userId, upload.videoId);
    void queryClient.invalidateQueries({ queryKey: videoKeys.lists() });
  }
  dismissUpload(key);
}

async function remove(videoId: string): Promise<void> {
  try {
    await deleteVideo(videoId);
  } catch (error) {
    if (asProblem(error).status !== 404) throw error;
  }
}

/** Forget an upload that has ended. */
export function dismissUpload(key: number): void {
  work.delete(key);
  publish(uploads.filter((upload) => upload.key !== key));
  startWaiting();
}

/** Stop everything here; what was begun can be continued. Called when the person signs out. */
export function stopUploads(): void {
  for (const task of work.values()) task.abort?.abort(PAUSED);
  work.clear();
  publish([]);
}

/** Whether it is the file itself that cannot be uploaded: trying again changes nothing. */
export function isRefused(upload: Upload): boolean {
  return REFUSALS.includes(upload.problem?.code ?? "");
}

export function isActive(upload: Upload): boolean {
  return ACTIVE.includes(upload.state);
}

// Leaving now would interrupt; the browser asks with words of its own.
window.addEventListener("beforeunload", (event) => {
  if (uploads.some(isActive)) event.preventDefault();
});
