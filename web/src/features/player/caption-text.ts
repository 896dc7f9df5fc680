import { formatLanguage } from "@/lib/format";
import type { PlayerCaption } from "./types";

export type CaptionTrack = { id: string; label: string; language: string; forced: boolean };

const nameless = /^(captions?|subtitles?|audio|sound|track|original)?\s*\d*$/i;

/** What to call a track: its title; its language where the title says nothing. */
export function trackLabel(name: string, language: string, fallback: string): string {
  if (name && !nameless.test(name) && name.toLowerCase() !== language.toLowerCase()) return name;
  return language && language !== "und" ? formatLanguage(language) : name || fallback;
}

/** The text of a WebVTT cue without its markup, in lines. */
export function cueLines(text: string): string[] {
  const plain = text
    .replace(/<[^>]*>/g, "")
    .replace(/&(lt|gt|nbsp|lrm|rlm|quot|#39);/g, (_, name: string) => entities[name] ?? "")
    .replace(/&amp;/g, "&");
  return plain
    .split(/\r\n|\r|\n/)
    .map((line) => line.trim())
    .filter(Boolean);
}

const entities: Record<string, string> = {
  lt: "<",
  gt: ">",
  nbsp: "\u00a0",
  lrm: "\u200e",
  rlm: "\u200f",
  quot: '"',
  "#39": "'",
};

/** The track to turn on for one of these languages, in order of preference; else the first that is not forced. */
export function preferredTrack(
  tracks: readonly CaptionTrack[],
  languages: readonly (string | null)[],
): CaptionTrack | null {
  const whole = [...tracks.filter((track) => !track.forced), ...tracks.filter((track) => track.forced)];
  for (const language of languages) {
    if (language === null) continue;
    const found =
      whole.find((track) => track.language.toLowerCase() === language.toLowerCase()) ??
      whole.find((track) => language !== "" && primary(track.language) === primary(language));
    if (found) return found;
  }
  return whole[0] ?? null;
}

/** Whether a track of the playlist is a forced one, which only the video's details say. */
export function isForced(captions: readonly PlayerCaption[], label: string, language: string): boolean {
  return areAll(captions, label, language, (caption) => caption.forced);
}

/** Whether a machine has written a track of the playlist and nobody has read it over. */
export function isAutomatic(captions: readonly PlayerCaption[], label: string, language: string): boolean {
  return areAll(captions, label, language, ({ automatic }) => automatic === true);
}

function areAll(
  captions: readonly PlayerCaption[],
  label: string,
  language: string,
  test: (caption: PlayerCaption) => boolean,
): boolean {
  const same = captions.filter((caption) => caption.language === language);
  const named = same.filter((caption) => caption.title === label);
  const candidates = named.length > 0 ? named : same;
  return candidates.length > 0 && candidates.every(test);
}

/** The name of a track in a menu, with what sets it apart. */
export function markedLabel(label: string, forced: boolean, automatic: boolean): string {
  const mark = forced ? "forced" : automatic ? "automatic" : "";
  return mark && !label.toLowerCase().includes(`(${mark})`) ? `${label} (${mark})` : label;
}

function primary(language: string): string {
  return language.toLowerCase().split("-")[0] ?? "";
}
