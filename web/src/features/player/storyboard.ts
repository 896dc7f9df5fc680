/** One little picture: part of a sheet, shown from `start` (inclusive) to `end` (exclusive), in seconds. */
export type Tile = {
  start: number;
  end: number;
  url: string;
  x: number;
  y: number;
  width: number;
  height: number;
};

const TIMING = /^\s*((?:\d+:)?\d{1,2}:\d{1,2}\.\d{1,3})\s+-->\s+((?:\d+:)?\d{1,2}:\d{1,2}\.\d{1,3})/;
const PART = /^(.*)#xywh=(?:pixel:)?(\d+),(\d+),(\d+),(\d+)\s*$/;

/** The tiles of a WebVTT whose cues are `address#xywh=x,y,w,h`, in order of time; cues that are something else are left out. */
export function parseStoryboard(text: string, baseUrl: string): Tile[] {
  const tiles: Tile[] = [];
  for (const block of text.replace(/\r\n?/g, "\n").split(/\n{2,}/)) {
    const lines = block.split("\n");
    const at = lines.findIndex((line) => TIMING.test(line));
    const timing = TIMING.exec(lines[at] ?? "");
    const part = PART.exec(lines[at + 1] ?? "");
    if (!timing?.[1] || !timing[2] || !part) continue;
    const [x, y, width, height] = part.slice(2).map(Number) as [number, number, number, number];
    if (!width || !height) continue;
    const url = new URL(part[1] ?? "", baseUrl).href;
    tiles.push({ start: seconds(timing[1]), end: seconds(timing[2]), url, x, y, width, height });
  }
  return tiles.sort((one, other) => one.start - other.start);
}

function seconds(clock: string): number {
  return clock.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
}

/** The tile for a moment: the last that has begun. */
export function tileAt(tiles: readonly Tile[], time: number): Tile | undefined {
  let [low, high] = [0, tiles.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((tiles[middle]?.start ?? 0) <= time) low = middle + 1;
    else high = middle;
  }
  return tiles[low - 1] ?? tiles[0];
}
