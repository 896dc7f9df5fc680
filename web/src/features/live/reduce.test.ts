import { describe, expect, it } from "vitest";
import type { Job, StepItem, VideoDetails, VideoItem } from "@/api/client";
import type { LiveMessage } from "./messages";
import { reduceDetails, reduceItem, reduceJob } from "./reduce";

const at = "2026-03-14T15:09:26Z";

function step(name: string, more: Partial<StepItem> = {}): StepItem {
  const none = {
    startedAt: null,
    finishedAt: null,
    error: null,
    skippedReason: null,
    warnings: [],
    optional: false,
  };
  return { name, state: "pending", attempt: 0, percent: 0, ...none, ...more };
}

function job(more: Partial<Job> = {}): Job {
  return {
    jobId: "j",
    videoId: "v",
    state: "running",
    percent: 10,
    etaSeconds: 60,
    queuePosition: null,
    cancelRequested: false,
    createdAt: at,
    finishedAt: null,
    error: null,
    steps: [
      step("verify", { state: "succeeded", percent: 100 }),
      step("ladder", { state: "running", attempt: 1 }),
    ],
    ...more,
  };
}

const progress: LiveMessage = {
  type: "job.progress",
  videoId: "v",
  jobId: "j",
  step: "ladder",
  state: "running",
  progress: 41.5,
  stepProgress: 38,
  etaSeconds: 73,
};
const error = { code: "media_unreadable", message: "The file ends too early.", remedy: "Upload it again." };

describe("reduceJob", () => {
  it("takes percent, time left and the step's percent from progress", () => {
    const after = reduceJob(job(), progress);
    expect(after).toMatchObject({
      percent: 41.5,
      etaSeconds: 73,
      steps: [{}, { name: "ladder", percent: 38 }],
    });
  });

  it("forgets a time left that is no longer known", () => {
    const { etaSeconds: _, ...unknown } = progress as Extract<LiveMessage, { type: "job.progress" }>;
    expect(reduceJob(job(), unknown).etaSeconds).toBeNull();
  });

  it("never goes back", () => {
    expect(reduceJob(job({ percent: 80 }), progress).percent).toBe(80);
  });

  it("ignores progress that comes after the end", () => {
    const ended = job({ state: "cancelled" });
    expect(reduceJob(ended, progress)).toBe(ended);
  });

  it("leaves the jobs of other videos as they are, the very same objects", () => {
    const other = job({ jobId: "other" });
    expect(reduceJob(other, progress)).toBe(other);
  });

  it("keeps why a step failed, and begins its next attempt without it", () => {
    const failed = reduceJob(job(), {
      id: 5,
      type: "step.failed",
      videoId: "v",
      jobId: "j",
      step: "ladder",
      state: "failed",
      attempt: 3,
      error,
      at,
    });
    expect(failed.steps[1]).toMatchObject({
      state: "failed",
      attempt: 3,
      finishedAt: at,
      error: { ...error, logTail: [] },
    });
    const again = reduceJob(failed, {
      id: 6,
      type: "step.running",
      videoId: "v",
      jobId: "j",
      step: "ladder",
      state: "running",
      attempt: 4,
      at,
    });
    expect(again.steps[1]).toMatchObject({
      state: "running",
      attempt: 4,
      startedAt: at,
      finishedAt: null,
      error: null,
    });
  });

  it("adds a step that appeared meanwhile", () => {
    const after = reduceJob(job(), {
      id: 7,
      type: "step.queued",
      videoId: "v",
      jobId: "j",
      step: "piece-0",
      state: "queued",
      at,
    });
    expect(after.steps.map((one) => one.name)).toEqual(["verify", "ladder", "piece-0"]);
  });

  it("ends with success at a hundred percent, without time left", () => {
    const after = reduceJob(job(), {
      id: 8,
      type: "job.succeeded",
      videoId: "v",
      jobId: "j",
      state: "succeeded",
      at,
    });
    expect(after).toMatchObject({
      state: "succeeded",
      percent: 100,
      etaSeconds: null,
      finishedAt: at,
      error: null,
    });
  });

  it("loses its failure when it is run again", () => {
    const failed = job({ state: "failed", finishedAt: at, error: { ...error, logTail: ["x"] } });
    const after = reduceJob(failed, {
      id: 9,
      type: "job.queued",
      videoId: "v",
      jobId: "j",
      state: "queued",
      at,
    });
    expect(after).toMatchObject({ state: "queued", finishedAt: null, error: null });
  });

  it("follows a snapshot, and keeps what snapshots do not tell", () => {
    const before = job({ steps: [step("verify", { optional: true, warnings: ["w"] })] });
    const after = reduceJob(before, {
      type: "snapshot",
      id: 10,
      reason: "gap",
      more: false,
      jobs: [
        {
          jobId: "j",
          videoId: "v",
          state: "running",
          percent: 50,
          steps: [{ name: "verify", state: "succeeded", attempt: 1, percent: 100 }],
        },
      ],
    });
    expect(after).toMatchObject({ percent: 50, etaSeconds: null });
    expect(after.steps[0]).toMatchObject({ state: "succeeded", optional: true, warnings: ["w"] });
  });
});

const item = { videoId: "v", title: "Old", status: "processing", jobId: null, percent: null } as VideoItem;

describe("reduceItem", () => {
  it("takes status and title from the video's own events", () => {
    const after = reduceItem(item, {
      id: 1,
      type: "video.updated",
      videoId: "v",
      state: "playable",
      title: "New",
    });
    expect(after).toMatchObject({ status: "playable", title: "New" });
  });

  it("shows progress, and none once the job has ended", () => {
    const going = reduceItem(item, progress);
    expect(going).toMatchObject({ jobId: "j", percent: 41.5 });
    const ended: LiveMessage = {
      id: 2,
      type: "job.failed",
      videoId: "v",
      jobId: "j",
      state: "failed",
      error,
      at,
    };
    expect(reduceItem(going, ended).percent).toBeNull();
  });

  it("is the same object when nothing concerns it", () => {
    expect(reduceItem(item, { ...progress, videoId: "other" } as LiveMessage)).toBe(item);
    expect(reduceItem(item, { type: "snapshot", id: 1, reason: "connected", jobs: [], more: false })).toBe(
      item,
    );
  });
});

describe("reduceDetails", () => {
  const details = { ...item, job: job() } as unknown as VideoDetails;

  it("carries the job along", () => {
    expect(reduceDetails(details, progress).job?.percent).toBe(41.5);
  });

  it("is the same object when nothing concerns it", () => {
    expect(reduceDetails(details, { ...progress, jobId: "other", videoId: "other" } as LiveMessage)).toBe(
      details,
    );
  });
});
