import type { VideoStatus, Visibility } from "@/api/client";
import type { Tone } from "@/components/status";

export const STATUS: Record<VideoStatus, { label: string; tone: Tone }> = {
  awaiting_upload: { label: "Upload unfinished", tone: "warn" },
  processing: { label: "Processing", tone: "busy" },
  playable: { label: "Playable", tone: "busy" },
  ready: { label: "Ready", tone: "good" },
  failed: { label: "Failed", tone: "bad" },
  cancelled: { label: "Cancelled", tone: "plain" },
};

export const VISIBILITY: Record<Visibility, { label: string; hint: string }> = {
  private: { label: "Private", hint: "Only you can watch it." },
  unlisted: { label: "Unlisted", hint: "Everybody with the link can watch it." },
  public: { label: "Public", hint: "Everybody can watch it, and search engines may find it." },
};
