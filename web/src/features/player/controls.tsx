import {
  Captions,
  Gauge,
  Languages,
  List,
  Maximize,
  Minimize,
  Pause,
  PictureInPicture2,
  Play,
  RotateCcw,
  Settings2,
  Volume1,
  Volume2,
  VolumeX,
} from "lucide-react";
import { formatClock } from "@/lib/format";
import { ControlButton } from "./control-button";
import { ControlMenu } from "./control-menu";
import { chapterAt, RATES } from "./keys";
import { SeekBar } from "./seek-bar";
import type { PlayerSource } from "./types";
import type { HlsHandle } from "./use-hls";
import type { MediaState } from "./use-media";

export type MenuName = "captions" | "settings" | "chapters" | null;

type ControlsProps = {
  source: PlayerSource;
  media: MediaState;
  stream: HlsHandle;
  fullscreen: boolean;
  canPip: boolean;
  menu: MenuName;
  onMenu: (menu: MenuName) => void;
  act: {
    toggle: () => void;
    seek: (seconds: number) => void;
    setVolume: (volume: number) => void;
    toggleMuted: () => void;
    setRate: (rate: number) => void;
    setCaption: (id: number) => void;
    toggleFullscreen: () => void;
    togglePip: () => void;
  };
};

export function Controls({ source, media, stream, fullscreen, canPip, menu, onMenu, act }: ControlsProps) {
  const { tracks } = stream;
  const VolumeIcon = media.muted || media.volume === 0 ? VolumeX : media.volume < 0.5 ? Volume1 : Volume2;
  const chapter = chapterAt(source.chapters, media.time);
  const settings = [
    ...(tracks.qualities.length > 0
      ? [
          {
            name: "Quality",
            choices: [
              { id: -1, label: tracks.playing ? `Auto (${tracks.playing})` : "Auto" },
              ...tracks.qualities,
            ],
            chosen: tracks.quality,
            onChoose: stream.setQuality,
          },
        ]
      : []),
    {
      name: "Speed",
      choices: RATES.map((rate) => ({ id: rate, label: rate === 1 ? "Normal" : `${rate}×` })),
      chosen: media.rate,
      onChoose: act.setRate,
    },
    ...(tracks.audios.length > 1
      ? [{ name: "Sound", choices: tracks.audios, chosen: tracks.audio, onChoose: stream.setAudio }]
      : []),
  ];
  const opener = (name: MenuName) => ({
    open: menu === name,
    onOpen: (open: boolean) => onMenu(open ? name : null),
  });
  return (
    <div className="pointer-events-none grid bg-linear-to-t from-black/85 to-transparent px-3 pt-10 pb-1.5 text-white *:pointer-events-auto">
      <SeekBar
        time={media.time}
        duration={media.duration}
        bufferedEnd={media.bufferedEnd}
        chapters={source.chapters}
        storyboardUrl={source.storyboardUrl}
        onSeek={act.seek}
      />
      <div className="flex items-center">
        <ControlButton
          label={media.ended ? "Play again" : media.paused ? "Play" : "Pause"}
          onClick={act.toggle}
        >
          {media.ended ? <RotateCcw /> : media.paused ? <Play /> : <Pause />}
        </ControlButton>
        <div className="group/volume flex items-center">
          <ControlButton label={media.muted ? "Unmute" : "Mute"} onClick={act.toggleMuted}>
            <VolumeIcon />
          </ControlButton>
          <input
            type="range"
            aria-label="Volume"
            aria-valuetext={`${Math.round(media.volume * 100)} %`}
            min={0}
            max={1}
            step={0.05}
            value={media.muted ? 0 : media.volume}
            onChange={(event) => act.setVolume(event.target.valueAsNumber)}
            onKeyDown={(event) => event.stopPropagation()}
            className="h-1 w-0 cursor-pointer accent-white opacity-0 transition-[width,opacity] group-focus-within/volume:w-16 group-focus-within/volume:opacity-100 group-hover/volume:w-16 group-hover/volume:opacity-100 @max-md:hidden"
          />
        </div>
        <p className="min-w-0 flex-1 truncate px-2 text-sm">
          {formatClock(media.time)}
          <span className="text-white/75"> / {formatClock(media.duration)}</span>
          {chapter && <span className="text-white/75 @max-md:hidden"> · {chapter.title}</span>}
        </p>
        {source.chapters.length > 0 && (
          <ControlMenu
            label="Chapters"
            icon={<List />}
            groups={[
              {
                name: "Chapters",
                choices: source.chapters.map(({ startSeconds, title }) => ({
                  id: startSeconds,
                  label: `${formatClock(startSeconds)}  ${title}`,
                })),
                chosen: chapter?.startSeconds ?? -1,
                onChoose: act.seek,
              },
            ]}
            {...opener("chapters")}
          />
        )}
        {tracks.captions.length > 0 && (
          <ControlMenu
            label="Captions"
            icon={tracks.caption >= 0 ? <Captions className="fill-white/30" /> : <Captions />}
            groups={[
              {
                name: "Captions",
                choices: [{ id: -1, label: "Off" }, ...tracks.captions],
                chosen: tracks.caption,
                onChoose: act.setCaption,
              },
            ]}
            {...opener("captions")}
          />
        )}
        <ControlMenu
          label={tracks.audios.length > 1 ? "Quality, speed and sound" : "Quality and speed"}
          icon={media.rate !== 1 ? <Gauge /> : tracks.audios.length > 1 ? <Languages /> : <Settings2 />}
          groups={settings}
          {...opener("settings")}
        />
        {canPip && (
          <ControlButton label="Picture in picture" onClick={act.togglePip} className="@max-sm:hidden">
            <PictureInPicture2 />
          </ControlButton>
        )}
        <ControlButton
          label={fullscreen ? "Leave full screen" : "Full screen"}
          onClick={act.toggleFullscreen}
        >
          {fullscreen ? <Minimize /> : <Maximize />}
        </ControlButton>
      </div>
    </div>
  );
}
