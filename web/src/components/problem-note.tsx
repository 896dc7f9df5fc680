import { CircleAlert } from "lucide-react";
import type { ReactNode } from "react";
import { cn } from "@/lib/cn";

type Told = { message: string; remedy?: string; requestId?: string };

/** What went wrong, and what to do. */
export function ProblemNote({
  problem,
  children,
  className,
}: {
  problem: Told;
  children?: ReactNode;
  className?: string;
}) {
  return (
    <div role="alert" className={cn("flex gap-3 rounded-xl bg-bad-soft p-4 text-sm", className)}>
      <CircleAlert className="mt-0.5 size-5 shrink-0 text-bad" aria-hidden="true" />
      <div className="min-w-0 flex-1">
        <p className="font-semibold wrap-anywhere">{problem.message}</p>
        {problem.remedy && <p className="wrap-anywhere">{problem.remedy}</p>}
        {children && <div className="mt-3 flex flex-wrap gap-2">{children}</div>}
      </div>
    </div>
  );
}
