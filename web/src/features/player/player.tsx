import { type KeyboardEvent, type Ref, useCallback, useEffect, useImperativeHandle, useState } from "react";
import { cn } from "@/lib/cn";
import { CaptionLayer } from "./captions";
import { Controls } from "./controls";
import { actionOf, isTakenBy } from "./keyboard";
import { BigPlay, ProblemNotice, ShortcutList, Toast, Waiting } from "./overlays";
import { Surface } from "./surface";
import type { PlayerHandle, PlayerProblem, PlayerSource } from "./types";
import { useActions } from "./use-actions";
import { useActivity, useDelayed, useToast } from "./use-activity";
import { useCaptions } from "./use-captions";
import { useFullscreen } from "./use-fullscreen";
import { useMedia } from "./use-media";
import { useMediaSession } from "./use-media-session";
import { usePlayback } from "./use-playback";
import { useSize } from "./use-size";

export type PlayerProps = {
  source: PlayerSource;
  /** Begin at this second instead of the start; another value on the same video goes there. */
  startAt?: number | undefined;
  /** Try to: a browser that does not permit it leaves the video paused. */
  autoPlay?: boolean;
  className?: string;
  /** Fill the parent, as an embedded player does, instead of taking the video's shape. */
  fill?: boolean;
  controlRef?: Ref<PlayerHandle>;
  onTimeChange?(seconds: number): void;
  /** A failure that the player shows to the person; null: it is over. */
  onProblem?(problem: PlayerProblem | null): void;
  /** The addresses have run out: give a new `playbackUrl`, or null if there is none. */
  onExpired?(): Promise<string | null>;
};

const spinnerAfterMs = 400;

export function Player(props: PlayerProps) {
  const { source, startAt, autoPlay = false, className, fill = false, controlRef } = props;
  const { onTimeChange, onProblem, onExpired } = props;
  const [root, setRoot] = useState<HTMLElement | null>(null);
  const [video, setVideo] = useState<HTMLVideoElement | null>(null);
  const [canvas, setCanvas] = useState<HTMLCanvasElement | null>(null);
  const [openMenu, setOpenMenu] = useState<string | null>(null);
  const [help, setHelp] = useState(false);
  const [scrubbing, setScrubbing] = useState(false);

  const [playback, state] = usePlayback(video, canvas, { source, autoPlay, startAt, onExpired, onProblem });
  const media = useMedia(video);
  const captions = useCaptions(video, source.captions, state.captionTracks);
  const size = useSize(root);
  const { fullscreen, toggleFullscreen } = useFullscreen(root, video);
  const { toast, spoken, say } = useToast();
  const { active, wake, sleep } = useActivity(root);
  const toggleHelp = useCallback(() => setHelp((open) => !open), []);
  const actions = useActions({ video, playback, captions, toggleFullscreen, say, toggleHelp });
  const { started, paused } = media;
  useMediaSession(video, playback, { title: source.title, posterUrl: source.posterUrl, started, paused });
  useImperativeHandle(
    controlRef,
    () => ({
      seek: (seconds) => playback.seek(seconds),
      currentTime: () => playback.position(),
      togglePlay: actions.togglePlay,
      play: () => void video?.play().catch(() => undefined),
    }),
    [playback, actions, video],
  );
  useEffect(() => {
    if (!video || !onTimeChange) return;
    const tell = () => onTimeChange(playback.position());
    const gone = new AbortController();
    for (const name of ["timeupdate", "seeking"]) video.addEventListener(name, tell, gone);
    return () => gone.abort();
  }, [video, playback, onTimeChange]);

  const visible = paused || active || openMenu !== null || scrubbing || help;
  const small = size.height < 260;
  const waiting = useDelayed(media.waiting && !state.problem, spinnerAfterMs);
  const durationSeconds = media.durationSeconds ?? source.durationSeconds ?? 0;
  const shape = source.width && source.height ? `${source.width} / ${source.height}` : "16 / 9";
  const ownCaptions = state.captionTracks?.length === 0 ? source.captions : [];

  const onKeyDown = (event: KeyboardEvent) => {
    wake();
    if (event.defaultPrevented || isTakenBy(event.target, event.key)) return;
    const action = actionOf(event);
    if (!action) return;
    event.preventDefault();
    actions.perform(action);
  };
  const closeHelp = () => {
    setHelp(false);
    root?.focus();
  };

  return (
    <section
      ref={setRoot}
      aria-label={`Video player: ${source.title}`}
      tabIndex={-1}
      onKeyDown={onKeyDown}
      onPointerMove={(event) => event.pointerType !== "touch" && wake()}
      onPointerLeave={(event) => event.pointerType === "mouse" && sleep()}
      onFocus={wake}
      className={cn(
        "relative isolate overflow-hidden bg-black text-white focus:outline-none [&:fullscreen]:rounded-none",
        fill ? "size-full" : "max-h-[80dvh] min-h-40 w-full rounded-xl",
        !visible && "cursor-none",
        className,
      )}
      style={fill ? undefined : { aspectRatio: shape }}
    >
      {/* biome-ignore lint/a11y/useMediaCaption: the captions are tracks of the playlist; these are for a playlist without any */}
      <video
        ref={setVideo}
        poster={source.posterUrl ?? undefined}
        playsInline
        preload="metadata"
        className="absolute inset-0 size-full object-contain"
      >
        {ownCaptions.map(({ name, url, language, title }) => (
          <track key={name} kind="subtitles" src={url} srcLang={language} label={title || name} />
        ))}
      </video>
      <canvas
        ref={setCanvas}
        className={cn("absolute inset-0 size-full object-contain", !state.frozen && "hidden")}
      />
      <Surface
        controlsVisible={visible}
        onToggle={actions.togglePlay}
        onFullscreen={toggleFullscreen}
        onSkip={(seconds) => actions.perform({ do: "skip", seconds })}
        onShow={wake}
        onHide={sleep}
      />
      <CaptionLayer cues={captions.cues} playerWidth={size.width} aboveControls={visible} />
      {waiting && <Waiting />}
      {!waiting && !state.problem && (started ? visible && !small : true) && (
        <BigPlay
          paused={paused}
          started={started}
          small={small}
          onToggle={() => {
            root?.focus(); // the button goes away, the keys shall not
            actions.togglePlay();
          }}
        />
      )}
      <Controls
        video={video}
        playback={playback}
        state={state}
        media={media}
        source={source}
        captions={captions}
        actions={actions}
        durationSeconds={durationSeconds}
        fullscreen={fullscreen}
        size={size}
        visible={visible}
        openMenu={openMenu}
        onOpenMenu={setOpenMenu}
        onScrub={setScrubbing}
      />
      <Toast text={toast} />
      {state.problem && <ProblemNotice problem={state.problem} onRetry={() => playback.retry()} />}
      {help && <ShortcutList onClose={closeHelp} />}
      <p className="sr-only" aria-live="polite">
        {spoken}
      </p>
    </section>
  );
}
