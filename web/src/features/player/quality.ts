/** What a rendition is chosen by; the fields are those of hls.js. */
export type LevelShape = { width: number; height: number; frameRate: number; bitrate: number };

export type Quality = { level: number; label: string; lines: number };

/** 1280×720 → "720p"; the short side counts, so an upright 720×1280 is 720p too; fast ones carry their rate. */
export function qualityLabel({ width, height, frameRate, bitrate }: LevelShape): string {
  const lines = linesOf(width, height);
  if (!lines) return `${Math.max(1, Math.round(bitrate / 1000))} kbit/s`;
  return `${lines}p${frameRate >= 48 ? Math.round(frameRate) : ""}`;
}

/** One entry for each label, the best of its name, the largest first. */
export function qualitiesOf(levels: readonly LevelShape[]): Quality[] {
  const best = new Map<string, Quality & { bitrate: number }>();
  levels.forEach((shape, level) => {
    const label = qualityLabel(shape);
    const known = best.get(label);
    if (known && known.bitrate >= shape.bitrate) return;
    best.set(label, { level, label, lines: linesOf(shape.width, shape.height), bitrate: shape.bitrate });
  });
  return [...best.values()]
    .sort((a, b) => b.lines - a.lines || b.bitrate - a.bitrate)
    .map(({ level, label, lines }) => ({ level, label, lines }));
}

/** "Auto (720p)" while the player chooses and something plays. */
export function autoLabel(playing: string | null): string {
  return playing ? `Auto (${playing})` : "Auto";
}

function linesOf(width: number, height: number): number {
  return width > 0 && height > 0 ? Math.min(width, height) : height || 0;
}
