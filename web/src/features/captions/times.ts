import { formatClock } from "@/lib/format";

/** A time in the editor, always with milliseconds: 75.5 → "1:15.500". */
export function formatCueTime(seconds: number): string {
  const ms = Math.round(seconds * 1000);
  return `${formatClock(Math.floor(ms / 1000))}.${String(ms % 1000).padStart(3, "0")}`;
}

/** Seconds from "75.5", "1:15.5" or "1:01:15,500"; null where it is no time. */
export function parseCueTime(text: string): number | null {
  const match = /^(?:(?:(\d{1,3}):)?(\d{1,2}):)?(\d{1,6})(?:[.,](\d{1,3}))?$/.exec(text.trim());
  if (!match) return null;
  const [, hours = "0", minutes, whole = "0", fraction = ""] = match;
  if (minutes !== undefined && (Number(whole) >= 60 || Number(minutes) >= 60)) return null;
  const seconds = Number(hours) * 3600 + Number(minutes ?? 0) * 60 + Number(whole);
  return seconds + Number(fraction.padEnd(3, "0")) / 1000;
}
