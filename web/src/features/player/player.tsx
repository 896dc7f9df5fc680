import { LoaderCircle, Play } from "lucide-react";
import { type KeyboardEvent, type Ref, useEffect, useImperativeHandle, useRef, useState } from "react";
import { Button } from "@/components/button";
import { cn } from "@/lib/cn";
import { Controls, type MenuName } from "./controls";
import { type Command, commandFor, nextRate, SHORTCUTS } from "./keys";
import type { PlayerControl, PlayerSource } from "./types";
import { useCaptionLines } from "./use-captions";
import { useFullscreen } from "./use-fullscreen";
import { useHls } from "./use-hls";
import { useIdle } from "./use-idle";
import { useMedia } from "./use-media";
import { useMediaSession } from "./use-media-session";

export type { PlayerControl, PlayerSource } from "./types";

type PlayerProps = {
  source: PlayerSource;
  className?: string;
  controlRef?: Ref<PlayerControl>;
  /** Fills what it is in, as in somebody's frame; else it has the shape of the video. */
  fill?: boolean;
  /** Gives a fresh `playbackUrl` when the one in use has expired. */
  onExpired?: () => Promise<string | null>;
};

export function Player({ source, className, controlRef, fill = false, onExpired }: PlayerProps) {
  const root = useRef<HTMLDivElement>(null);
  const video = useRef<HTMLVideoElement>(null);
  const media = useMedia(video, source.durationSeconds);
  const stream = useHls({ video, playbackUrl: source.playbackUrl, revision: source.revision, onExpired });
  const [fullscreen, toggleFullscreen] = useFullscreen(root, video);
  const [menu, setMenu] = useState<MenuName>(null);
  const [help, setHelp] = useState(false);
  const [said, setSaid] = useState("");
  const [idle, wake] = useIdle(root, media.paused || menu !== null || help);
  const lines = useCaptionLines(video, stream.tracks.caption);

  const seek = (seconds: number) => {
    if (video.current) video.current.currentTime = Math.min(media.duration || seconds, Math.max(0, seconds));
    wake();
  };
  const act = {
    seek,
    toggle: () => {
      const element = video.current;
      if (!element) return;
      if (element.paused)
        element.play().catch(() => undefined); // the page was left, or the browser wants a click
      else element.pause();
    },
    setVolume: (volume: number) => {
      if (video.current)
        Object.assign(video.current, { volume: Math.min(1, Math.max(0, volume)), muted: false });
    },
    toggleMuted: () => {
      if (video.current) video.current.muted = !video.current.muted;
    },
    setRate: (rate: number) => {
      if (video.current) video.current.playbackRate = rate;
      setSaid(`Speed ${rate}×`);
    },
    setCaption: (id: number) => {
      stream.setCaption(id);
      setSaid(
        id < 0
          ? "Captions off"
          : `Captions: ${stream.tracks.captions.find((one) => one.id === id)?.label ?? "on"}`,
      );
    },
    toggleFullscreen,
    togglePip: () => {
      const leaving = document.pictureInPictureElement;
      (leaving ? document.exitPictureInPicture() : video.current?.requestPictureInPicture())?.catch(
        () => undefined,
      );
    },
  };
  useImperativeHandle(controlRef, () => ({ seek, currentTime: () => video.current?.currentTime ?? 0 }));
  useMediaSession(source, act, media.time);

  const run = (command: Command) => {
    switch (command.do) {
      case "toggle":
        return act.toggle();
      case "seekBy":
        return seek(media.time + command.by);
      case "seekTo":
        return seek(media.duration * command.fraction);
      case "volumeBy":
        return act.setVolume((video.current?.volume ?? 1) + command.by);
      case "mute":
        return act.toggleMuted();
      case "fullscreen":
        return act.toggleFullscreen();
      case "captions":
        return stream.tracks.captions.length ? act.setCaption(stream.tracks.caption < 0 ? 0 : -1) : undefined;
      case "faster":
        return act.setRate(nextRate(media.rate, 1));
      case "slower":
        return act.setRate(nextRate(media.rate, -1));
      case "help":
        return setHelp(!help);
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    wake();
    if (event.key === "Escape" && help) setHelp(false);
    const command = commandFor(event);
    // A focused button takes the space bar for itself.
    if (!command || (event.key === " " && event.target instanceof HTMLButtonElement)) return;
    event.preventDefault();
    run(command);
  };

  const portrait = (source.height ?? 0) > (source.width ?? 1);
  const shape = source.width && source.height ? source.width / source.height : 16 / 9;
  return (
    <section
      ref={root}
      aria-label={`Video player: ${source.title}`}
      // So that a click on the picture makes the shortcuts work.
      tabIndex={-1}
      onKeyDown={onKeyDown}
      className={cn(
        "@container group relative isolate overflow-hidden bg-black outline-none select-none [container-type:size]",
        idle && "cursor-none",
        fill || fullscreen ? "size-full" : "mx-auto w-full",
        portrait && !fill && !fullscreen && "max-h-[80dvh]",
        className,
      )}
      style={
        fill || fullscreen
          ? undefined
          : { aspectRatio: portrait ? Math.max(shape, 9 / 16) : Math.max(shape, 4 / 3) }
      }
    >
      {/* biome-ignore lint/a11y/useMediaCaption: captions come with the stream and are drawn below */}
      <video
        ref={video}
        playsInline
        preload="metadata"
        poster={source.posterUrl ?? undefined}
        className="absolute inset-0 size-full"
        onClick={act.toggle}
        onDoubleClick={(event) => {
          const third = (event.nativeEvent.offsetX / event.currentTarget.clientWidth) * 3;
          if (third < 1) seek(media.time - 10);
          else if (third > 2) seek(media.time + 10);
          else act.toggleFullscreen();
        }}
      />
      {!media.started && !stream.failure && (
        <button
          type="button"
          aria-label="Play the video"
          onClick={() => {
            act.toggle();
            root.current?.focus({ preventScroll: true }); // this button goes; the shortcuts stay
          }}
          className="absolute inset-0 z-10 m-auto grid size-14 @md:size-18 place-items-center rounded-full bg-[#b8321a] text-white shadow-float transition-transform hover:scale-105 focus-visible:outline-white"
        >
          <Play className="ml-1 size-6 fill-current @md:size-8" aria-hidden="true" />
        </button>
      )}
      {media.started && media.waiting && !stream.failure && (
        <LoaderCircle
          aria-hidden="true"
          className="pointer-events-none absolute inset-0 m-auto size-12 animate-[spin_1s_linear_infinite,rise_200ms_400ms_backwards] text-white/90"
        />
      )}
      {lines.length > 0 && (
        <div
          data-captions
          className={cn(
            "pointer-events-none absolute inset-x-4 grid justify-items-center gap-1 text-center transition-[bottom]",
            idle ? "bottom-6" : "bottom-24",
          )}
        >
          {lines.map((line, index) => (
            <p
              // biome-ignore lint/suspicious/noArrayIndexKey: lines have no name, and the same words may be said twice
              key={index}
              className="rounded bg-black/80 px-2 py-0.5 text-[clamp(0.9rem,2.6cqw,1.6rem)] text-white whitespace-pre-line"
            >
              {line}
            </p>
          ))}
        </div>
      )}
      <div
        className={cn(
          "absolute inset-x-0 bottom-0 transition-opacity",
          idle && "pointer-events-none opacity-0",
        )}
        inert={stream.failure !== null}
      >
        <Controls
          source={source}
          media={media}
          stream={stream}
          fullscreen={fullscreen}
          canPip={document.pictureInPictureEnabled}
          menu={menu}
          onMenu={setMenu}
          act={act}
        />
      </div>
      {stream.failure && (
        <div
          role="alert"
          className="absolute inset-0 grid place-content-center justify-items-center gap-4 bg-black/80 p-6 text-center text-white"
        >
          <p>{stream.failure}</p>
          <Button onClick={stream.retry}>Try again</Button>
        </div>
      )}
      {help && <Help onClose={() => setHelp(false)} />}
      <p aria-live="polite" className="sr-only">
        {said}
      </p>
    </section>
  );
}

function Help({ onClose }: { onClose: () => void }) {
  const close = useRef<HTMLButtonElement>(null);
  useEffect(() => close.current?.focus(), []);
  return (
    <div className="absolute inset-0 z-20 grid place-content-center justify-items-center gap-3 overflow-y-auto bg-black/90 p-4 text-sm text-white">
      <h3 className="font-semibold">Keyboard</h3>
      <dl className="grid grid-cols-[auto_auto] gap-x-6 gap-y-1">
        {SHORTCUTS.map(([keys, what]) => (
          <div key={keys} className="contents">
            <dt className="text-white/75">{keys}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <Button ref={close} size="sm" onClick={onClose}>
        Close
      </Button>
    </div>
  );
}
