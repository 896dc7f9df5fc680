import { type FormEvent, useState } from "react";
import { asProblem, type Problem } from "@/api/problem";
import { Button } from "@/components/button";
import { Dialog } from "@/components/dialog";
import { Field, Input } from "@/components/field";
import { ProblemNote } from "@/components/problem-note";
import { shortcuts } from "./shortcuts";

type OpenProps = { open: boolean; onClose: () => void };

export function ShortcutsDialog({ open, onClose }: OpenProps) {
  return (
    <Dialog open={open} onClose={onClose} title="Keyboard shortcuts">
      <dl className="grid grid-cols-[auto_1fr] gap-x-6 gap-y-1 text-sm">
        {shortcuts.map(([keys, meaning]) => (
          <div key={keys} className="contents">
            <dt className="font-medium whitespace-nowrap">{keys}</dt>
            <dd className="text-muted">{meaning}</dd>
          </div>
        ))}
      </dl>
      <p className="text-muted text-xs">On a Mac, ⌘ is Ctrl and ⌥ is Alt.</p>
    </Dialog>
  );
}

type ShiftProps = OpenProps & { hasSelected: boolean; onShift: (all: boolean, seconds: number) => void };

export function ShiftDialog({ open, onClose, hasSelected, onShift }: ShiftProps) {
  const [ms, setMs] = useState("");
  const [one, setOne] = useState(false);
  const by = /^[+-]?\d{1,8}$/.test(ms.trim()) ? Number(ms) : null;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (by === null) return;
    onShift(!(one && hasSelected), by / 1000);
    onClose();
  };
  return (
    <Dialog open={open} onClose={onClose} title="Shift cues">
      <form className="grid gap-4" onSubmit={submit}>
        <Field
          label="Milliseconds"
          hint="250 is later by a quarter of a second, -250 earlier."
          error={ms && by === null ? "Write a whole number, as 250 or -250." : undefined}
        >
          {(control) => (
            <Input {...control} inputMode="text" value={ms} onChange={(event) => setMs(event.target.value)} />
          )}
        </Field>
        <fieldset className="grid gap-2 text-sm">
          <legend className="mb-1.5 font-medium">Which</legend>
          <label className="flex items-center gap-2">
            <input
              type="radio"
              name="which"
              checked={!one}
              onChange={() => setOne(false)}
              className="accent-accent"
            />
            All cues
          </label>
          <label className="flex items-center gap-2">
            <input
              type="radio"
              name="which"
              checked={one}
              disabled={!hasSelected}
              onChange={() => setOne(true)}
              className="accent-accent"
            />
            Only the one that is being edited
          </label>
        </fieldset>
        <div className="flex justify-end gap-3">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" variant="primary" disabled={by === null}>
            Shift
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

type ConflictProps = OpenProps & { onOverwrite: () => Promise<void>; onTakeTheirs: () => Promise<void> };

/** Somebody else has saved these captions meanwhile: whose shall stay. */
export function ConflictDialog({ open, onClose, onOverwrite, onTakeTheirs }: ConflictProps) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const act = (run: () => Promise<void>) => () => {
    setProblem(null);
    run().catch((error) => setProblem(asProblem(error)));
  };
  return (
    <Dialog open={open} onClose={onClose} title="Changed somewhere else">
      <p className="text-muted">
        Somebody, or you in another tab, has saved these captions while you were editing. Save yours over
        them, or take theirs: then “Undo” still brings yours back here. Closing this decides nothing, and
        yours stay unsaved.
      </p>
      {problem && <ProblemNote problem={problem} />}
      <div className="flex flex-wrap justify-end gap-3">
        <Button onClick={act(onTakeTheirs)}>Take theirs</Button>
        <Button variant="danger" onClick={act(onOverwrite)}>
          Save mine over theirs
        </Button>
      </div>
    </Dialog>
  );
}
