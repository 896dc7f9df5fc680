import type { components } from "./schema";

/* Names for what the API says of captions, suggestions, search and costs. */

type Schemas = components["schemas"];

export type CaptionSource = Schemas["CaptionItem"]["source"];
export type CaptionItem = Schemas["CaptionItem"];
export type CaptionCue = Schemas["CueItem"];
export type CaptionTrack = Schemas["CaptionTrack"];

export type SuggestedField = "title" | "description" | "tags" | "chapters" | "language";
export type SuggestedChapter = Schemas["ChapterItem"];
export type SuggestedValue = string | string[] | SuggestedChapter[];
export type TimeSpan = Schemas["EvidenceItem"];
/** Tags are texts and chapters are chapters: the API's own type cannot say which field has which. */
export type Suggestion = Omit<Schemas["Suggestion"], "field" | "value" | "current"> & {
  field: SuggestedField;
  value: SuggestedValue;
  current: SuggestedValue;
};

export type AiTotals = Schemas["AITotals"];
export type AiCall = Schemas["AICall"];
export type AiDay = Schemas["AIDay"];
export type AiUsage = Schemas["AIUsage"];

export type TextPart = Schemas["TextPart"];
export type SearchHit = Schemas["SearchHit"];
export type SearchResult = Schemas["FoundVideo"];
export type SearchPage = Schemas["SearchResults"];
export type InstanceAi = Schemas["InstanceAI"];

/** The server's suggestions, each value in the shape of its field. */
export function suggestionsOf(items: Schemas["Suggestion"][]): Suggestion[] {
  return items as Suggestion[];
}
