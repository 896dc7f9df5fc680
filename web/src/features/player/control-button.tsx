import type { ComponentProps } from "react";
import { cn } from "@/lib/cn";

/** A round button on the picture; its label is its tooltip too. */
export function ControlButton({ label, className, ...rest }: ComponentProps<"button"> & { label: string }) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      className={cn(
        "grid size-10 shrink-0 place-items-center rounded-full text-white transition-colors hover:bg-white/20",
        "focus-visible:outline-white aria-pressed:bg-white/20 [&_svg]:size-5",
        className,
      )}
      {...rest}
    />
  );
}
