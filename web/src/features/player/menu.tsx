import { Check, ChevronLeft, ChevronRight, type LucideIcon } from "lucide-react";
import { type KeyboardEvent, useEffect, useId, useRef, useState } from "react";
import { cn } from "@/lib/cn";
import { ControlButton } from "./control-button";

export type MenuSection = {
  id: string;
  label: string;
  icon: LucideIcon;
  /** The choice in a few words, for the list of sections. */
  summary: string;
  value: string;
  /** None: the section is an action of its own. */
  choices: readonly { value: string; label: string; detail?: string }[];
  choose(value: string): void;
};

type PlayerMenuProps = {
  label: string;
  icon: LucideIcon;
  /** One: its choices; several: a list of sections that lead to theirs. */
  sections: readonly MenuSection[];
  open: boolean;
  onOpenChange(open: boolean): void;
  playerHeight: number;
  lit?: boolean;
};

const entryClass =
  "flex w-full min-h-9 items-center gap-2 rounded-md px-2 py-1.5 text-left text-sm hover:bg-white/15 " +
  "focus-visible:bg-white/20 focus-visible:outline-2 focus-visible:-outline-offset-2 focus-visible:outline-white";

/** A button and its menu, which stays inside the player so that it works in full screen and under any style policy. */
export function PlayerMenu(props: PlayerMenuProps) {
  const { label, icon, open, onOpenChange, lit } = props;
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  return (
    <>
      <ControlButton
        ref={button}
        icon={icon}
        label={label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        tip={!open}
        onClick={() => onOpenChange(!open)}
        className={cn(
          open && "bg-white/20",
          lit &&
            "after:absolute after:inset-x-2.5 after:bottom-1 after:h-0.5 after:rounded-full after:bg-white",
        )}
      />
      {open && (
        <Popup
          {...props}
          id={id}
          close={(returnFocus) => {
            onOpenChange(false);
            if (returnFocus) button.current?.focus();
          }}
          owns={(target) => button.current?.contains(target) === true}
        />
      )}
    </>
  );
}

type PopupProps = PlayerMenuProps & {
  id: string;
  close(returnFocus: boolean): void;
  owns(target: Node): boolean;
};

function Popup({ id, label, sections, playerHeight, close, owns }: PopupProps) {
  const list = useRef<HTMLDivElement>(null);
  const [page, setPage] = useState<string | null>(null);
  const shown =
    sections.length === 1 && sections[0]?.choices.length
      ? sections[0]
      : sections.find((section) => section.id === page);
  const small = playerHeight < 320;
  const shownId = shown?.id;
  const leftSection = useRef<string | null>(null);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the page that is shown decides what is focused
  useEffect(() => {
    const menu = list.current;
    const checked = menu?.querySelector<HTMLElement>("[aria-checked=true]");
    const left = menu?.querySelector<HTMLElement>(`[data-section="${leftSection.current}"]`);
    const target = checked ?? left ?? menu?.querySelector<HTMLElement>("[role^=menuitem]");
    target?.focus({ preventScroll: true });
    if (menu && target) menu.scrollTop = target.offsetTop - menu.clientHeight / 2;
  }, [shownId]);
  useEffect(() => {
    const outside = (event: PointerEvent) => {
      const target = event.target as Node;
      if (!list.current?.contains(target) && !owns(target)) close(false);
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [close, owns]);

  const back = () => {
    leftSection.current = page;
    setPage(null);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const entries = Array.from(list.current?.querySelectorAll<HTMLElement>("[role^=menuitem]") ?? []);
    const at = entries.indexOf(document.activeElement as HTMLElement);
    const inSection = page !== null;
    if (event.key === "Tab") return close(true); // the focus moves on from the button
    event.stopPropagation();
    if (event.key === "Escape") close(true);
    else if (event.key === "ArrowDown") entries[(at + 1) % entries.length]?.focus();
    else if (event.key === "ArrowUp") entries[(at - 1 + entries.length) % entries.length]?.focus();
    else if (event.key === "Home") entries[0]?.focus();
    else if (event.key === "End") entries.at(-1)?.focus();
    else if (event.key === "ArrowLeft" && inSection) back();
    else if (event.key === "ArrowRight" && entries[at]?.ariaHasPopup) entries[at].click();
    else if (event.key.length === 1 && event.key !== " ") nextWith(entries, at, event.key)?.focus();
    else return;
    event.preventDefault();
  };

  return (
    <div
      ref={list}
      id={id}
      role="menu"
      aria-label={shown && page ? shown.label : label}
      tabIndex={-1}
      onKeyDown={onKeyDown}
      onBlur={(event) => {
        const to = event.relatedTarget;
        if (to && !event.currentTarget.contains(to) && !owns(to)) close(false);
      }}
      className={cn(
        "absolute right-2 z-20 max-w-[calc(100%-1rem)] min-w-48 animate-rise overflow-y-auto overscroll-contain rounded-lg bg-neutral-900/95 p-1 text-white shadow-float ring-1 ring-white/15 focus:outline-none",
        small ? "bottom-2" : "bottom-[calc(100%-1.75rem)]",
      )}
      style={{ maxHeight: small ? playerHeight - 16 : Math.min(360, playerHeight - 88) }}
    >
      {shown && page && (
        <button
          type="button"
          role="menuitem"
          tabIndex={-1}
          className={cn(entryClass, "font-semibold")}
          onClick={back}
        >
          <ChevronLeft aria-hidden="true" className="size-4" />
          {shown.label}
        </button>
      )}
      {shown
        ? shown.choices.map(({ value, label: name, detail }) => (
            <button
              key={value}
              type="button"
              role="menuitemradio"
              aria-checked={value === shown.value}
              tabIndex={-1}
              className={entryClass}
              onClick={() => {
                shown.choose(value);
                close(true);
              }}
            >
              <Check
                aria-hidden="true"
                className={cn("size-4 shrink-0", value !== shown.value && "invisible")}
              />
              <span className="min-w-0 grow break-words">{name}</span>
              {detail && <span className="text-white/75 tabular-nums">{detail}</span>}
            </button>
          ))
        : sections.map(({ id: sectionId, label: name, icon: Icon, summary, choices, choose }) => (
            <button
              key={sectionId}
              type="button"
              role="menuitem"
              aria-haspopup={choices.length > 0 ? "menu" : undefined}
              data-section={sectionId}
              tabIndex={-1}
              className={entryClass}
              onClick={() => {
                if (choices.length > 0) return setPage(sectionId);
                choose("");
                close(true);
              }}
            >
              <Icon aria-hidden="true" className="size-4 shrink-0" />
              <span className="grow">{name}</span>
              <span className="max-w-28 truncate text-white/75">{summary}</span>
              {choices.length > 0 && <ChevronRight aria-hidden="true" className="size-4 shrink-0" />}
            </button>
          ))}
    </div>
  );
}

function nextWith(entries: HTMLElement[], at: number, letter: string): HTMLElement | undefined {
  const order = [...entries.slice(at + 1), ...entries.slice(0, at + 1)];
  return order.find((entry) => entry.textContent?.trim().toLowerCase().startsWith(letter.toLowerCase()));
}
