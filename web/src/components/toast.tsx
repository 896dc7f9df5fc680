import { CircleAlert, CircleCheck, Info, X } from "lucide-react";
import { Toast } from "radix-ui";
import { useSyncExternalStore } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "./button";

type Kind = "good" | "bad" | "info";
type Action = { label: string; run: () => void };
type Entry = {
  id: number;
  kind: Kind;
  title: string;
  text?: string | undefined;
  action?: Action | undefined;
};

let entries: readonly Entry[] = [];
let nextId = 1;
const listeners = new Set<() => void>();

function set(changed: readonly Entry[]): void {
  entries = changed;
  for (const listener of listeners) listener();
}

function show(kind: Kind, title: string, rest: { text?: string; action?: Action } = {}): void {
  const same = entries.find((entry) => entry.title === title && entry.text === rest.text);
  set([...entries.filter((entry) => entry !== same).slice(-3), { id: nextId++, kind, title, ...rest }]);
}

/** Tell the person something that matters, wherever they are. */
export const toast = {
  good: (title: string, rest?: { text?: string; action?: Action }) => show("good", title, rest),
  info: (title: string, rest?: { text?: string; action?: Action }) => show("info", title, rest),
  bad: (title: string, rest?: { text?: string; action?: Action }) => show("bad", title, rest),
  problem: (title: string, error: unknown) => {
    const problem = asProblem(error);
    show("bad", title, { text: [problem.message, problem.remedy].filter(Boolean).join(" ") });
  },
};

const icons = { good: CircleCheck, bad: CircleAlert, info: Info };
const colors = { good: "text-good", bad: "text-bad", info: "text-accent" };

export function Toaster() {
  const shown = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => entries,
  );
  return (
    <Toast.Provider duration={7000} label="Message">
      {shown.map((entry) => {
        const Icon = icons[entry.kind];
        return (
          <Toast.Root
            key={entry.id}
            type={entry.kind === "info" ? "background" : "foreground"}
            duration={entry.kind === "bad" ? 15_000 : 7000}
            onOpenChange={(open) => !open && set(entries.filter((one) => one.id !== entry.id))}
            className="flex animate-rise items-start gap-3 rounded-xl border border-line bg-surface p-4 shadow-float"
          >
            <Icon className={`mt-0.5 size-5 shrink-0 ${colors[entry.kind]}`} aria-hidden="true" />
            <div className="min-w-0 flex-1 text-sm">
              <Toast.Title className="font-semibold wrap-anywhere">{entry.title}</Toast.Title>
              {entry.text && (
                <Toast.Description className="text-muted wrap-anywhere">{entry.text}</Toast.Description>
              )}
              {entry.action && (
                <Toast.Action asChild altText={entry.action.label}>
                  <Button size="sm" className="mt-2" onClick={entry.action.run}>
                    {entry.action.label}
                  </Button>
                </Toast.Action>
              )}
            </div>
            <Toast.Close asChild>
              <Button variant="ghost" size="icon-sm" className="-m-1.5" aria-label="Dismiss">
                <X />
              </Button>
            </Toast.Close>
          </Toast.Root>
        );
      })}
      <Toast.Viewport className="fixed right-4 bottom-[calc(var(--tray,0px)+1rem)] z-50 flex w-96 max-w-[calc(100vw-2rem)] flex-col gap-2" />
    </Toast.Provider>
  );
}
