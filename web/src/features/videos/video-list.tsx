import { useInfiniteQuery } from "@tanstack/react-query";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { Film, SearchX } from "lucide-react";
import { type ReactNode, useCallback, useLayoutEffect, useState } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/button";
import { Empty } from "@/components/empty";
import { ProblemNote } from "@/components/problem-note";
import { Spinner } from "@/components/spinner";
import { Skeleton } from "@/components/status";
import { usePolling } from "@/features/live/live";
import { type VideoFilter, videoListQuery } from "./queries";
import { VideoRow } from "./video-row";

const ROW_PX = 118;
const GAP_PX = 10;

/** The person's videos. Only the rows in sight exist in the page, so a thousand scroll like ten. */
export function VideoList({ filter, uploadButton }: { filter: VideoFilter; uploadButton: ReactNode }) {
  const list = useInfiniteQuery({ ...videoListQuery(filter), refetchInterval: usePolling() });
  const videos = list.data?.pages.flatMap((page) => page.items) ?? [];
  const [offset, setOffset] = useState(0);
  const start = useCallback((list: HTMLUListElement | null) => setOffset(list?.offsetTop ?? 0), []);
  const rows = useWindowVirtualizer({
    count: videos.length,
    estimateSize: () => ROW_PX,
    gap: GAP_PX,
    overscan: 6,
    scrollMargin: offset,
    getItemKey: (index) => videos[index]?.videoId ?? index,
  });
  const visible = rows.getVirtualItems();
  const { hasNextPage, isFetchingNextPage, isFetchNextPageError, fetchNextPage } = list;
  const nearEnd = (visible.at(-1)?.index ?? 0) >= videos.length - 10;
  useLayoutEffect(() => {
    if (nearEnd && hasNextPage && !isFetchingNextPage && !isFetchNextPageError) void fetchNextPage();
  }, [nearEnd, hasNextPage, isFetchingNextPage, isFetchNextPageError, fetchNextPage]);

  if (list.isPending) {
    return (
      <div className="grid gap-2.5" role="status">
        <span className="sr-only">Loading your videos</span>
        {[0, 1, 2, 3, 4].map((row) => (
          <Skeleton key={row} className="h-[118px] rounded-2xl" />
        ))}
      </div>
    );
  }
  if (list.isError && videos.length === 0) {
    return (
      <ProblemNote problem={asProblem(list.error)}>
        <Button size="sm" onClick={() => list.refetch()}>
          Try again
        </Button>
      </ProblemNote>
    );
  }
  if (videos.length === 0) {
    return filter.q || filter.status ? (
      <Empty icon={<SearchX />} title="Nothing matches">
        <p>Search looks at titles and file names. Try fewer letters, or another filter.</p>
      </Empty>
    ) : (
      <Empty icon={<Film />} title="Your first video">
        <p>
          Drop a file anywhere on this page, or choose one. It can be watched seconds after it has arrived.
        </p>
        {uploadButton}
      </Empty>
    );
  }
  return (
    <>
      <ul ref={start} className="relative" style={{ height: rows.getTotalSize() }} aria-label="My videos">
        {visible.map((row) => {
          const video = videos[row.index];
          return (
            video && (
              <li
                key={row.key}
                aria-setsize={hasNextPage ? -1 : videos.length}
                aria-posinset={row.index + 1}
                className="absolute inset-x-0 top-0"
                style={{ height: ROW_PX, translate: `0 ${row.start - offset}px` }}
              >
                <VideoRow video={video} />
              </li>
            )
          );
        })}
      </ul>
      {isFetchingNextPage && (
        <div className="grid place-items-center py-6">
          <Spinner label="Loading more videos" />
        </div>
      )}
      {isFetchNextPageError && (
        <ProblemNote problem={asProblem(list.error)} className="mt-4">
          <Button size="sm" onClick={() => fetchNextPage()}>
            Load more
          </Button>
        </ProblemNote>
      )}
    </>
  );
}
