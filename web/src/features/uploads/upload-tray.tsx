import { ChevronDown, ChevronUp, X } from "lucide-react";
import { useCallback, useState } from "react";
import { Button } from "@/components/button";
import { dismissUpload, isActive, type Upload, type UploadState } from "./manager";
import { UploadLine } from "./upload-line";
import { useUploads } from "./use-uploads";

function headline(uploads: readonly Upload[]): string {
  const active = uploads.filter(isActive).length;
  const failed = uploads.filter((upload) => upload.state === "failed").length;
  const paused = uploads.filter((upload) => upload.state === "paused").length;
  if (active) {
    const going = `Uploading ${active} ${active === 1 ? "file" : "files"}`;
    return failed ? `${going}, ${failed} failed` : going;
  }
  if (failed) return `${failed} of ${uploads.length} could not be uploaded`;
  if (paused) return `${paused} paused`;
  return uploads.length === 1 ? "Uploaded" : `${uploads.length} uploaded`;
}

const ORDER: UploadState[] = ["failed", "uploading", "finishing", "starting", "paused", "waiting", "done"];

/** What needs a person first, then what moves, what has ended last. */
function inOrder(uploads: readonly Upload[]): Upload[] {
  return uploads.toSorted((one, other) => ORDER.indexOf(one.state) - ORDER.indexOf(other.state));
}

/** Tell the page how much of its lower end is covered, so that bars and messages there stand above. */
function useCoveredHeight() {
  return useCallback((tray: HTMLElement) => {
    const { style } = document.documentElement;
    const observer = new ResizeObserver(() => style.setProperty("--tray", `${tray.offsetHeight + 8}px`));
    observer.observe(tray);
    return () => {
      observer.disconnect();
      style.removeProperty("--tray");
    };
  }, []);
}

/** All uploads of this page, wherever in the app the person is. */
export function UploadTray() {
  const uploads = useUploads();
  const [open, setOpen] = useState(true);
  const tray = useCoveredHeight();
  if (uploads.length === 0) return null;
  const dismissAll = () => {
    for (const upload of uploads) dismissUpload(upload.key);
  };
  const ended = uploads.every(
    (upload) => upload.state === "done" || (upload.state === "failed" && !upload.videoId),
  );
  return (
    <section
      ref={tray}
      aria-label="Uploads"
      className="fixed inset-x-2 bottom-2 z-30 animate-rise overflow-hidden rounded-2xl border border-line bg-surface shadow-float sm:inset-x-auto sm:right-4 sm:bottom-4 sm:w-96"
    >
      <div className="flex items-center gap-1 py-2 pr-2 pl-4">
        <h2 className="flex-1 font-semibold text-sm" aria-live="polite">
          {headline(uploads)}
        </h2>
        <Button
          variant="ghost"
          size="icon-sm"
          aria-expanded={open}
          aria-label={open ? "Hide the uploads" : "Show the uploads"}
          onClick={() => setOpen(!open)}
        >
          {open ? <ChevronDown /> : <ChevronUp />}
        </Button>
        {ended && (
          <Button variant="ghost" size="icon-sm" aria-label="Dismiss all" onClick={dismissAll}>
            <X />
          </Button>
        )}
      </div>
      {open && (
        <ul className="max-h-[40dvh] divide-y divide-line overflow-y-auto border-line border-t">
          {inOrder(uploads).map((upload) => (
            <UploadLine key={upload.key} upload={upload} />
          ))}
        </ul>
      )}
    </section>
  );
}
