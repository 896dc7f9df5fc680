import { Link } from "@tanstack/react-router";
import { EyeOff, Globe, Link as LinkIcon, Lock } from "lucide-react";
import type { VideoItem } from "@/api/client";
import { Badge, Progress } from "@/components/status";
import { useJob } from "@/features/jobs/use-job";
import { ContinueUpload } from "@/features/uploads/continue-upload";
import { uploadSentence } from "@/features/uploads/upload-line";
import { useUploads } from "@/features/uploads/use-uploads";
import { formatBytes, formatEta, formatWhen } from "@/lib/format";
import { Poster } from "./poster";
import { STATUS, VISIBILITY } from "./status-words";

const visibilityIcons = { private: Lock, unlisted: LinkIcon, public: Globe };

export function VideoRow({ video }: { video: VideoItem }) {
  const status = STATUS[video.status];
  const Visibility = visibilityIcons[video.visibility] ?? EyeOff;
  const facts = [
    formatWhen(video.createdAt),
    video.height && video.width && `${Math.min(video.width, video.height)}p`,
    video.sizeBytes && formatBytes(video.sizeBytes),
  ].filter(Boolean);
  return (
    <article
      data-video={video.videoId}
      className="group relative flex h-full items-center gap-4 rounded-2xl border border-line bg-surface p-3 shadow-card transition-colors hover:border-edge"
    >
      <Poster url={video.posterUrl} durationSeconds={video.durationSeconds} className="w-28 sm:w-40" />
      <div className="grid min-w-0 flex-1 content-center gap-1">
        <h2 className="truncate font-semibold">
          <Link
            to="/video/$videoId"
            params={{ videoId: video.videoId }}
            className="outline-none after:absolute after:inset-0 after:rounded-2xl focus-visible:after:outline-2 focus-visible:after:outline-accent"
          >
            {video.title}
          </Link>
        </h2>
        <p className="flex min-w-0 items-center gap-1.5 truncate text-muted text-xs">
          <span title={VISIBILITY[video.visibility].hint} className="inline-flex">
            <Visibility className="size-3.5" aria-hidden="true" />
            <span className="sr-only">{VISIBILITY[video.visibility].label}</span>
          </span>
          {facts.join(" · ")}
        </p>
        <RowProgress video={video} />
      </div>
      <Badge tone={status.tone} className="self-start max-sm:hidden">
        {status.label}
      </Badge>
    </article>
  );
}

/** The second line: what happens to the video now. */
function RowProgress({ video }: { video: VideoItem }) {
  const upload = useUploads().find((one) => one.videoId === video.videoId && one.state !== "done");
  if (upload) {
    return (
      <div className="grid gap-1.5">
        <Progress
          label={`Upload of ${video.title}`}
          percent={(100 * upload.sentBytes) / upload.sizeBytes}
          tone={upload.state === "uploading" && !upload.holdup ? "busy" : "plain"}
        />
        <p className="truncate text-muted text-xs">{uploadSentence(upload)}</p>
      </div>
    );
  }
  if (video.status === "awaiting_upload") {
    return <ContinueUpload videoId={video.videoId} filename={video.filename} sizeBytes={video.sizeBytes} />;
  }
  if ((video.status === "processing" || video.status === "playable") && video.jobId) {
    return (
      <JobProgress
        jobId={video.jobId}
        title={video.title}
        percent={video.percent}
        playable={video.playable}
      />
    );
  }
  if (video.status === "failed" && video.jobId) return <FailureReason jobId={video.jobId} />;
  return <p className="text-xs sm:hidden">{STATUS[video.status].label}</p>;
}

function FailureReason({ jobId }: { jobId: string }) {
  const { data } = useJob(jobId);
  return <p className="truncate text-bad text-xs">{data?.error?.message ?? "Failed"}</p>;
}

function JobProgress(props: { jobId: string; title: string; percent: number | null; playable: boolean }) {
  const job = useJob(props.jobId);
  const percent = Math.max(job.data?.percent ?? 0, props.percent ?? 0);
  const told = [
    job.data?.state === "queued" || (job.data?.queuePosition ?? 0) > 0
      ? `Waiting${job.data?.queuePosition ? `, place ${job.data.queuePosition} in the queue` : ""}`
      : `${Math.floor(percent)} %`,
    job.data?.etaSeconds != null && formatEta(job.data.etaSeconds),
    props.playable && "can be watched already",
  ];
  return (
    <div className="grid gap-1.5">
      <Progress label={`Processing of ${props.title}`} percent={percent} />
      <p className="truncate text-muted text-xs">{told.filter(Boolean).join(" · ")}</p>
    </div>
  );
}
