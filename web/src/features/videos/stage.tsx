import { useQueryClient } from "@tanstack/react-query";
import { lazy, type Ref, Suspense } from "react";
import { ErrorBoundary } from "@/components/error-boundary";
import { ProblemNote } from "@/components/problem-note";
import { Progress, Skeleton } from "@/components/status";
import type { PlayerHandle } from "@/features/player/types";
import { ContinueUpload } from "@/features/uploads/continue-upload";
import { uploadSentence } from "@/features/uploads/upload-line";
import { useUploads } from "@/features/uploads/use-uploads";
import { type TaggedDetails, videoQuery } from "./queries";

// hls.js and the controls are as large as all the rest: they come when there is something to play.
const Player = lazy(() => import("@/features/player/player").then(({ Player }) => ({ default: Player })));

type StageProps = {
  video: TaggedDetails;
  control: Ref<PlayerHandle>;
  startAt?: number | undefined;
  onTimeChange?: (seconds: number) => void;
};

/** Where the picture is: the player, or why there is none yet. */
export function Stage({ video, control, startAt, onTimeChange }: StageProps) {
  const queryClient = useQueryClient();
  const upload = useUploads().find((one) => one.videoId === video.videoId && one.state !== "done");
  if (video.playable && video.playbackUrl) {
    const revision = [
      ...video.renditions.map((one) => one.name),
      ...video.captions.map((one) => `${one.name}.${one.version}`),
    ].join(" ");
    return (
      <ErrorBoundary>
        <Suspense fallback={<Skeleton className="aspect-video rounded-2xl" />}>
          <Player
            source={{ ...video, playbackUrl: video.playbackUrl, revision }}
            className="overflow-hidden rounded-2xl"
            controlRef={control}
            startAt={startAt}
            autoPlay={startAt !== undefined}
            {...(onTimeChange && { onTimeChange })}
            onExpired={async () => {
              const fresh = await queryClient.fetchQuery({ ...videoQuery(video.videoId), staleTime: 0 });
              return fresh.playbackUrl;
            }}
          />
        </Suspense>
      </ErrorBoundary>
    );
  }
  return (
    <div className="grid aspect-video content-center justify-items-center gap-3 rounded-2xl border border-line bg-surface p-6 text-center">
      {upload ? (
        <div className="grid w-full max-w-sm gap-2">
          <p className="font-semibold">Uploading</p>
          <Progress label="Upload" percent={(100 * upload.sentBytes) / upload.sizeBytes} />
          <p className="text-muted text-sm">{uploadSentence(upload)}</p>
        </div>
      ) : video.uploadProblem ? (
        <ProblemNote problem={video.uploadProblem} className="max-w-lg text-left" />
      ) : video.status === "awaiting_upload" ? (
        <>
          <p className="font-semibold">The upload is unfinished</p>
          <ContinueUpload videoId={video.videoId} filename={video.filename} sizeBytes={video.sizeBytes} />
        </>
      ) : video.status === "processing" ? (
        <>
          <p className="font-semibold">It can be watched in a moment</p>
          <div className="w-full max-w-sm">
            <Progress label="Processing" percent={video.job?.percent ?? null} />
          </div>
        </>
      ) : (
        <p className="font-semibold text-muted">There is nothing to watch</p>
      )}
    </div>
  );
}
