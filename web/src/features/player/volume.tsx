import { Volume1, Volume2, VolumeX } from "lucide-react";
import { type KeyboardEvent, type PointerEvent, useRef } from "react";
import { ControlButton } from "./control-button";

type VolumeProps = {
  volume: number;
  muted: boolean;
  withSlider: boolean;
  onMute(): void;
  onVolume(volume: number): void;
};

export function Volume({ volume, muted, withSlider, onMute, onVolume }: VolumeProps) {
  const bar = useRef<HTMLDivElement>(null);
  const level = muted ? 0 : volume;
  const icon = level === 0 ? VolumeX : level < 0.5 ? Volume1 : Volume2;
  const setAt = (clientX: number) => {
    const box = bar.current?.getBoundingClientRect();
    if (box?.width) onVolume(Math.max(0, Math.min(1, (clientX - box.left) / box.width)));
  };
  const onPointerDown = (event: PointerEvent<HTMLDivElement>) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    setAt(event.clientX);
  };
  const onPointerMove = (event: PointerEvent<HTMLDivElement>) => {
    if (event.currentTarget.hasPointerCapture(event.pointerId)) setAt(event.clientX);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const targets: Record<string, number> = {
      ArrowLeft: level - 0.05,
      ArrowDown: level - 0.05,
      ArrowRight: level + 0.05,
      ArrowUp: level + 0.05,
      PageDown: level - 0.2,
      PageUp: level + 0.2,
      Home: 0,
      End: 1,
    };
    const target = targets[event.key];
    if (target === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    onVolume(Math.max(0, Math.min(1, target)));
  };
  return (
    <div className="flex shrink-0 items-center">
      <ControlButton icon={icon} label={level === 0 ? "Unmute" : "Mute"} shortcut="m" onClick={onMute} />
      {withSlider && (
        <div
          ref={bar}
          role="slider"
          tabIndex={0}
          aria-label="Volume"
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={Math.round(level * 100)}
          aria-valuetext={level === 0 ? "Muted" : `${Math.round(level * 100)} %`}
          className="relative mx-1.5 flex h-9 w-16 cursor-pointer touch-none items-center rounded focus-visible:outline-2 focus-visible:outline-white"
          onPointerDown={onPointerDown}
          onPointerMove={onPointerMove}
          onKeyDown={onKeyDown}
        >
          <div className="h-1 w-full rounded-full bg-white/35">
            <div className="h-full rounded-full bg-white" style={{ width: `${level * 100}%` }} />
          </div>
          <div
            className="absolute size-3 -translate-x-1/2 rounded-full bg-white"
            style={{ left: `${level * 100}%` }}
          />
        </div>
      )}
    </div>
  );
}
