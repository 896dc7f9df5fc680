import type Hls from "hls.js";

/** Text tracks made here stay with their element for good: one of an earlier video has to be told apart. */
const made = new WeakSet<TextTrack>();

export function isMade(track: TextTrack): boolean {
  return made.has(track);
}

/**
 * Fill text tracks of the element with the captions of hls.js, each when its mode is not "disabled".
 *
 * hls.js could do so itself, but gives its tracks a `data:` address, which a strict Content-Security-Policy refuses.
 */
export function feedTextTracks(
  Engine: typeof Hls,
  hls: Hls,
  video: HTMLVideoElement,
  keepCues: boolean,
  onTracks: (tracks: TextTrack[]) => void,
): () => void {
  const { Events } = Engine;
  const fed = new Map<string, TextTrack>();
  const follow = () => {
    const wanted = hls.subtitleTracks.findIndex(({ name, lang }) => {
      const track = fed.get(keyOf(name, lang));
      return track !== undefined && track.mode !== "disabled";
    });
    if (hls.subtitleTrack !== wanted) hls.subtitleTrack = wanted;
  };
  hls.on(Events.MANIFEST_PARSED, (_, { subtitleTracks }) => {
    for (const { name, lang } of subtitleTracks)
      fed.set(keyOf(name, lang), trackFor(video, name, lang ?? "", keepCues));
    onTracks([...fed.values()]);
  });
  hls.on(Events.SUBTITLE_TRACKS_UPDATED, follow);
  hls.on(Events.CUES_PARSED, (_, { subtitleTrack, cues }) => {
    const track = subtitleTrack && fed.get(keyOf(subtitleTrack.name, subtitleTrack.lang));
    if (track) addCues(track, cues as VTTCue[]);
  });
  video.textTracks.addEventListener("change", follow);
  return () => video.textTracks.removeEventListener("change", follow);
}

function keyOf(name: string, language: string | undefined): string {
  return `${language ?? ""}|${name}`;
}

function trackFor(video: HTMLVideoElement, name: string, language: string, keepCues: boolean): TextTrack {
  const known = Array.from(video.textTracks).find(
    (track) => made.has(track) && track.label === name && track.language === language,
  );
  const track = known ?? video.addTextTrack("subtitles", name, language);
  made.add(track);
  if (!known) track.mode = "disabled";
  else if (!keepCues) clear(track);
  return track;
}

function addCues(track: TextTrack, cues: readonly VTTCue[]): void {
  if (track.mode === "disabled") track.mode = "hidden"; // a disabled track shows nobody its cues
  for (const cue of cues) if (!track.cues?.getCueById(cue.id)) track.addCue(cue);
}

function clear(track: TextTrack): void {
  track.mode = "hidden";
  for (const cue of Array.from(track.cues ?? [])) track.removeCue(cue);
  track.mode = "disabled";
}
