/** Draw what the video shows; false where it shows nothing yet. */
export function drawPicture(video: HTMLVideoElement, canvas: HTMLCanvasElement | null): boolean {
  const picture = canvas?.getContext("2d");
  if (!canvas || !picture || video.readyState < 2 || video.played.length === 0) return false;
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  picture.drawImage(video, 0, 0);
  return true;
}

export function isBuffered({ buffered }: HTMLVideoElement, seconds: number): boolean {
  for (let at = 0; at < buffered.length; at += 1) {
    if (buffered.start(at) <= seconds + 0.1 && seconds < buffered.end(at)) return true;
  }
  return false;
}
