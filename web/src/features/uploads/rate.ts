const WINDOW_MS = 8000;

/** How fast bytes go, over the last seconds. */
export class Rate {
  private samples: { atMs: number; bytes: number }[] = [];

  add(atMs: number, bytes: number): void {
    const last = this.samples.at(-1);
    if (last && bytes < last.bytes) this.samples = []; // fell back after a failure: what was measured means nothing
    this.samples.push({ atMs, bytes });
    while (this.samples.length > 2 && (this.samples[0]?.atMs ?? 0) < atMs - WINDOW_MS) this.samples.shift();
  }

  reset(): void {
    this.samples = [];
  }

  /** Bytes a second; null until enough was seen. */
  bytesPerSecond(): number | null {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (!first || !last || last.atMs - first.atMs < 500) return null;
    return ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs);
  }
}
