import type { LucideIcon } from "lucide-react";
import type { ComponentProps } from "react";
import { cn } from "@/lib/cn";

type ControlButtonProps = Omit<ComponentProps<"button">, "children"> & {
  icon: LucideIcon;
  label: string;
  /** The key that does the same. */
  shortcut?: string;
  tip?: boolean;
  /** The side of the player that the button stands at, so that its tip stays inside. */
  edge?: "left" | "right" | undefined;
};

export function ControlButton({
  icon: Icon,
  label,
  shortcut,
  tip = true,
  edge,
  className,
  ...rest
}: ControlButtonProps) {
  return (
    <button
      type="button"
      aria-label={label}
      aria-keyshortcuts={shortcut}
      className={cn(
        "group/button relative grid size-9 shrink-0 place-items-center rounded-md text-white transition-colors hover:bg-white/20 pointer-coarse:size-10",
        "focus-visible:outline-2 focus-visible:-outline-offset-2 focus-visible:outline-white",
        className,
      )}
      {...rest}
    >
      <Icon aria-hidden="true" className="size-5" />
      {tip && (
        <span
          aria-hidden="true"
          className={cn(
            "pointer-events-none absolute bottom-full z-10 mb-6 hidden rounded bg-neutral-900/95 px-2 py-1 text-xs whitespace-nowrap text-white opacity-0 transition-opacity",
            "group-hover/button:opacity-100 group-hover/button:delay-300 group-focus-visible/button:opacity-100 pointer-fine:block",
            edge === "left" && "left-0",
            edge === "right" && "right-0",
          )}
        >
          {label}
          {shortcut && <span className="ml-1.5 text-white/75">{shortcut}</span>}
        </span>
      )}
    </button>
  );
}
