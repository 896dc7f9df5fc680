import type { ReactNode } from "react";
import { cn } from "@/lib/cn";

const tones = {
  good: "bg-good-soft text-good",
  warn: "bg-warn-soft text-warn",
  bad: "bg-bad-soft text-bad",
  busy: "bg-accent-soft text-accent",
  plain: "bg-raised text-muted",
} as const;
export type Tone = keyof typeof tones;

export function Badge({
  tone = "plain",
  children,
  className,
}: {
  tone?: Tone;
  children: ReactNode;
  className?: string;
}) {
  return (
    <span
      className={cn(
        "inline-flex shrink-0 items-center gap-1.5 rounded-full px-2.5 py-0.5 font-medium text-xs whitespace-nowrap",
        tones[tone],
        className,
      )}
    >
      {children}
    </span>
  );
}

type ProgressProps = { label: string; percent: number | null; tone?: "busy" | "plain"; className?: string };

/** A bar of progress; without a percentage it says that something is going on, and no more. */
export function Progress({ label, percent, tone = "busy", className }: ProgressProps) {
  const known = percent === null ? {} : { "aria-valuenow": Math.round(percent) };
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      {...known}
      className={cn("h-1.5 overflow-hidden rounded-full bg-raised", className)}
    >
      <div
        className={cn(
          "h-full rounded-full transition-[width] duration-300",
          tone === "busy" ? "bg-accent" : "bg-edge",
          percent === null && "w-full animate-shimmer opacity-40",
        )}
        style={percent === null ? undefined : { width: `${percent}%` }}
      />
    </div>
  );
}

export function Skeleton({ className }: { className?: string }) {
  return <div aria-hidden="true" className={cn("animate-shimmer rounded-lg bg-raised", className)} />;
}
