import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createFileRoute, Link, useNavigate } from "@tanstack/react-router";
import { ArrowLeft, Trash2 } from "lucide-react";
import { useRef, useState } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { ConfirmDialog } from "@/components/dialog";
import { FullPageProblem, PageNotFound } from "@/components/full-page";
import { Badge, Skeleton } from "@/components/status";
import { toast } from "@/components/toast";
import { useSession } from "@/features/auth/session";
import { TrackList } from "@/features/captions/track-list";
import { JobSummary } from "@/features/jobs/job-summary";
import { usePolling } from "@/features/live/live";
import type { PlayerHandle } from "@/features/player/types";
import { SuggestionsPanel } from "@/features/suggestions/suggestions-panel";
import { cancelUpload, currentUploads } from "@/features/uploads/manager";
import { Facts } from "@/features/videos/facts";
import { MetadataEditor } from "@/features/videos/metadata-editor";
import { deleteVideo, videoKeys, videoQuery } from "@/features/videos/queries";
import { SharePanel } from "@/features/videos/share-panel";
import { Stage } from "@/features/videos/stage";
import { STATUS } from "@/features/videos/status-words";
import { startAtOf } from "@/lib/start-at";

export const Route = createFileRoute("/_app/video/$videoId")({
  validateSearch: (search): { t?: number | undefined } => ({ t: startAtOf(search.t) }),
  loader: ({ context, params }) => void context.queryClient.prefetchQuery(videoQuery(params.videoId)),
  head: () => ({ meta: [{ title: "Video · Echo" }] }),
  component: Page,
});

function Page() {
  const { videoId } = Route.useParams();
  const { t } = Route.useSearch();
  const session = useSession();
  const polling = usePolling();
  const details = useQuery({
    ...videoQuery(videoId),
    refetchInterval: ({ state }) => (state.data?.status === "ready" ? false : polling),
  });
  const player = useRef<PlayerHandle>(null);
  const [asking, setAsking] = useState(false);

  if (details.isError && !details.data) {
    const problem = asProblem(details.error);
    if (problem.status === 404 || problem.status === 422) return <PageNotFound />;
    return <FullPageProblem problem={problem} onRetry={() => void details.refetch()} />;
  }
  const video = details.data;
  if (!video || !session) return <Loading />;
  const status = STATUS[video.status];
  return (
    <div className="grid gap-5">
      <title>{`${video.title} · Echo`}</title>
      <Link
        to="/dashboard"
        className="inline-flex w-fit items-center gap-2 text-muted text-sm hover:text-ink"
      >
        <ArrowLeft className="size-4" aria-hidden="true" /> My videos
      </Link>
      <div className="flex flex-wrap items-center gap-3">
        <h1 className="min-w-0 font-bold text-2xl tracking-tight wrap-anywhere sm:text-3xl">{video.title}</h1>
        <Badge tone={status.tone}>{status.label}</Badge>
      </div>
      <div className="grid items-start gap-5 lg:grid-cols-[minmax(0,1fr)_22rem]">
        <div className="grid min-w-0 gap-5">
          <Stage video={video} control={player} startAt={t} />
          <Card title="Details">
            <MetadataEditor
              key={video.videoId}
              video={video}
              userId={session.user.id}
              now={() => player.current?.currentTime() ?? 0}
              onSeek={(seconds) => player.current?.seek(seconds)}
            />
          </Card>
        </div>
        <div className="grid min-w-0 gap-5">
          {video.job && (
            <Card title="Processing">
              <JobSummary jobId={video.job.jobId} link />
            </Card>
          )}
          <Card title="Suggestions">
            <SuggestionsPanel video={video} />
          </Card>
          <Card title="Captions">
            <TrackList video={video} />
          </Card>
          <Card title="Share">
            <SharePanel videoId={videoId} title={video.title} visibility={video.visibility} />
          </Card>
          <Card title="Files and facts">
            <Facts video={video} />
          </Card>
          <Button variant="danger" className="w-fit" onClick={() => setAsking(true)}>
            <Trash2 /> Delete this video
          </Button>
        </div>
      </div>
      <DeleteDialog videoId={videoId} title={video.title} open={asking} onClose={() => setAsking(false)} />
    </div>
  );
}

type DeleteDialogProps = { videoId: string; title: string; open: boolean; onClose: () => void };

function DeleteDialog({ videoId, title, open, onClose }: DeleteDialogProps) {
  const queryClient = useQueryClient();
  const navigate = useNavigate();
  const remove = async () => {
    const upload = currentUploads().find((one) => one.videoId === videoId && one.state !== "done");
    await (upload ? cancelUpload(upload.key) : deleteVideo(videoId));
    await navigate({ to: "/dashboard", ignoreBlocker: true });
    queryClient.removeQueries({ queryKey: videoKeys.details(videoId) });
    void queryClient.invalidateQueries({ queryKey: videoKeys.lists() });
    toast.good("Deleted", { text: title });
  };
  return (
    <ConfirmDialog
      open={open}
      onClose={onClose}
      title="Delete this video?"
      confirmLabel="Delete for ever"
      onConfirm={remove}
    >
      “{title}” with its original, all renditions and its link are gone at once. This cannot be undone.
    </ConfirmDialog>
  );
}

function Loading() {
  return (
    <div className="grid gap-5" role="status">
      <span className="sr-only">Loading the video</span>
      <Skeleton className="h-9 w-2/3" />
      <div className="grid items-start gap-5 lg:grid-cols-[minmax(0,1fr)_22rem]">
        <Skeleton className="aspect-video rounded-2xl" />
        <Skeleton className="h-64 rounded-2xl" />
      </div>
    </div>
  );
}
