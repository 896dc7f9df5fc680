import {
  AudioLines,
  Captions as CaptionsIcon,
  Gauge,
  Maximize,
  Minimize,
  Pause,
  PictureInPicture2,
  Play,
  RotateCcw,
  Settings,
  SlidersHorizontal,
  TableOfContents,
} from "lucide-react";
import { cn } from "@/lib/cn";
import { formatClock } from "@/lib/format";
import { trackLabel } from "./caption-text";
import { chapterIndexAt, chapterTitleAt } from "./chapters";
import { ControlButton } from "./control-button";
import { speeds } from "./keyboard";
import { type MenuSection, PlayerMenu } from "./menu";
import type { Playback } from "./playback";
import type { PlaybackState } from "./playback-state";
import { autoLabel } from "./quality";
import { SeekBar } from "./seek-bar";
import type { PlayerChapter, PlayerSource } from "./types";
import type { PlayerActions } from "./use-actions";
import type { Captions } from "./use-captions";
import { type MediaState, usePosition } from "./use-media";
import { Volume } from "./volume";

type ControlsProps = {
  video: HTMLVideoElement | null;
  playback: Playback;
  state: PlaybackState;
  media: MediaState;
  source: PlayerSource;
  captions: Captions;
  actions: PlayerActions;
  durationSeconds: number;
  fullscreen: boolean;
  size: { width: number; height: number };
  visible: boolean;
  openMenu: string | null;
  onOpenMenu(id: string | null): void;
  onScrub(scrubbing: boolean): void;
};

/** Below this width the menus share one button. */
const wideFrom = 600;

export function Controls(props: ControlsProps) {
  const { video, playback, media, source, captions, actions, durationSeconds, size, visible } = props;
  const { openMenu, onOpenMenu, fullscreen } = props;
  const sections = useSections(props);
  const wide = size.width >= wideFrom;
  const own = wide ? sections : sections.filter((section) => section.id === "captions");
  const more = wide ? [] : sections.filter((section) => section.id !== "captions");
  if (!wide && actions.togglePictureInPicture) more.push(pictureInPicture(actions.togglePictureInPicture));
  const clockFrom = durationSeconds >= 3600 ? 420 : 340;
  const playLabel = media.ended ? "Play again" : media.paused ? "Play" : "Pause";
  const menuProps = (id: string) => ({
    open: openMenu === id,
    onOpenChange: (open: boolean) => onOpenMenu(open ? id : null),
    playerHeight: size.height,
  });
  return (
    <div
      data-controls=""
      className={cn(
        "pointer-events-none absolute inset-x-0 bottom-0 bg-linear-to-t from-black/90 via-black/65 to-transparent px-2 pt-12 pb-1 transition-opacity duration-200 sm:px-3",
        visible && "*:pointer-events-auto",
        // A tap on what is not seen only shows it; a mouse has shown it by coming there.
        !visible && "opacity-0 *:pointer-events-auto any-pointer-coarse:*:pointer-events-none",
      )}
    >
      <div className="px-1.5">
        <SeekBar
          video={video}
          playback={playback}
          durationSeconds={durationSeconds}
          chapters={source.chapters}
          storyboardUrl={source.storyboardUrl}
          onScrub={props.onScrub}
        />
      </div>
      <div className="flex items-center gap-0.5">
        <ControlButton
          icon={media.ended ? RotateCcw : media.paused ? Play : Pause}
          label={playLabel}
          shortcut="k"
          edge="left"
          onClick={actions.togglePlay}
          className="[&_svg]:fill-current"
        />
        <Volume
          volume={media.volume}
          muted={media.muted}
          withSlider={size.width >= 480}
          onMute={actions.toggleMute}
          onVolume={actions.setVolume}
        />
        <Clock
          video={video}
          playback={playback}
          durationSeconds={durationSeconds}
          short={size.width < clockFrom}
          chapters={wide ? source.chapters : none}
        />
        <div className="grow" />
        {more.length > 0 && (
          <PlayerMenu label="Settings" icon={Settings} sections={more} {...menuProps("more")} />
        )}
        {own.map((section) => (
          <PlayerMenu
            key={section.id}
            label={section.label}
            icon={section.icon}
            sections={[section]}
            lit={section.id === "captions" && captions.chosen !== null}
            {...menuProps(section.id)}
          />
        ))}
        {wide && actions.togglePictureInPicture && (
          <ControlButton
            icon={PictureInPicture2}
            label={media.pictureInPicture ? "Leave picture in picture" : "Picture in picture"}
            aria-pressed={media.pictureInPicture}
            edge={actions.toggleFullscreen ? undefined : "right"}
            onClick={actions.togglePictureInPicture}
          />
        )}
        {actions.toggleFullscreen && (
          <ControlButton
            icon={fullscreen ? Minimize : Maximize}
            label={fullscreen ? "Leave full screen" : "Full screen"}
            shortcut="f"
            edge="right"
            onClick={actions.toggleFullscreen}
          />
        )}
      </div>
    </div>
  );
}

