import type { InfiniteData, QueryClient } from "@tanstack/react-query";
import { api, body, type Schemas, type VideoDetails, type VideoItem } from "@/api/client";
import { type VideoFilter, videoKeys, videoQuery } from "./queries";

type Pages = InfiniteData<Schemas["VideoList"]>;

/**
 * Bring what the lists show up to date with one request for each, however many pages have been scrolled through: the
 * newest page is merged into what is there, and the named videos that are older are read one by one.
 */
export async function refreshLists(queryClient: QueryClient, videoIds: ReadonlySet<string>): Promise<void> {
  void queryClient.invalidateQueries({ queryKey: videoKeys.lists(), type: "inactive", refetchType: "none" });
  const lists = queryClient.getQueryCache().findAll({ queryKey: videoKeys.lists(), type: "active" });
  await Promise.all(
    lists.map(async ({ queryKey }) => {
      const filter = (queryKey[2] ?? {}) as VideoFilter;
      const query = { ...(filter.q && { q: filter.q }), ...(filter.status && { status: filter.status }) };
      const newest = await body(
        api.GET("/api/v1/users/me/videos", { params: { query: { limit: 50, ...query } } }),
      );
      queryClient.setQueryData<Pages>(queryKey, (pages) => pages && mergeNewest(pages, newest));
      const here = new Set(newest.items.map((item) => item.videoId));
      for (const videoId of videoIds) {
        if (here.has(videoId) || !isListed(queryClient.getQueryData<Pages>(queryKey), videoId)) continue;
        const details = await queryClient.fetchQuery({ ...videoQuery(videoId), staleTime: 0 });
        const { job, ...video } = details;
        queryClient.setQueryData<Pages>(
          queryKey,
          (pages) =>
            pages &&
            mapItems(pages, (item) =>
              item.videoId === videoId
                ? { ...item, ...pick(video), jobId: job?.jobId ?? item.jobId, percent: item.percent }
                : item,
            ),
        );
      }
    }),
  );
}

function pick(video: Omit<VideoDetails, "job">): Partial<VideoItem> {
  const { status, title, visibility, updatedAt, durationSeconds, width, height, playable, posterUrl } = video;
  return { status, title, visibility, updatedAt, durationSeconds, width, height, playable, posterUrl };
}

function isListed(pages: Pages | undefined, videoId: string): boolean {
  return pages?.pages.some((page) => page.items.some((item) => item.videoId === videoId)) ?? false;
}

function mapItems(pages: Pages, change: (item: VideoItem) => VideoItem): Pages {
  return { ...pages, pages: pages.pages.map((page) => ({ ...page, items: page.items.map(change) })) };
}

/** Lay the newest page over pages that were read earlier: what is known is replaced in place, what is new comes first. */
export function mergeNewest(pages: Pages, newest: Schemas["VideoList"]): Pages {
  const [first, ...rest] = pages.pages;
  if (!first || rest.length === 0) return { ...pages, pages: [newest] };
  const fresh = new Map(newest.items.map((item) => [item.videoId, item]));
  const oldest = newest.items.at(-1)?.videoId ?? "";
  const keep = (items: VideoItem[]) =>
    // Ids rise with time (UUIDv7): what should be in the newest page and is not there is gone.
    items.filter((item) => fresh.has(item.videoId) || item.videoId < oldest);
  const known = new Set(pages.pages.flatMap((page) => page.items.map((item) => item.videoId)));
  const added = newest.items.filter((item) => !known.has(item.videoId));
  return {
    ...pages,
    pages: [
      { ...first, items: [...added, ...keep(first.items).map((item) => fresh.get(item.videoId) ?? item)] },
      ...rest.map((page) => ({
        ...page,
        items: keep(page.items).map((item) => fresh.get(item.videoId) ?? item),
      })),
    ],
  };
}
