import { Upload } from "lucide-react";
import { useEffect, useState } from "react";
import { addFiles } from "./manager";

/** Files may be dropped on any page. */
export function DropAnywhere({ userId }: { userId: string }) {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0; // dragenter and dragleave come for every element on the way
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const enter = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      depth += 1;
      setOver(true);
    };
    const leave = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      depth = Math.max(0, depth - 1);
      if (depth === 0) setOver(false);
    };
    const move = (event: DragEvent) => hasFiles(event) && event.preventDefault();
    const drop = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault(); // else the browser leaves the page and plays the file
      depth = 0;
      setOver(false);
      addFiles([...(event.dataTransfer?.files ?? [])], userId);
    };
    const all = { dragenter: enter, dragleave: leave, dragover: move, drop };
    for (const [name, listener] of Object.entries(all))
      window.addEventListener(name, listener as EventListener);
    return () => {
      for (const [name, listener] of Object.entries(all))
        window.removeEventListener(name, listener as EventListener);
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
