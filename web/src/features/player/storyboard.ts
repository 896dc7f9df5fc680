export type Tile = {
  startSeconds: number;
  endSeconds: number;
  url: string;
  x: number;
  y: number;
  width: number;
  height: number;
};

const timing = /^((?:\d+:)?\d{1,2}:\d{2}[.,]\d{3})[ \t]+-->[ \t]+((?:\d+:)?\d{1,2}:\d{2}[.,]\d{3})/;
const fragment = /^(.*)#xywh=(?:pixel:)?(\d+),(\d+),(\d+),(\d+)$/;

/**
 * Read a WebVTT storyboard: cues of `address#xywh=x,y,w,h`, addresses relative to `baseUrl`.
 *
 * Cues that are something else are left out. The tiles are in order of their start.
 */
export function parseStoryboard(vtt: string, baseUrl: string): Tile[] {
  const tiles: Tile[] = [];
  for (const block of vtt.replace(/\r\n?/g, "\n").split(/\n{2,}/)) {
    const lines = block.split("\n").map((line) => line.trim());
    const at = lines.findIndex((line) => timing.test(line));
    const times = timing.exec(lines[at] ?? "");
    const place = fragment.exec(lines[at + 1] ?? "");
    if (!times?.[1] || !times[2] || !place) continue;
    const url = resolve(place[1] ?? "", baseUrl);
    const [x = 0, y = 0, width = 0, height = 0] = place.slice(2).map(Number);
    const [startSeconds, endSeconds] = [secondsOf(times[1]), secondsOf(times[2])];
    if (!url || !width || !height || endSeconds <= startSeconds) continue;
    tiles.push({ startSeconds, endSeconds, url, x, y, width, height });
  }
  return tiles.sort((a, b) => a.startSeconds - b.startSeconds);
}

/** The tile for a time: the one that is on, or the last before it; null before the first. */
export function tileAt(tiles: readonly Tile[], seconds: number): Tile | null {
  let low = 0;
  let high = tiles.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((tiles[middle]?.startSeconds ?? 0) <= seconds) low = middle + 1;
    else high = middle;
  }
  return tiles[low - 1] ?? null;
}

function secondsOf(clock: string): number {
  return clock
    .replace(",", ".")
    .split(":")
    .reduce((sum, part) => sum * 60 + Number(part), 0);
}

function resolve(address: string, baseUrl: string): string | null {
  try {
    const url = new URL(address, baseUrl);
    return /^https?:$/.test(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
