import { useQuery } from "@tanstack/react-query";
import { createFileRoute, Link } from "@tanstack/react-router";
import { ArrowLeft } from "lucide-react";
import { asProblem } from "@/api/problem";
import { FullPageProblem, PageNotFound } from "@/components/full-page";
import { Skeleton } from "@/components/status";
import { useSession } from "@/features/auth/session";
import { CaptionEditor } from "@/features/captions/caption-editor";
import { captionLabel, captionOrigin } from "@/features/captions/labels";
import { captionQuery } from "@/features/captions/queries";
import { videoQuery } from "@/features/videos/queries";

export const Route = createFileRoute("/_app/video/$videoId_/captions/$name")({
  loader: ({ context, params }) => {
    void context.queryClient.prefetchQuery(videoQuery(params.videoId));
    void context.queryClient.prefetchQuery(captionQuery(params.videoId, params.name));
  },
  head: () => ({ meta: [{ title: "Captions · Echo" }] }),
  component: Page,
});

function Page() {
  const { videoId, name } = Route.useParams();
  const session = useSession();
  const video = useQuery(videoQuery(videoId));
  const track = useQuery(captionQuery(videoId, name));
  for (const query of [video, track]) {
    if (!query.isError || query.data) continue;
    const problem = asProblem(query.error);
    if (problem.status === 404 || problem.status === 422) return <PageNotFound />;
    return <FullPageProblem problem={problem} onRetry={() => void query.refetch()} />;
  }
  return (
    <div className="grid gap-5">
      <Link
        to="/video/$videoId"
        params={{ videoId }}
        className="inline-flex w-fit items-center gap-2 text-muted text-sm wrap-anywhere hover:text-ink"
      >
        <ArrowLeft className="size-4 shrink-0" aria-hidden="true" /> {video.data?.title ?? "The video"}
      </Link>
      <div>
        <h1 className="font-bold text-2xl tracking-tight sm:text-3xl">
          {track.data ? `Captions: ${captionLabel(track.data)}` : "Captions"}
        </h1>
        {track.data && <p className="text-muted text-sm">{captionOrigin(track.data)}</p>}
      </div>
      {video.data && track.data && session ? (
        <CaptionEditor
          key={`${videoId} ${name}`}
          video={video.data}
          track={track.data}
          userId={session.user.id}
        />
      ) : (
        <div className="grid gap-5 lg:grid-cols-2" role="status">
          <span className="sr-only">Loading the captions</span>
          <Skeleton className="aspect-video rounded-2xl" />
          <Skeleton className="h-96 rounded-2xl" />
        </div>
      )}
    </div>
  );
}
