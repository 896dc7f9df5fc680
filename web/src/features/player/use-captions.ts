import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import {
  type CaptionTrack,
  cueLines,
  isAutomatic,
  isForced,
  markedLabel,
  preferredTrack,
  trackLabel,
} from "./caption-text";
import { readSettings, saveSettings } from "./settings";
import { isMade } from "./text-tracks";
import type { PlayerCaption } from "./types";

export type ShownCue = { key: string; lines: string[]; top: boolean };

export type Captions = {
  tracks: readonly CaptionTrack[];
  chosen: CaptionTrack | null;
  cues: readonly ShownCue[];
  choose(track: CaptionTrack | null): void;
  /** Turn on what was on last or fits best, or off; says which is on now. */
  toggle(): CaptionTrack | null;
};

/**
 * The text tracks of the element: those `fed` from the playlist, else the browser's own or `<track>`s.
 *
 * They stay "hidden", that is loaded but not drawn by the browser, which would put them under the controls.
 */
export function useCaptions(
  video: HTMLVideoElement | null,
  captions: readonly PlayerCaption[],
  fed: readonly TextTrack[] | null,
): Captions {
  const [others, setOthers] = useState<readonly TextTrack[]>([]);
  const [wantedId, setWantedId] = useState<string | null | undefined>(undefined);
  const [cues, setCues] = useState<readonly ShownCue[]>([]);
  const last = useRef<string | null>(null);

  useEffect(() => {
    if (!video) return;
    const gone = new AbortController();
    const read = () => {
      setOthers(Array.from(video.textTracks).filter((track) => isCaptionTrack(track) && !isMade(track)));
    };
    for (const name of ["addtrack", "removetrack"]) video.textTracks.addEventListener(name, read, gone);
    read();
    return () => gone.abort();
  }, [video]);

  const nodes = fed?.length ? fed : others;
  const tracks = useMemo(
    () =>
      nodes.map((node, at): CaptionTrack => {
        const forced = isForced(captions, node.label, node.language);
        const label = trackLabel(node.label, node.language, `Captions ${at + 1}`);
        return {
          id: `${node.language}|${node.label}`,
          label: markedLabel(label, forced, isAutomatic(captions, node.label, node.language)),
          language: node.language,
          forced,
        };
      }),
    [nodes, captions],
  );
  const chosen = useMemo(() => {
    if (wantedId !== undefined) return tracks.find((track) => track.id === wantedId) ?? null;
    const { captionLanguage } = readSettings();
    if (captionLanguage === null) return null;
    const found = preferredTrack(tracks, [captionLanguage]);
    return found?.language === captionLanguage ? found : null;
  }, [tracks, wantedId]);

  useEffect(() => {
    if (!video) return;
    const gone = new AbortController();
    const node = nodes[tracks.findIndex((track) => track.id === chosen?.id)];
    const apply = (shown: TextTrackMode) => {
      for (const other of nodes) {
        const mode = other === node ? shown : "disabled";
        if (other.mode !== mode) other.mode = mode;
      }
    };
    const read = () => {
      const now = node?.mode === "hidden" ? shownCues(node, video.currentTime) : [];
      setCues((before) => (isSame(before, now) ? before : now));
    };
    apply("hidden");
    read();
    node?.addEventListener("cuechange", read, gone);
    for (const name of ["timeupdate", "seeked"]) video.addEventListener(name, read, gone);
    // The iPhone's own full screen shows the element alone, so there the browser draws.
    video.addEventListener("webkitbeginfullscreen", () => apply("showing"), gone);
    video.addEventListener("webkitendfullscreen", () => apply("hidden"), gone);
    return () => gone.abort();
  }, [video, nodes, tracks, chosen]);

  const choose = useCallback((track: CaptionTrack | null) => {
    if (track) last.current = track.id;
    setWantedId(track?.id ?? null);
    saveSettings({ captionLanguage: track?.language ?? null });
  }, []);
  const toggle = useCallback((): CaptionTrack | null => {
    if (chosen) last.current = chosen.id;
    const next = chosen
      ? null
      : (tracks.find((track) => track.id === last.current) ?? preferredTrack(tracks, navigator.languages));
    choose(next);
    return next;
  }, [tracks, chosen, choose]);

  return { tracks, chosen, cues, choose, toggle };
}

function isCaptionTrack(track: TextTrack): boolean {
  return track.kind === "captions" || track.kind === "subtitles";
}

/** By the time: `activeCues` stands still where a track is turned on while the video is paused. */
function shownCues(node: TextTrack, seconds: number): ShownCue[] {
  return Array.from(node.cues ?? [])
    .filter((cue) => cue instanceof VTTCue)
    .filter((cue) => cue.startTime <= seconds && seconds < cue.endTime)
    .map((cue) => ({
      key: `${cue.startTime}|${cue.text}`,
      lines: cueLines(cue.text),
      top: typeof cue.line === "number" && cue.line >= 0 && cue.line < (cue.snapToLines ? 5 : 50),
    }))
    .filter(({ lines }) => lines.length > 0);
}

function isSame(before: readonly ShownCue[], now: readonly ShownCue[]): boolean {
  return before.length === now.length && before.every((cue, at) => cue.key === now[at]?.key);
}
