import { cn } from "@/lib/cn";

/** A source and what comes back from it. */
export function Logo({ className }: { className?: string }) {
  return (
    <span className={cn("inline-flex items-center gap-2 font-bold text-xl tracking-tight", className)}>
      <svg viewBox="0 0 32 32" className="size-7" aria-hidden="true">
        <rect width="32" height="32" rx="8" className="fill-accent" />
        <g className="stroke-accent-ink" fill="none" strokeWidth="3" strokeLinecap="round">
          <path d="M15 11.5a6.4 6.4 0 0 1 0 9" />
          <path d="M19.5 7a12.7 12.7 0 0 1 0 18" />
        </g>
        <circle cx="10" cy="16" r="2.6" className="fill-accent-ink" />
      </svg>
      Echo
    </span>
  );
}
