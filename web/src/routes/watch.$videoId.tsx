import { useQuery } from "@tanstack/react-query";
import { createFileRoute, Link } from "@tanstack/react-router";
import { useRef } from "react";
import { asProblem } from "@/api/problem";
import { FullPageProblem, FullPageSpinner, PageNotFound } from "@/components/full-page";
import { Logo } from "@/components/logo";
import type { PlayerHandle } from "@/features/player/types";
import { PublicPlayer } from "@/features/videos/public-player";
import { watchQuery } from "@/features/videos/watch-query";
import { formatClock, formatWhen } from "@/lib/format";
import { startAtOf } from "@/lib/start-at";

export const Route = createFileRoute("/watch/$videoId")({
  validateSearch: (search): { t?: number | undefined } => ({ t: startAtOf(search.t) }),
  loader: ({ context, params }) => void context.queryClient.prefetchQuery(watchQuery(params.videoId)),
  component: Page,
});

function Page() {
  const { videoId } = Route.useParams();
  const { t } = Route.useSearch();
  const watch = useQuery(watchQuery(videoId));
  const player = useRef<PlayerHandle>(null);
  if (watch.isPending) return <FullPageSpinner />;
  if (watch.isError) {
    const problem = asProblem(watch.error);
    if (problem.status === 404 || problem.status === 422) return <PageNotFound />;
    return <FullPageProblem problem={problem} onRetry={() => void watch.refetch()} />;
  }
  const video = watch.data;
  return (
    <>
      <title>{`${video.title} · Echo`}</title>
      <header className="mx-auto flex h-16 max-w-5xl items-center px-4 sm:px-6">
        <Link to="/" aria-label="Echo" className="rounded-lg">
          <Logo />
        </Link>
      </header>
      <main className="mx-auto grid max-w-5xl gap-5 px-4 pb-20 sm:px-6">
        <div className="max-sm:-mx-4">
          <PublicPlayer
            video={video}
            control={player}
            startAt={t}
            className="overflow-hidden sm:rounded-2xl"
          />
        </div>
        <div className="grid gap-1">
          <h1 className="font-bold text-2xl tracking-tight wrap-anywhere sm:text-3xl">{video.title}</h1>
          <p className="text-muted text-sm">{formatWhen(video.createdAt)}</p>
        </div>
        <div className="grid items-start gap-8 md:grid-cols-[minmax(0,1fr)_18rem]">
          {video.description && <p className="whitespace-pre-line wrap-anywhere">{video.description}</p>}
          {video.chapters.length > 0 && (
            <nav aria-label="Chapters" className="grid gap-1 md:col-start-2 md:row-start-1">
              <h2 className="font-semibold">Chapters</h2>
              <ol className="grid">
                {video.chapters.map((chapter) => (
                  <li key={chapter.startSeconds}>
                    <button
                      type="button"
                      className="flex w-full gap-3 rounded-lg px-2 py-1.5 text-left text-sm hover:bg-raised"
                      onClick={() => player.current?.seek(chapter.startSeconds)}
                    >
                      <span className="w-14 shrink-0 text-accent">{formatClock(chapter.startSeconds)}</span>
                      <span className="wrap-anywhere">{chapter.title}</span>
                    </button>
                  </li>
                ))}
              </ol>
            </nav>
          )}
        </div>
        {video.tags.length > 0 && (
          <ul aria-label="Tags" className="flex flex-wrap gap-2">
            {video.tags.map((tag) => (
              <li key={tag} className="rounded-md bg-raised px-2 py-0.5 text-muted text-sm">
                {tag}
              </li>
            ))}
          </ul>
        )}
      </main>
    </>
  );
}
