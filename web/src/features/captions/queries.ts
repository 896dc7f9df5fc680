import { queryOptions } from "@tanstack/react-query";
import type { CaptionCue, CaptionTrack } from "@/api/ai";
import { answered, api, body, once } from "@/api/client";

export const captionKeys = {
  ofVideo: (videoId: string) => ["captions", videoId] as const,
  one: (videoId: string, name: string) => ["captions", videoId, name] as const,
};

export type TaggedTrack = CaptionTrack & { etag: string };

export function captionQuery(videoId: string, name: string) {
  return queryOptions({
    queryKey: captionKeys.one(videoId, name),
    queryFn: async ({ signal }): Promise<TaggedTrack> => {
      const { data, response } = await answered(
        api.GET("/api/v1/videos/{videoId}/captions/{name}", { params: { path: { videoId, name } }, signal }),
      );
      return { ...data, etag: response.headers.get("ETag") ?? "" };
    },
    // The editor holds what is typed; what others save shows as a conflict, never in the middle of a sentence.
    staleTime: 0,
    refetchOnWindowFocus: false,
  });
}

export async function saveCaptions(videoId: string, name: string, etag: string, cues: CaptionCue[]) {
  const { data, response } = await answered(
    api.PUT("/api/v1/videos/{videoId}/captions/{name}", {
      params: { path: { videoId, name }, header: etag ? { "If-Match": etag } : {} },
      body: { cues },
    }),
  );
  return { ...data, etag: response.headers.get("ETag") ?? "" };
}

export function uploadCaptions(videoId: string, language: string, title: string, text: string) {
  return body(
    api.POST("/api/v1/videos/{videoId}/captions", {
      params: { path: { videoId }, header: once() },
      body: { language, text, ...(title && { title }) },
    }),
  );
}

export function deleteCaptions(videoId: string, name: string) {
  return body(
    api.DELETE("/api/v1/videos/{videoId}/captions/{name}", { params: { path: { videoId, name } } }),
  );
}
