import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { answered, api, body, type Schemas, type VideoDetails, type VideoStatus } from "@/api/client";

export type VideoFilter = { q?: string | undefined; status?: VideoStatus | undefined };

export const videoKeys = {
  all: ["videos"] as const,
  lists: () => ["videos", "list"] as const,
  list: (filter: VideoFilter) => ["videos", "list", filter] as const,
  allDetails: () => ["videos", "details"] as const,
  details: (videoId: string) => ["videos", "details", videoId] as const,
};

const PAGE = 50;

/** The person's videos, newest first, page after page. */
export function videoListQuery(filter: VideoFilter) {
  return infiniteQueryOptions({
    queryKey: videoKeys.list(filter),
    queryFn: ({ pageParam, signal }) =>
      body(
        api.GET("/api/v1/users/me/videos", {
          params: {
            query: {
              limit: PAGE,
              ...(pageParam && { cursor: pageParam }),
              ...(filter.q && { q: filter.q }),
              ...(filter.status && { status: filter.status }),
            },
          },
          signal,
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextCursor ?? undefined,
  });
}

/** The details, with the tag of their metadata for `If-Match`. */
export type TaggedDetails = VideoDetails & { etag: string };

export function videoQuery(videoId: string) {
  return queryOptions({
    queryKey: videoKeys.details(videoId),
    queryFn: async ({ signal }): Promise<TaggedDetails> => {
      const { data, response } = await answered(
        api.GET("/api/v1/videos/{videoId}/details", { params: { path: { videoId } }, signal }),
      );
      return { ...data, etag: response.headers.get("ETag") ?? "" };
    },
  });
}

export function updateMetadata(videoId: string, etag: string | null, changes: Schemas["MetadataRequest"]) {
  return answered(
    api.PUT("/api/v1/videos/{videoId}/metadata", {
      params: { path: { videoId }, header: etag ? { "If-Match": etag } : {} },
      body: changes,
    }),
  );
}

export function deleteVideo(videoId: string) {
  return body(api.DELETE("/api/v1/videos/{videoId}", { params: { path: { videoId } } }));
}
