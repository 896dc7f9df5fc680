import { type RefObject, useEffect, useState } from "react";

type IphoneVideo = HTMLVideoElement & { webkitEnterFullscreen?: () => void };

/** Whether the player fills the screen, and how to change it; an iPhone can only fill it with the bare video. */
export function useFullscreen(
  root: RefObject<HTMLElement | null>,
  video: RefObject<HTMLVideoElement | null>,
): [boolean, () => void] {
  const [full, setFull] = useState(false);
  useEffect(() => {
    const read = () =>
      setFull(document.fullscreenElement !== null && document.fullscreenElement === root.current);
    document.addEventListener("fullscreenchange", read);
    return () => document.removeEventListener("fullscreenchange", read);
  }, [root]);
  const toggle = () => {
    if (document.fullscreenElement) void document.exitFullscreen();
    else if (root.current?.requestFullscreen)
      root.current.requestFullscreen().catch(() => undefined); // a frame may forbid it
    else (video.current as IphoneVideo | null)?.webkitEnterFullscreen?.();
  };
  return [full, toggle];
}
