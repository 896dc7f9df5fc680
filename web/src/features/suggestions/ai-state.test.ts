import { describe, expect, it } from "vitest";
import type { InstanceAi, Suggestion } from "@/api/ai";
import type { Job, StepItem } from "@/api/client";
import { aiState } from "./ai-state";

const step = (name: string, state: StepItem["state"], rest: Partial<StepItem> = {}) =>
  ({ name, state, warnings: [], skippedReason: null, ...rest }) as StepItem;
const job = (state: Job["state"], ...steps: StepItem[]) => ({ state, steps }) as Job;
const ai: InstanceAi = {
  transcribe: ["local"],
  describe: [],
  translate: [],
  embed: [],
  translateTo: [],
  acceptSuggestions: true,
};
const none = { ai, job: null, captions: [], suggestions: [] };

describe("aiState", () => {
  it("says that nobody is there to ask", () => {
    expect(aiState({ ...none, ai: undefined }).is).toBe("unconfigured");
    expect(aiState({ ...none, ai: { ...ai, transcribe: [] } }).is).toBe("unconfigured");
    expect(aiState(none).is).toBe("idle");
  });

  it("names the step at work, not one that waits", () => {
    const state = aiState({
      ...none,
      job: job("running", step("translate", "pending"), step("describe", "running")),
    });
    expect(state).toMatchObject({ is: "working", step: { name: "describe" } });
  });

  it("does not work on a job that has ended", () => {
    expect(aiState({ ...none, job: job("cancelled", step("describe", "pending")) }).is).toBe("idle");
  });

  it("tells what has failed, and when it can be tried again", () => {
    const steps = [step("transcribe", "failed"), step("describe", "skipped")];
    expect(aiState({ ...none, job: job("succeeded", ...steps) })).toMatchObject({
      is: "failed",
      canRetry: true,
    });
    expect(aiState({ ...none, job: job("running", ...steps) })).toMatchObject({
      is: "failed",
      canRetry: false,
    });
  });

  it("tells that nothing is said", () => {
    const reason = "The video has no sound.";
    const skipped = job("succeeded", step("transcribe", "skipped", { skippedReason: reason }));
    expect(aiState({ ...none, job: skipped })).toEqual({ is: "silent", reason });
    const empty = job("succeeded", step("transcribe", "succeeded"));
    expect(aiState({ ...none, job: empty }).is).toBe("silent");
  });

  it("counts what waits for a decision", () => {
    const suggestions = [{ state: "pending" }, { state: "rejected" }] as Suggestion[];
    expect(aiState({ ...none, suggestions })).toEqual({ is: "waiting", count: 1 });
  });
});
