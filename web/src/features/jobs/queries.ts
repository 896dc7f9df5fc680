import { queryOptions } from "@tanstack/react-query";
import { api, body, once } from "@/api/client";

export const jobKeys = {
  all: ["jobs"] as const,
  one: (jobId: string) => ["jobs", jobId] as const,
};

export function jobQuery(jobId: string) {
  return queryOptions({
    queryKey: jobKeys.one(jobId),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/videos/jobs/{jobId}", { params: { path: { jobId } }, signal })),
  });
}

export function cancelJob(jobId: string) {
  return body(
    api.POST("/api/v1/videos/jobs/{jobId}/cancel", { params: { path: { jobId }, header: once() } }),
  );
}

/** Run again what did not succeed, or one step with all that depends on it. */
export function retryJob(jobId: string, step?: string) {
  return body(
    api.POST("/api/v1/videos/jobs/{jobId}/retry", {
      params: { path: { jobId }, header: once() },
      ...(step && { body: { step } }),
    }),
  );
}
