import { useSyncExternalStore } from "react";
import { readStored, writeStored } from "./stored";

export type Theme = "system" | "light" | "dark";
const KEY = "echo:theme"; // public/theme.js reads it before the first paint
const listeners = new Set<() => void>();

export function theme(): Theme {
  const stored = readStored(KEY);
  return stored === "light" || stored === "dark" ? stored : "system";
}

export function setTheme(chosen: Theme): void {
  writeStored(KEY, chosen === "system" ? null : chosen);
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  for (const listener of listeners) listener();
}

export function useTheme(): Theme {
  return useSyncExternalStore((listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, theme);
}
