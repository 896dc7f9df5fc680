import { toast } from "@/components/toast";
import { useSession } from "@/features/auth/session";
import { formatBytes } from "@/lib/format";
import { addFiles } from "./manager";
import { UploadButton } from "./upload-button";

type ContinueUploadProps = { videoId: string; filename: string; sizeBytes: number | null };

/** Goes on with an upload that an earlier page began, once the same file is chosen again. */
export function ContinueUpload({ videoId, filename, sizeBytes }: ContinueUploadProps) {
  const session = useSession();
  const go = ([file]: File[]) => {
    if (!file || !session) return;
    if (file.name !== filename || (sizeBytes !== null && file.size !== sizeBytes)) {
      toast.bad("This is another file", {
        text: `The upload was begun with “${filename}”${sizeBytes === null ? "" : ` of ${formatBytes(sizeBytes)}`}. You chose “${file.name}” of ${formatBytes(file.size)}.`,
      });
      return;
    }
    addFiles([file], session.user.id, { videoId });
  };
  return (
    <div className="relative z-10 flex min-w-0 items-center gap-2">
      <UploadButton size="sm" multiple={false} onFiles={go} label={`Continue the upload of ${filename}`}>
        Continue
      </UploadButton>
      <p className="truncate text-muted text-xs" title={filename}>
        Choose “{filename}” again
      </p>
    </div>
  );
}
