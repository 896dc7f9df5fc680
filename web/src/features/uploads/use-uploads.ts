import { useSyncExternalStore } from "react";
import { currentUploads, subscribeUploads, type Upload } from "./manager";

export function useUploads(): readonly Upload[] {
  return useSyncExternalStore(subscribeUploads, currentUploads);
}
