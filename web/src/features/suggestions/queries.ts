import type { SuggestedValue } from "@/api/ai";
import { api, body, once } from "@/api/client";

/** Take a suggestion over; with a value of one's own it counts as edited. */
export function acceptSuggestion(videoId: string, suggestionId: string, value?: SuggestedValue) {
  return body(
    api.POST("/api/v1/videos/{videoId}/suggestions/{suggestionId}/accept", {
      params: { path: { videoId, suggestionId }, header: once() },
      body: value === undefined ? {} : { value },
    }),
  );
}

export function rejectSuggestion(videoId: string, suggestionId: string) {
  return body(
    api.POST("/api/v1/videos/{videoId}/suggestions/{suggestionId}/reject", {
      params: { path: { videoId, suggestionId }, header: once() },
    }),
  );
}

/** Ask the providers again; the answer is the job that does so. */
export function rerunSuggestions(videoId: string) {
  return body(
    api.POST("/api/v1/videos/{videoId}/suggestions/rerun", {
      params: { path: { videoId }, header: once() },
      body: {},
    }),
  );
}
