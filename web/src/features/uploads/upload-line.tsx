import { Link } from "@tanstack/react-router";
import { CircleCheck, Pause, Play, RotateCcw, X } from "lucide-react";
import { useState } from "react";
import { Button } from "@/components/button";
import { ConfirmDialog } from "@/components/dialog";
import { Progress } from "@/components/status";
import { formatBytes, formatEta } from "@/lib/format";
import {
  cancelUpload,
  dismissUpload,
  isActive,
  isRefused,
  pauseUpload,
  resumeUpload,
  type Upload,
} from "./manager";

/** What one upload does now, in a few words. */
export function uploadSentence(upload: Upload): string {
  const sent = `${formatBytes(upload.sentBytes)} of ${formatBytes(upload.sizeBytes)}`;
  switch (upload.state) {
    case "waiting":
      return "Waits for the uploads before it";
    case "starting":
      if (upload.holdup) return "Waiting for the network";
      return upload.continued ? "Finding where it stopped" : "Starting";
    case "paused":
      return `Paused at ${sent}`;
    case "finishing":
      return upload.holdup ? "Waiting for the network" : "Finishing";
    case "done":
      return "Uploaded";
    case "failed":
      return upload.sentBytes ? `Stopped at ${sent}` : "Not uploaded";
    case "uploading":
      if (upload.holdup === "offline") return `Offline at ${sent}; goes on by itself`;
      if (upload.holdup === "retrying") return `The network is unsteady; trying again at ${sent}`;
      return [
        sent,
        upload.bytesPerSecond !== null && `${formatBytes(upload.bytesPerSecond)}/s`,
        upload.etaSeconds !== null && formatEta(upload.etaSeconds),
      ]
        .filter(Boolean)
        .join(" · ");
  }
}

export function UploadLine({ upload }: { upload: Upload }) {
  const [asking, setAsking] = useState(false);
  const percent = (100 * upload.sentBytes) / Math.max(1, upload.sizeBytes);
  const cancel = () => {
    if (upload.state === "failed" && !upload.videoId) dismissUpload(upload.key);
    else setAsking(true);
  };
  return (
    <li className="grid grid-cols-1 gap-2 px-4 py-3" data-upload={upload.name}>
      <div className="flex items-center gap-1">
        <div className="min-w-0 flex-1">
          {upload.videoId ? (
            <Link
              to="/video/$videoId"
              params={{ videoId: upload.videoId }}
              className="block truncate font-medium text-sm hover:underline"
              title={upload.name}
            >
              {upload.name}
            </Link>
          ) : (
            <p className="truncate font-medium text-sm" title={upload.name}>
              {upload.name}
            </p>
          )}
          <p className="truncate text-muted text-xs">{uploadSentence(upload)}</p>
        </div>
        {["waiting", "starting", "uploading"].includes(upload.state) && (
          <Button
            variant="ghost"
            size="icon-sm"
            aria-label={`Pause ${upload.name}`}
            onClick={() => pauseUpload(upload.key)}
          >
            <Pause />
          </Button>
        )}
        {(upload.state === "paused" || (upload.state === "failed" && !isRefused(upload))) && (
          <Button
            variant="ghost"
            size="icon-sm"
            aria-label={`${upload.state === "paused" ? "Resume" : "Try again"}: ${upload.name}`}
            onClick={() => resumeUpload(upload.key)}
          >
            {upload.state === "paused" ? <Play /> : <RotateCcw />}
          </Button>
        )}
        {upload.state === "done" ? (
          <Button
            variant="ghost"
            size="icon-sm"
            aria-label={`Dismiss ${upload.name}`}
            onClick={() => dismissUpload(upload.key)}
          >
            <CircleCheck className="text-good" />
          </Button>
        ) : (
          <Button variant="ghost" size="icon-sm" aria-label={`Cancel ${upload.name}`} onClick={cancel}>
            <X />
          </Button>
        )}
      </div>
      {(isActive(upload) || upload.state === "paused") && (
        <Progress
          label={`Upload of ${upload.name}`}
          percent={upload.state === "finishing" ? null : percent}
          tone={upload.state === "paused" || upload.holdup ? "plain" : "busy"}
        />
      )}
      {upload.problem && (
        <p role="alert" className="text-bad text-xs wrap-anywhere">
          {upload.problem.message} {upload.problem.remedy}
        </p>
      )}
      <ConfirmDialog
        open={asking}
        onClose={() => setAsking(false)}
        title="Cancel this upload?"
        confirmLabel="Cancel upload"
        stayLabel="Go on"
        onConfirm={() => cancelUpload(upload.key)}
      >
        What was sent of “{upload.name}” is deleted.
      </ConfirmDialog>
    </li>
  );
}