type ClockProps = {
  video: HTMLVideoElement | null;
  playback: Playback;
  durationSeconds: number;
  short: boolean;
  chapters: readonly PlayerChapter[];
};

const none: readonly PlayerChapter[] = [];

function Clock({ video, playback, durationSeconds, short, chapters }: ClockProps) {
  const position = usePosition(video, playback);
  const chapter = chapterTitleAt(chapters, position);
  return (
    <>
      <span className="shrink-0 px-1.5 text-sm whitespace-nowrap text-white tabular-nums">
        {formatClock(position)}
        {!short && ` / ${formatClock(durationSeconds)}`}
      </span>
      {chapter && (
        <span className="min-w-0 truncate text-sm text-white/85" data-testid="chapter">
          {chapter}
        </span>
      )}
    </>
  );
}

function pictureInPicture(toggle: () => void): MenuSection {
  const icon = PictureInPicture2;
  return {
    id: "pip",
    label: "Picture in picture",
    icon,
    summary: "",
    value: "",
    choices: [],
    choose: toggle,
  };
}

const off = "off";
const auto = "auto";

function useSections({
  video,
  playback,
  state,
  media,
  source,
  captions,
  actions,
}: ControlsProps): MenuSection[] {
  const position = usePosition(video, playback);
  const { chapters } = source;
  const sections: MenuSection[] = [];
  if (chapters.length > 0) {
    const at = chapterIndexAt(chapters, position);
    sections.push({
      id: "chapters",
      label: "Chapters",
      icon: TableOfContents,
      summary: chapters[at]?.title ?? "",
      value: String(at),
      choices: chapters.map(({ title, startSeconds }, index) => ({
        value: String(index),
        label: title,
        detail: formatClock(startSeconds),
      })),
      choose: (value) => playback.seek(chapters[Number(value)]?.startSeconds ?? 0),
    });
  }
  if (state.audioTracks.length > 1) {
    const tracks = state.audioTracks.map(({ id, name, language }) => ({
      value: String(id),
      label: trackLabel(name, language, `Sound ${id + 1}`),
    }));
    const value = String(state.audioTrack);
    sections.push({
      id: "audio",
      label: "Sound track",
      icon: AudioLines,
      summary: tracks.find((track) => track.value === value)?.label ?? "",
      value,
      choices: tracks,
      choose: (id) => playback.chooseAudio(Number(id)),
    });
  }
  sections.push({
    id: "speed",
    label: "Speed",
    icon: Gauge,
    summary: speedLabel(media.rate),
    value: String(media.rate),
    choices: speeds.map((speed) => ({ value: String(speed), label: speedLabel(speed) })),
    choose: (value) => actions.setSpeed(Number(value)),
  });
  if (state.qualities.length > 0) {
    const first = autoLabel(state.chosen === null ? state.playing : null);
    sections.push({
      id: "quality",
      label: "Quality",
      icon: SlidersHorizontal,
      summary: state.chosen ?? first,
      value: state.chosen ?? auto,
      choices: [
        { value: auto, label: first },
        ...state.qualities.map(({ label }) => ({ value: label, label })),
      ],
      choose: (value) => playback.choose(value === auto ? null : value),
    });
  }
  if (captions.tracks.length > 0) {
    sections.push({
      id: "captions",
      label: "Captions",
      icon: CaptionsIcon,
      summary: captions.chosen?.label ?? "Off",
      value: captions.chosen?.id ?? off,
      choices: [
        { value: off, label: "Off" },
        ...captions.tracks.map(({ id, label }) => ({ value: id, label })),
      ],
      choose: (id) => actions.chooseCaptions(captions.tracks.find((track) => track.id === id) ?? null),
    });
  }
  return sections;
}

function speedLabel(rate: number): string {
  return rate === 1 ? "Normal" : `${rate}×`;
}
