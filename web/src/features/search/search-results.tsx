import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Search, SearchX, Sparkles } from "lucide-react";
import type { SearchHit, SearchResult, TextPart } from "@/api/ai";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/button";
import { Empty } from "@/components/empty";
import { ProblemNote } from "@/components/problem-note";
import { Badge, Skeleton } from "@/components/status";
import { Poster } from "@/features/videos/poster";
import { cn } from "@/lib/cn";
import { formatClock, formatWhen } from "@/lib/format";
import { searchQuery } from "./queries";

export function SearchResults({ q }: { q: string }) {
  const search = useInfiniteQuery(searchQuery(q));
  if (!q) {
    return (
      <Empty icon={<Search />} title="Search in all your videos">
        <p>
          In titles, descriptions and tags, and in what is said. A hit takes you to the second at which it is
          said.
        </p>
      </Empty>
    );
  }
  if (search.isPending) {
    return (
      <div className="grid gap-3" role="status">
        <span className="sr-only">Searching</span>
        {[0, 1, 2].map((row) => (
          <Skeleton key={row} className="h-32 rounded-2xl" />
        ))}
      </div>
    );
  }
  if (search.isError && !search.data) {
    return (
      <ProblemNote problem={asProblem(search.error)}>
        <Button size="sm" onClick={() => search.refetch()}>
          Try again
        </Button>
      </ProblemNote>
    );
  }
  const results = search.data?.pages.flatMap((page) => page.items) ?? [];
  const { hasNextPage, isFetchingNextPage, isFetchNextPageError, isPlaceholderData } = search;
  return (
    <div className={cn("grid gap-4", isPlaceholderData && "opacity-60 transition-opacity")}>
      <p role="status" className={cn("text-muted text-sm", results.length === 0 && "sr-only")}>
        {isPlaceholderData
          ? "Searching"
          : `${results.length}${hasNextPage ? " or more" : ""} ${results.length === 1 ? "video" : "videos"} found`}
      </p>
      {results.length === 0 ? (
        <Empty icon={<SearchX />} title="Nothing found">
          <p>Neither written nor said in any of your videos. Try fewer words, or others for the same.</p>
        </Empty>
      ) : (
        <ol className="grid gap-3" aria-label="Results">
          {results.map((result) => (
            <li key={result.videoId}>
              <Result result={result} />
            </li>
          ))}
        </ol>
      )}
      {isFetchNextPageError && <ProblemNote problem={asProblem(search.error)} />}
      {hasNextPage && (
        <Button className="mx-auto" busy={isFetchingNextPage} onClick={() => search.fetchNextPage()}>
          {isFetchNextPageError ? "Try again" : "More results"}
        </Button>
      )}
    </div>
  );
}

function Result({ result }: { result: SearchResult }) {
  const { videoId, titleParts, posterUrl, durationSeconds, createdAt, matched, hits } = result;
  const written = matched.filter((one) => one === "description" || one === "tags");
  const byMeaning = matched.includes("meaning") && matched.length === 1;
  return (
    <article
      data-video={videoId}
      className="grid gap-x-4 gap-y-3 rounded-2xl border border-line bg-surface p-3 shadow-card sm:grid-cols-[auto_minmax(0,1fr)]"
    >
      <Link
        to="/video/$videoId"
        params={{ videoId }}
        tabIndex={-1}
        aria-hidden="true"
        className="block sm:row-span-2"
      >
        <Poster url={posterUrl} durationSeconds={durationSeconds} className="w-full sm:w-44" />
      </Link>
      <div className="grid min-w-0 content-start gap-1">
        <h2 className="font-semibold wrap-anywhere">
          <Link to="/video/$videoId" params={{ videoId }} className="rounded hover:underline">
            <Parts parts={titleParts} />
          </Link>
        </h2>
        <p className="flex flex-wrap items-center gap-x-2 gap-y-1 text-muted text-xs">
          {formatWhen(createdAt)}
          {written.length > 0 && ` · in the ${written.join(" and the ")}`}
          {byMeaning && (
            <Badge tone="busy">
              <Sparkles className="size-3" aria-hidden="true" /> Found by meaning
            </Badge>
          )}
        </p>
        {hits.length > 0 && (
          <ul className="mt-1 grid gap-0.5" aria-label="Where it is said">
            {hits.map((hit) => (
              <li key={`${hit.track} ${hit.startSeconds}`}>
                <Hit videoId={videoId} hit={hit} />
              </li>
            ))}
          </ul>
        )}
      </div>
    </article>
  );
}

function Hit({ videoId, hit }: { videoId: string; hit: SearchHit }) {
  return (
    <Link
      to="/video/$videoId"
      params={{ videoId }}
      search={{ t: Math.round(hit.startSeconds * 10) / 10 }}
      className="flex gap-3 rounded-lg px-2 py-1.5 text-sm hover:bg-raised"
    >
      <span className="w-14 shrink-0 text-accent tabular-nums">{formatClock(hit.startSeconds)}</span>
      <span className="min-w-0 wrap-anywhere">
        <Parts parts={hit.parts} />
      </span>
    </Link>
  );
}

/** Text with what was searched for marked in it; it comes as parts, so nothing said in a video becomes markup. */
function Parts({ parts }: { parts: readonly TextPart[] }) {
  return parts.map(({ text, match }, at) =>
    match ? (
      // biome-ignore lint/suspicious/noArrayIndexKey: the parts of a text have no other name
      <mark key={at} className="rounded bg-warn-soft px-0.5 font-semibold text-ink">
        {text}
      </mark>
    ) : (
      text
    ),
  );
}
