import { useEffect, useMemo, useState } from "react";

/** The iPhone has no full screen for elements, only its own for a video. */
type AppleVideo = HTMLVideoElement & { webkitEnterFullscreen?: () => void };

export function useFullscreen(
  root: HTMLElement | null,
  video: AppleVideo | null,
): { fullscreen: boolean; toggleFullscreen: (() => void) | null } {
  const [fullscreen, setFullscreen] = useState(false);
  useEffect(() => {
    const read = () => setFullscreen(root !== null && document.fullscreenElement === root);
    document.addEventListener("fullscreenchange", read);
    return () => document.removeEventListener("fullscreenchange", read);
  }, [root]);
  useEffect(() => {
    if (!fullscreen) return;
    // Room kept for a scroll bar would be a bright stripe beside the picture.
    const { style } = document.documentElement;
    style.scrollbarGutter = "auto";
    return () => {
      style.scrollbarGutter = "";
    };
  }, [fullscreen]);
  const toggleFullscreen = useMemo(() => {
    if (root && document.fullscreenEnabled) {
      return () => {
        const change =
          document.fullscreenElement === root ? document.exitFullscreen() : root.requestFullscreen();
        change.catch(() => undefined); // refused, without a gesture say: nothing has changed, and that is seen
      };
    }
    return video?.webkitEnterFullscreen ? () => video.webkitEnterFullscreen?.() : null;
  }, [root, video]);
  return { fullscreen, toggleFullscreen };
}
