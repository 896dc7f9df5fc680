import { Check } from "lucide-react";
import { type KeyboardEvent, type ReactNode, useEffect, useId, useRef } from "react";
import { ControlButton } from "./control-button";
import type { Choice } from "./types";

type ControlMenuProps = {
  label: string;
  icon: ReactNode;
  groups: { name: string; choices: Choice[]; chosen: number; onChoose: (id: number) => void }[];
  open: boolean;
  onOpen: (open: boolean) => void;
};

/** A menu that opens above its button, inside of the player, so that it is there in full screen too. */
export function ControlMenu({ label, icon, groups, open, onOpen }: ControlMenuProps) {
  const id = useId();
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const items = () => [...(root.current?.querySelectorAll<HTMLElement>('[role="menuitemradio"]') ?? [])];
  useEffect(() => {
    if (!open) return;
    const all = [...(root.current?.querySelectorAll<HTMLElement>('[role="menuitemradio"]') ?? [])];
    (all.find((item) => item.getAttribute("aria-checked") === "true") ?? all[0])?.focus();
    const outside = (event: PointerEvent) => {
      if (!root.current?.contains(event.target as Node)) onOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [open, onOpen]);
  const close = () => {
    onOpen(false);
    button.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const all = items();
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 + all.length, Home: 0, End: all.length - 1 }[event.key];
    event.stopPropagation(); // the player's shortcuts use the same keys
    if (event.key === "Escape" || event.key === "Tab") close();
    if (to !== undefined) all[to % all.length]?.focus();
    if (to !== undefined || event.key === "Escape") event.preventDefault();
  };
  return (
    <div ref={root} className="relative">
      <ControlButton
        ref={button}
        label={label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        onClick={() => onOpen(!open)}
      >
        {icon}
      </ControlButton>
      {open && (
        <div
          id={id}
          role="menu"
          tabIndex={-1}
          aria-label={label}
          onKeyDown={onKeyDown}
          className="absolute right-0 bottom-12 z-10 max-h-[min(20rem,60cqh)] min-w-44 animate-rise overflow-y-auto rounded-xl bg-black/90 p-1.5 text-sm text-white shadow-float"
        >
          {groups.map((group) => (
            // biome-ignore lint/a11y/useSemanticElements: a fieldset has no place in a menu
            <div key={group.name} role="group" aria-label={group.name}>
              {groups.length > 1 && <p className="px-3 pt-2 pb-1 text-white/70 text-xs">{group.name}</p>}
              {group.choices.map((choice) => (
                <button
                  key={choice.id}
                  type="button"
                  role="menuitemradio"
                  aria-checked={choice.id === group.chosen}
                  tabIndex={-1}
                  className="flex w-full items-center gap-2 rounded-lg px-3 py-2 text-left outline-none hover:bg-white/15 focus:bg-white/20"
                  onClick={() => {
                    group.onChoose(choice.id);
                    close();
                  }}
                >
                  <Check
                    className={choice.id === group.chosen ? "size-4" : "invisible size-4"}
                    aria-hidden="true"
                  />
                  <span className="min-w-0 wrap-anywhere">{choice.label}</span>
                </button>
              ))}
            </div>
          ))}
        </div>
      )}
    </div>
  );
}
