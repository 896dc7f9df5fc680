const key = "echo.player";

export type PlayerSettings = {
  volume: number;
  muted: boolean;
  rate: number;
  /** BCP 47, or empty where the track had none; null: no captions wanted. */
  captionLanguage: string | null;
};

const initial: PlayerSettings = { volume: 1, muted: false, rate: 1, captionLanguage: null };

/** What this browser remembers; values that make no sense become the initial ones. */
export function readSettings(): PlayerSettings {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(key) ?? "{}");
    if (typeof kept !== "object" || kept === null) return initial;
    const { volume, muted, rate, captionLanguage } = kept as Partial<Record<keyof PlayerSettings, unknown>>;
    return {
      volume: typeof volume === "number" && volume >= 0 && volume <= 1 ? volume : initial.volume,
      muted: muted === true,
      rate: typeof rate === "number" && rate >= 0.5 && rate <= 2 ? rate : initial.rate,
      captionLanguage: typeof captionLanguage === "string" ? captionLanguage : null,
    };
  } catch {
    return initial;
  }
}

export function saveSettings(changes: Partial<PlayerSettings>): void {
  try {
    localStorage.setItem(key, JSON.stringify({ ...readSettings(), ...changes }));
  } catch {
    // Storage may be forbidden or full; then the choice lasts as long as the page.
  }
}
