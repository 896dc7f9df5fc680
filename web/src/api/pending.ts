import type { components, paths } from "./schema";

/*
 * Operations for captions, suggestions, search and costs, written by hand in the form of the generated types: once
 * `openapi.json` has an operation, its entry here goes.
 */

type Problem = components["schemas"]["Problem"];
type Json<T> = { content: { "application/json": T } };
type Op<Parameters, Status extends number, Answer, Body = never> = ([Body] extends [never]
  ? { requestBody?: never }
  : { requestBody: Json<Body> }) & {
  parameters: Parameters;
  responses: { [status in Status]: Json<Answer> } & {
    default: { content: { "application/problem+json": Problem } };
  };
};
type Nothing = { query?: never; header?: never; path?: never };
type OfVideo = { path: { videoId: string } };
type OfTrack = { path: { videoId: string; name: string } };
type OfSuggestion = {
  path: { videoId: string; suggestionId: string };
  header?: { "Idempotency-Key"?: string };
};

export type CaptionSource = "embedded" | "transcribed" | "translated" | "uploaded";

export type CaptionItem = components["schemas"]["CaptionItem"] & {
  /** As a machine made them. */
  automatic: boolean;
  srtUrl: string | null;
  source: CaptionSource;
  edited: boolean;
  provider: string;
  /** 0: kept only as the file that came, so that it cannot be edited. */
  version: number;
};

export type CaptionCue = { startSeconds: number; endSeconds: number; text: string };

export type CaptionTrack = {
  name: string;
  language: string;
  title: string;
  forced: boolean;
  source: CaptionSource;
  edited: boolean;
  provider: string;
  model: string;
  version: number;
  cues: CaptionCue[];
  updatedAt: string;
};

export type SuggestedField = "title" | "description" | "tags" | "chapters" | "language";
export type SuggestedChapter = { startSeconds: number; title: string };
export type SuggestedValue = string | string[] | SuggestedChapter[];
export type TimeSpan = { startSeconds: number; endSeconds: number };

export type Suggestion = {
  id: string;
  field: SuggestedField;
  value: SuggestedValue;
  current: SuggestedValue;
  state: "pending" | "accepted" | "edited" | "rejected" | "superseded";
  provider: string;
  model: string;
  promptVersion: string;
  evidence: TimeSpan[];
  costUsd: number;
  locked: boolean;
  auto: boolean;
  createdAt: string;
  decidedAt: string | null;
};

export type AiTotals = { costUsd: number; inputTokens: number; outputTokens: number; calls: number };

export type AiCall = {
  step: string;
  capability: string;
  provider: string;
  model: string;
  promptVersion: string;
  inputTokens: number;
  outputTokens: number;
  mediaSeconds: number;
  costUsd: number;
  state: "reserved" | "settled";
  at: string;
};

export type AiDay = AiTotals & {
  date: string;
  mediaSeconds: number;
  byProvider: { provider: string; model: string; costUsd: number; calls: number }[];
};

export type AiUsage = { today: AiTotals; budgetPerDayUsd: number | null; days: AiDay[] };

export type TextPart = { text: string; match: boolean };
export type SearchHit = TimeSpan & { track: string; parts: TextPart[] };
export type SearchResult = {
  videoId: string;
  title: TextPart[];
  posterUrl: string | null;
  durationSeconds: number | null;
  createdAt: string;
  status: components["schemas"]["VideoStatus"];
  score: number;
  matched: ("title" | "description" | "tags" | "speech" | "meaning")[];
  hits: SearchHit[];
};
export type SearchPage = { items: SearchResult[]; nextCursor: string | null; semantic: boolean };

export type InstanceAi = {
  transcribe: string[];
  describe: string[];
  translate: string[];
  embed: string[];
  translateTo: string[];
  acceptSuggestions: string | boolean;
};

export type Instance = components["schemas"]["Instance"] & { ai?: InstanceAi };

export type VideoDetails = Omit<components["schemas"]["VideoDetails"], "captions" | "suggestions"> & {
  captions: CaptionItem[];
  suggestions: Suggestion[];
  ai?: AiTotals;
};

type Details = "/api/v1/videos/{videoId}/details";
type InstancePath = "/api/v1/instance";

export type PendingPaths = {
  [path in Details]: { get: Op<OfVideo, 200, VideoDetails> };
} & {
  [path in InstancePath]: { get: Op<Nothing, 200, Instance> };
} & {
  "/api/v1/videos/{videoId}/suggestions/{suggestionId}/accept": {
    post: Op<OfSuggestion, 200, Suggestion, { value?: SuggestedValue }>;
  };
  "/api/v1/videos/{videoId}/suggestions/{suggestionId}/reject": { post: Op<OfSuggestion, 200, Suggestion> };
  "/api/v1/videos/{videoId}/suggestions/rerun": {
    post: Op<
      OfVideo & { header?: { "Idempotency-Key"?: string } },
      202,
      components["schemas"]["Job"],
      { steps?: string[] }
    >;
  };
  "/api/v1/videos/{videoId}/captions": {
    post: Op<
      OfVideo & { header?: { "Idempotency-Key"?: string } },
      201,
      CaptionTrack,
      { language: string; title?: string; text: string; name?: string }
    >;
  };
  "/api/v1/videos/{videoId}/captions/{name}": {
    get: Op<OfTrack, 200, CaptionTrack>;
    put: Op<
      OfTrack & { header?: { "If-Match"?: string } },
      200,
      CaptionTrack,
      { language?: string; title?: string; cues: CaptionCue[] }
    >;
    delete: Op<OfTrack, 204, undefined>;
  };
  "/api/v1/search": {
    get: Op<{ query: { q: string; limit?: number; cursor?: string } }, 200, SearchPage>;
  };
  "/api/v1/users/me/ai-usage": { get: Op<{ query?: { days?: number } }, 200, AiUsage> };
  "/api/v1/videos/{videoId}/ai-usage": {
    get: Op<OfVideo, 200, { items: AiCall[]; totals: AiTotals }>;
  };
};

export type Paths = Omit<paths, keyof PendingPaths> & PendingPaths;
