import { type MouseEvent, type PointerEvent, useRef } from "react";

type SurfaceProps = {
  controlsVisible: boolean;
  onToggle(): void;
  onFullscreen: (() => void) | null;
  onSkip(seconds: number): void;
  onShow(): void;
  onHide(): void;
};

const doubleTapMs = 300;

/** What lies over the picture: a click plays or pauses; a tap shows the controls, two at a side skip 10 s. */
export function Surface({ controlsVisible, onToggle, onFullscreen, onSkip, onShow, onHide }: SurfaceProps) {
  const touched = useRef(false);
  const lastTap = useRef<{ at: number; side: number }>({ at: 0, side: 0 });
  const visibleAtPress = useRef(true);

  const onPointerDown = (event: PointerEvent) => {
    touched.current = event.pointerType === "touch";
    visibleAtPress.current = controlsVisible;
  };
  const onClick = (event: MouseEvent<HTMLDivElement>) => {
    if (!touched.current) return onToggle();
    const box = event.currentTarget.getBoundingClientRect();
    const place = (event.clientX - box.left) / box.width;
    const side = place < 0.4 ? -1 : place > 0.6 ? 1 : 0;
    const again = event.timeStamp - lastTap.current.at < doubleTapMs && side === lastTap.current.side;
    lastTap.current = { at: event.timeStamp, side };
    if (again && side !== 0) onSkip(side * 10);
    else if (visibleAtPress.current) onHide();
    else onShow();
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: a larger target for what buttons and keys do as well
    // biome-ignore lint/a11y/useKeyWithClickEvents: the player's keys do the same
    <div
      className="absolute inset-0 touch-manipulation select-none"
      onPointerDown={onPointerDown}
      onClick={onClick}
      onDoubleClick={() => !touched.current && onFullscreen?.()}
    />
  );
}
