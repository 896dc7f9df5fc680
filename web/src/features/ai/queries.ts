import { queryOptions } from "@tanstack/react-query";
import { api, body } from "@/api/client";

export const DAYS = 30;

/** What the person's videos have cost, day by day. */
export const aiUsageQuery = queryOptions({
  queryKey: ["ai", "usage"],
  queryFn: ({ signal }) =>
    body(api.GET("/api/v1/users/me/ai-usage", { params: { query: { days: DAYS } }, signal })),
});

/** Every call to a provider for one video. */
export function aiCallsQuery(videoId: string) {
  return queryOptions({
    queryKey: ["ai", "calls", videoId],
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/videos/{videoId}/ai-usage", { params: { path: { videoId } }, signal })),
  });
}
