import { describe, expect, it } from "vitest";
import type { Job, StepItem } from "@/api/client";
import { jobSentence } from "./job-summary";
import { isWaiting } from "./step-words";

function step(state: StepItem["state"], code?: string): StepItem {
  const error = code ? { code, message: `Because of ${code}.`, remedy: "", logTail: [] } : null;
  return {
    name: "poster",
    state,
    error,
    attempt: 0,
    percent: 0,
    optional: false,
    startedAt: null,
    finishedAt: null,
    skippedReason: null,
    warnings: [],
  };
}

function job(...steps: StepItem[]): Job {
  return {
    jobId: "j",
    videoId: "v",
    state: "running",
    percent: 10,
    etaSeconds: null,
    queuePosition: null,
    cancelRequested: false,
    createdAt: "2026-03-14T15:09:26Z",
    finishedAt: null,
    error: null,
    steps,
  };
}

describe("a step that waits", () => {
  it("is one that is queued and names what it waits for", () => {
    expect(isWaiting(step("queued", "waiting_for_storage"))).toBe(true);
    expect(isWaiting(step("queued", "worker_lost"))).toBe(false);
    expect(isWaiting(step("queued"))).toBe(false);
    expect(isWaiting(step("failed", "waiting_for_storage"))).toBe(false);
  });

  it("is what its job is about, unless another one runs", () => {
    const waiting = step("queued", "waiting_for_storage");
    expect(jobSentence(job(step("succeeded"), waiting))).toBe("Because of waiting_for_storage.");
    expect(jobSentence({ ...job(waiting), state: "queued" })).toBe("Because of waiting_for_storage.");
    expect(jobSentence(job(waiting, step("running")))).toBe("10 % · Choose a poster");
  });
});
