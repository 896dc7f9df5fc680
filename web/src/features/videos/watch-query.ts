import { queryOptions } from "@tanstack/react-query";
import { api, body } from "@/api/client";

/** A video as everybody may see it. */
export function watchQuery(videoId: string) {
  return queryOptions({
    queryKey: ["watch", videoId],
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/watch/{videoId}", { params: { path: { videoId } }, signal })),
  });
}
