import { cn } from "@/lib/cn";
import { useLink } from "./live";

const told = {
  connecting: ["Connecting", "Connecting for live updates", "bg-edge"],
  live: ["Live", "Changes are shown as they happen", "bg-good"],
  reconnecting: ["Reconnecting", "The live connection was lost and is coming back", "bg-warn"],
  polling: ["Polling", "There is no live connection; changes are shown within some seconds", "bg-warn"],
} as const;

/** Whether what is shown is as it is now. */
export function LinkBadge() {
  const link = useLink();
  const [word, sentence, color] = told[link];
  return (
    <span
      role="status"
      title={sentence}
      data-link={link}
      className="inline-flex items-center gap-1.5 text-muted text-xs"
    >
      <span
        className={cn("size-2 rounded-full", color, link === "reconnecting" && "animate-shimmer")}
        aria-hidden="true"
      />
      <span className={cn(link === "live" && "max-sm:sr-only")}>{word}</span>
    </span>
  );
}
