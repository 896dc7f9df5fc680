import type { Job, JobState, StepItem, VideoDetails, VideoItem } from "@/api/client";
import type { JobEvent, LiveMessage, ProgressEvent, SnapshotJob, StepEvent, VideoEvent } from "./messages";
import { isJobEvent, isStepEvent } from "./messages";

const ENDED: readonly JobState[] = ["succeeded", "failed", "cancelled"];

export function hasEnded(state: JobState): boolean {
  return ENDED.includes(state);
}

/** The job after one message; the same object where the message changes nothing, so that nothing is drawn again. */
export function reduceJob(job: Job, message: LiveMessage): Job {
  if (message.type === "snapshot") {
    const told = message.jobs.find((one) => one.jobId === job.jobId);
    return told ? withSnapshot(job, told) : job;
  }
  if (!("jobId" in message) || message.jobId !== job.jobId) return job;
  if (message.type === "job.progress") return withProgress(job, message);
  if (isStepEvent(message)) return withStep(job, message);
  return isJobEvent(message) ? withState(job, message) : job;
}

function withProgress(job: Job, event: ProgressEvent): Job {
  if (hasEnded(job.state)) return job; // a late hint; the end was told by an event that is never lost
  return {
    ...job,
    state: "running",
    percent: Math.max(job.percent, event.progress),
    etaSeconds: event.etaSeconds ?? null,
    queuePosition: null,
    steps: job.steps.map((step) =>
      step.name === event.step && step.state === "running"
        ? { ...step, percent: Math.max(step.percent, event.stepProgress) }
        : step,
    ),
  };
}

function withState(job: Job, event: JobEvent): Job {
  const ended = hasEnded(event.state);
  return {
    ...job,
    state: event.state,
    percent: event.state === "succeeded" ? 100 : (event.progress ?? job.percent),
    etaSeconds: ended ? null : job.etaSeconds,
    queuePosition: event.state === "queued" ? job.queuePosition : null,
    cancelRequested: ended ? false : job.cancelRequested,
    finishedAt: ended ? event.at : null,
    error: event.error ? { logTail: [], ...event.error } : event.state === "failed" ? job.error : null,
  };
}

function withStep(job: Job, event: StepEvent): Job {
  const before = job.steps.find((step) => step.name === event.step);
  const step: StepItem = {
    name: event.step,
    optional: false,
    warnings: [],
    ...before,
    state: event.state,
    attempt: event.attempt ?? before?.attempt ?? 0,
    percent: event.state === "succeeded" ? 100 : event.state === "running" ? (before?.percent ?? 0) : 0,
    startedAt: event.state === "running" ? event.at : (before?.startedAt ?? null),
    finishedAt: ["succeeded", "failed", "cancelled", "skipped"].includes(event.state) ? event.at : null,
    error: event.error ? { logTail: [], ...event.error } : null,
    skippedReason: event.reason ?? null,
  };
  // A step that a running step has added (the pieces of a long video) is new here; its place comes with the next answer.
  return {
    ...job,
    queuePosition: event.state === "running" ? null : job.queuePosition,
    steps: before ? job.steps.map((one) => (one === before ? step : one)) : [...job.steps, step],
  };
}

function withSnapshot(job: Job, told: SnapshotJob): Job {
  return {
    ...job,
    state: told.state,
    percent: told.percent,
    etaSeconds: told.etaSeconds ?? null,
    steps: told.steps.map((step) => {
      const before = job.steps.find((one) => one.name === step.name);
      return {
        optional: false,
        warnings: [],
        skippedReason: null,
        ...before,
        ...step,
        startedAt: step.startedAt ?? null,
        finishedAt: step.finishedAt ?? null,
        error: step.error ? { logTail: before?.error?.logTail ?? [], ...step.error } : null,
      };
    }),
  };
}

/** A line of the list after one message. */
export function reduceItem(item: VideoItem, message: LiveMessage): VideoItem {
  if (message.type === "snapshot") {
    const told = message.jobs.find((job) => job.videoId === item.videoId);
    return told ? { ...item, jobId: told.jobId, percent: told.percent } : item;
  }
  if (message.videoId !== item.videoId) return item;
  if (message.type === "job.progress") {
    return { ...item, jobId: message.jobId, percent: Math.max(item.percent ?? 0, message.progress) };
  }
  if (isJobEvent(message)) {
    return {
      ...item,
      jobId: message.jobId,
      percent: hasEnded(message.state) ? null : (message.progress ?? item.percent),
    };
  }
  return isStepEvent(message) ? item : withVideo(item, message);
}

/** The details of a video after one message; `job` goes along. */
export function reduceDetails(details: VideoDetails, message: LiveMessage): VideoDetails {
  const job = details.job ? reduceJob(details.job, message) : null;
  const changed = job === details.job ? details : { ...details, job };
  const isOwn =
    message.type.startsWith("video.") && "videoId" in message && message.videoId === details.videoId;
  return isOwn ? withVideo(changed, message as VideoEvent) : changed;
}

function withVideo<T extends VideoItem | VideoDetails>(video: T, event: VideoEvent): T {
  if (event.type === "video.deleted") return video;
  return { ...video, status: event.state, title: event.title };
}
