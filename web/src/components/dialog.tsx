import { X } from "lucide-react";
import { type ReactNode, useEffect, useId, useRef, useState } from "react";
import { asProblem, type Problem } from "@/api/problem";
import { Button } from "./button";
import { ProblemNote } from "./problem-note";

type DialogProps = { open: boolean; onClose: () => void; title: string; children: ReactNode };

/**
 * A modal dialog. The browser's own: it traps focus, makes the rest inert and puts focus back, and unlike libraries
 * that do the same it inserts no <style>, which the Content-Security-Policy forbids.
 */
export function Dialog({ open, onClose, title, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  useEffect(() => {
    const element = dialog.current;
    if (!element || element.open === open) return;
    if (open) element.showModal();
    else element.close();
  }, [open]);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: a click beside the dialog is a shortcut; Escape does the same
    <dialog
      ref={dialog}
      aria-labelledby={titleId}
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && onClose()}
      className="m-auto w-[min(32rem,calc(100vw-2rem))] rounded-2xl border border-line bg-surface p-0 text-ink shadow-float open:animate-rise"
    >
      {open && (
        <div className="grid gap-4 p-6">
          <div className="flex items-start justify-between gap-4">
            <h2 id={titleId} className="font-bold text-lg">
              {title}
            </h2>
            <Button variant="ghost" size="icon-sm" className="-m-1" aria-label="Close" onClick={onClose}>
              <X />
            </Button>
          </div>
          {children}
        </div>
      )}
    </dialog>
  );
}

type ConfirmProps = {
  open: boolean;
  onClose: () => void;
  title: string;
  children: ReactNode;
  confirmLabel: string;
  /** What the other button says. */
  stayLabel?: string;
  onConfirm: () => Promise<void> | void;
};

/** Ask before something that cannot be undone; a failure stays in the dialog, where it can be tried again. */
export function ConfirmDialog(props: ConfirmProps) {
  const { open, onClose, title, children, confirmLabel, stayLabel = "Keep it", onConfirm } = props;
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const close = () => {
    setProblem(null);
    onClose();
  };
  const confirm = async () => {
    setBusy(true);
    setProblem(null);
    try {
      await onConfirm();
      close();
    } catch (error) {
      setProblem(asProblem(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Dialog open={open} onClose={close} title={title}>
      <div className="text-muted">{children}</div>
      {problem && <ProblemNote problem={problem} />}
      <div className="flex justify-end gap-3">
        <Button onClick={close}>{stayLabel}</Button>
        <Button variant="danger" busy={busy} onClick={confirm}>
          {confirmLabel}
        </Button>
      </div>
    </Dialog>
  );
}
