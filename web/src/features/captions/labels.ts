import type { CaptionItem, CaptionSource } from "@/api/ai";
import { trackLabel } from "@/features/player/caption-text";

const SOURCE: Record<CaptionSource, string> = {
  embedded: "from the file",
  transcribed: "from what is said",
  translated: "translated",
  uploaded: "uploaded",
};

/** Where the captions come from, in a few words. */
export function captionOrigin(track: Pick<CaptionItem, "source" | "edited" | "provider">): string {
  return [SOURCE[track.source], track.provider, track.edited && "edited by a person"]
    .filter(Boolean)
    .join(" · ");
}

/** What to call a track among others. */
export function captionLabel({
  title,
  language,
  name,
}: Pick<CaptionItem, "title" | "language" | "name">): string {
  return trackLabel(title, language, name);
}
