import { Upload } from "lucide-react";
import { useEffect, useState } from "react";
import { toast } from "@/components/toast";
import { addFiles } from "./manager";

/** Browsers tell of a drag at least every 350 ms. */
const STILL_MS = 1000;

/** Files may be dropped on any page. */
export function DropAnywhere({ userId }: { userId: string }) {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const end = () => {
      clearTimeout(timer);
      setOver(false);
    };
    // While something is dragged it comes again and again; when it stops coming, the drag has ended somehow.
    const drag = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(true);
      clearTimeout(timer);
      timer = setTimeout(end, STILL_MS);
    };
    const leave = (event: DragEvent) => event.relatedTarget === null && end();
    const drop = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault(); // else the browser leaves the page and plays the file
      end();
      addFiles(withoutFolders(event.dataTransfer), userId);
    };
    const all = { dragenter: drag, dragover: drag, dragleave: leave, drop };
    for (const [name, listener] of Object.entries(all)) {
      window.addEventListener(name, listener as EventListener);
    }
    return () => {
      clearTimeout(timer);
      for (const [name, listener] of Object.entries(all)) {
        window.removeEventListener(name, listener as EventListener);
      }
    };
  }, [userId]);
  if (!over) return null;
  return (
    <div className="pointer-events-none fixed inset-0 z-50 grid place-items-center bg-canvas/85 p-6">
      <div className="grid size-full animate-rise place-content-center justify-items-center gap-4 rounded-3xl border-4 border-accent border-dashed text-accent">
        <Upload className="size-14" aria-hidden="true" />
        <p className="font-bold text-2xl">Drop to upload</p>
      </div>
    </div>
  );
}

/** The files that were dropped. A folder comes as one of them, and only its entry tells what it is. */
function withoutFolders(transfer: DataTransfer | null): File[] {
  const folders = new Set<string>();
  for (const item of transfer?.items ?? []) {
    const entry = item.webkitGetAsEntry?.();
    if (entry?.isDirectory) folders.add(entry.name);
  }
  if (folders.size) {
    toast.bad("A folder cannot be uploaded", {
      text: `Open “${[...folders].join("”, “")}” and drop the videos in it.`,
    });
  }
  return [...(transfer?.files ?? [])].filter((file) => !folders.has(file.name));
}
