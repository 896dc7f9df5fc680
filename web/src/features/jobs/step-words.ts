import type { JobState, StepItem } from "@/api/client";
import type { Tone } from "@/components/status";

const STEPS: Record<string, [label: string, what: string]> = {
  verify: ["Check the upload", "Every byte has arrived and is what was announced"],
  inspect: ["Read the file", "What is inside: picture, sound, length"],
  package: ["Make it playable", "The original, cut for streaming as it is"],
  split: ["Divide", "Long videos are encoded in pieces, side by side"],
  ladder: ["Encode qualities", "Smaller versions for slower connections"],
  join: ["Join the pieces", "The encoded pieces become one"],
  poster: ["Choose a poster", "Pictures that stand for the video"],
  preview: ["Make a moving preview", "A few seconds that show what it is"],
  subtitles: ["Extract subtitles", "Texts that are inside the file"],
  transcribe: ["Write captions", "What is said, as text with its times"],
  describe: ["Suggest title and chapters", "Suggestions that you accept, change or reject"],
  translate: ["Translate captions", "The captions in other languages"],
  storyboard: ["Make the storyboard", "Little pictures for the seek bar"],
};

/** A step's name and purpose for people; a plugin's step keeps its own name. */
export function stepWords(name: string): { label: string; what: string } {
  const known = STEPS[name];
  if (known) return { label: known[0], what: known[1] };
  const piece = /^piece[-_](\d+)$/.exec(name);
  if (piece) return { label: `Encode piece ${Number(piece[1]) + 1}`, what: "One part of the ladder" };
  const words = name.replace(/[-_]+/g, " ");
  return { label: words.charAt(0).toUpperCase() + words.slice(1), what: "" };
}

/** Whether a step waits for something that comes back by itself, which its error then names. */
export function isWaiting(step: Pick<StepItem, "state" | "error">): boolean {
  return step.state === "queued" && (step.error?.code.startsWith("waiting_for_") ?? false);
}

export const STEP_STATE: Record<StepItem["state"], { label: string; tone: Tone }> = {
  pending: { label: "Waits for the steps before it", tone: "plain" },
  queued: { label: "Waits for its turn", tone: "plain" },
  running: { label: "Running", tone: "busy" },
  succeeded: { label: "Done", tone: "good" },
  failed: { label: "Failed", tone: "bad" },
  cancelled: { label: "Cancelled", tone: "plain" },
  skipped: { label: "Not needed", tone: "plain" },
};

export const JOB_STATE: Record<JobState, { label: string; tone: Tone }> = {
  queued: { label: "Waiting", tone: "plain" },
  running: { label: "Running", tone: "busy" },
  succeeded: { label: "Done", tone: "good" },
  failed: { label: "Failed", tone: "bad" },
  cancelled: { label: "Cancelled", tone: "plain" },
};
