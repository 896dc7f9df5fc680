import type { CaptionItem, CaptionSource } from "@/api/pending";
import { trackLabel } from "@/features/player/caption-text";

export const SOURCE: Record<CaptionSource, string> = {
  embedded: "from the file",
  transcribed: "automatic, from what is said",
  translated: "automatic, translated",
  uploaded: "uploaded",
  edited: "edited by a person",
};

/** What to call a track among others. */
export function captionLabel({
  title,
  language,
  name,
}: Pick<CaptionItem, "title" | "language" | "name">): string {
  return trackLabel(title, language, name);
}
