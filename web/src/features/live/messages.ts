import type { Job, JobState, StepItem, VideoStatus } from "@/api/client";

type Failure = { code: string; message: string; remedy: string };

export type SnapshotJob = Pick<Job, "jobId" | "videoId" | "state" | "percent"> & {
  etaSeconds?: number;
  steps: (Pick<StepItem, "name" | "state" | "attempt" | "percent"> & {
    startedAt?: string;
    finishedAt?: string;
    error?: Failure;
  })[];
};

export type Snapshot = {
  type: "snapshot";
  id: number;
  reason: "connected" | "gap";
  jobs: SnapshotJob[];
  more: boolean;
};

export type VideoEvent = {
  type: "video.created" | "video.updated" | "video.deleted";
  id: number;
  videoId: string;
  state: VideoStatus;
  title: string;
};

export type JobEvent = {
  type: "job.queued" | "job.running" | "job.succeeded" | "job.failed" | "job.cancelled";
  id: number;
  videoId: string;
  jobId: string;
  state: JobState;
  progress?: number;
  error?: Failure;
  at: string;
};

export type StepEvent = {
  type: `step.${StepItem["state"]}`;
  id: number;
  videoId: string;
  jobId: string;
  step: string;
  state: StepItem["state"];
  attempt?: number;
  reason?: string;
  error?: Failure;
  at: string;
};

export type ProgressEvent = {
  type: "job.progress";
  videoId: string;
  jobId: string;
  step: string;
  state: StepItem["state"];
  progress: number;
  stepProgress: number;
  etaSeconds?: number;
};

/** What the WebSocket tells of videos and jobs (docs/realtime.md). */
export type LiveMessage = Snapshot | VideoEvent | JobEvent | StepEvent | ProgressEvent;

type Control =
  | { type: "ready"; userId: string; heartbeatSeconds: number }
  | { type: "token_expiring" | "renewed"; expiresAt: string }
  | { type: "heartbeat" | "pong" }
  | { type: "error"; code: string; message: string };

export type ServerMessage = LiveMessage | Control;

export function isJobEvent(message: LiveMessage): message is JobEvent {
  return message.type.startsWith("job.") && message.type !== "job.progress";
}

export function isStepEvent(message: LiveMessage): message is StepEvent {
  return message.type.startsWith("step.");
}

export function isVideoEvent(message: LiveMessage): message is VideoEvent {
  return message.type.startsWith("video.");
}
