import { LoaderCircle } from "lucide-react";
import { cn } from "@/lib/cn";

export function Spinner({ label = "Loading", className }: { label?: string; className?: string }) {
  return (
    <span role="status" className="inline-flex">
      <LoaderCircle className={cn("size-6 animate-spin text-muted", className)} aria-hidden="true" />
      <span className="sr-only">{label}</span>
    </span>
  );
}
