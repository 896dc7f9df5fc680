import { useBlocker } from "@tanstack/react-router";
import {
  ArrowLeftRight,
  Combine,
  Keyboard,
  Plus,
  Redo2,
  Scissors,
  Trash2,
  TriangleAlert,
  Undo2,
} from "lucide-react";
import { type KeyboardEvent, useCallback, useMemo, useRef, useState } from "react";
import { Button } from "@/components/button";
import { Dialog } from "@/components/dialog";
import { ProblemNote } from "@/components/problem-note";
import type { PlayerHandle } from "@/features/player/types";
import type { TaggedDetails } from "@/features/videos/queries";
import { Stage } from "@/features/videos/stage";
import { CueList, type CueListHandle } from "./cue-list";
import type { RowActions } from "./cue-row";
import { add, cueIndexAt, mergeNext, remove, setText, setTime, shift, split, warningsOf } from "./cues";
import { ConflictDialog, ShiftDialog, ShortcutsDialog } from "./editor-dialogs";
import type { TaggedTrack } from "./queries";
import { actionOf, type EditorAction } from "./shortcuts";
import { useEditor } from "./use-editor";

type CaptionEditorProps = { video: TaggedDetails; track: TaggedTrack; userId: string };

const NUDGE_S = 0.1;
/** Whoever types is not scrolled away from the words. */
const TYPING_MS = 3000;

/** Text and times of one track beside the player, which shows where one is. */
export function CaptionEditor({ video, track, userId }: CaptionEditorProps) {
  const editor = useEditor(track, userId, video.videoId);
  const { cues, change } = editor;
  const player = useRef<PlayerHandle>(null);
  const list = useRef<CueListHandle>(null);
  const typedAt = useRef(0);
  const [selectedId, setSelectedId] = useState<number | null>(null);
  const [currentIndex, setCurrentIndex] = useState(-1);
  const [follow, setFollow] = useState(true);
  const [dialog, setDialog] = useState<"shift" | "help" | null>(null);
  const selected = cues.findIndex((cue) => cue.id === selectedId);
  const { durationSeconds } = video;
  const troubles = useMemo(
    () => cues.map((_, at) => warningsOf(cues, at, durationSeconds)),
    [cues, durationSeconds],
  );
  const grave = troubles.flatMap((found, at) => (found.some((one) => one.grave) ? [at] : []));
  const light = troubles.filter((found) => found.length > 0).length - grave.length;

  const now = () => player.current?.currentTime() ?? 0;
  const latest = useRef({ cues, change, follow, selectedId });
  latest.current = { cues, change, follow, selectedId };
  const onTimeChange = useCallback((seconds: number) => {
    const { cues, follow } = latest.current;
    const at = cueIndexAt(cues, seconds);
    const index = at >= 0 && (cues[at]?.endSeconds ?? 0) > seconds ? at : -1;
    setCurrentIndex((before) => {
      const typing = Date.now() - typedAt.current < TYPING_MS;
      if (index !== before && index >= 0 && follow && !typing) list.current?.show(index);
      return index;
    });
  }, []);
  const rowActions = useMemo<RowActions>(() => {
    const find = (id: number) => latest.current.cues.findIndex((cue) => cue.id === id);
    const startOf = (id: number) => latest.current.cues[find(id)]?.startSeconds ?? 0;
    return {
      select: (id, seek) => {
        setSelectedId(id);
        if (seek) player.current?.seek(startOf(id));
      },
      text: (id, text) => {
        typedAt.current = Date.now();
        latest.current.change(setText(latest.current.cues, find(id), text), `text ${id}`);
      },
      time: (id, end, seconds) => {
        const time = seconds === "player" ? (player.current?.currentTime() ?? 0) : seconds;
        latest.current.change(setTime(latest.current.cues, find(id), end, time));
      },
      playFrom: (id) => {
        setSelectedId(id);
        player.current?.seek(startOf(id));
        player.current?.play();
      },
    };
  }, []);

  /** The caret in the selected cue's text, also while a button of the toolbar has the focus. */
  const caret = () =>
    document.querySelector<HTMLTextAreaElement>(`[data-cue="${selectedId}"] [data-cue-text]`)
      ?.selectionStart ?? 0;
  const select = (at: number, place?: number) => {
    setSelectedId(latest.current.cues[at]?.id ?? null);
    list.current?.focus(at, place);
  };
  const perform = (action: EditorAction) => {
    const one = cues[selected];
    switch (action) {
      case "add": {
        const added = add(cues, now());
        change(added.cues);
        setSelectedId(added.cues[added.at]?.id ?? null);
        return list.current?.focus(added.at);
      }
      case "play":
        return player.current?.togglePlay();
      case "undo":
        return editor.undo();
      case "redo":
        return editor.redo();
      case "save":
        return editor.dirty && grave.length === 0 && !editor.saving && editor.save();
      case "shift":
        return setDialog("shift");
      case "help":
        return setDialog("help");
      case "previous":
        return select(selected < 0 ? 0 : Math.max(0, selected - 1));
      case "next":
        return select(Math.min(cues.length - 1, selected + 1));
    }
    if (!one) return;
    switch (action) {
      case "split": {
        const parts = split(cues, selected, caret());
        if (parts === cues) return;
        change(parts);
        setSelectedId(parts[selected + 1]?.id ?? null);
        return list.current?.focus(selected + 1, 0);
      }
      case "merge":
        change(mergeNext(cues, selected));
        return list.current?.focus(selected, one.text.trim().length);
      case "remove": {
        const left = remove(cues, selected);
        change(left);
        const next = Math.min(selected, left.length - 1);
        setSelectedId(left[next]?.id ?? null);
        return next >= 0 && list.current?.focus(next);
      }
      case "start":
      case "end":
        return change(setTime(cues, selected, action, now()));
      case "earlier":
      case "later":
        return change(shift(cues, selected, action === "later" ? NUDGE_S : -NUDGE_S), `shift ${one.id}`);
      case "from-here":
        return rowActions.playFrom(one.id);
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const action = actionOf(event);
    if (!action || dialog) return;
    event.preventDefault();
    event.stopPropagation();
    perform(action);
  };
  const blocker = useBlocker({
    shouldBlockFn: ({ current, next }) => editor.dirty && current.pathname !== next.pathname,
    enableBeforeUnload: () => editor.dirty,
    withResolver: true,
  });
  const tools = [
    { action: "undo", label: "Undo", icon: Undo2, off: !editor.canUndo },
    { action: "redo", label: "Redo", icon: Redo2, off: !editor.canRedo },
    { action: "add", label: "Add a cue", icon: Plus, off: false },
    { action: "split", label: "Split", icon: Scissors, off: selected < 0 },
    {
      action: "merge",
      label: "Merge with next",
      icon: Combine,
      off: selected < 0 || selected === cues.length - 1,
    },
    { action: "remove", label: "Delete the cue", icon: Trash2, off: selected < 0 },
    { action: "shift", label: "Shift", icon: ArrowLeftRight, off: cues.length === 0 },
    { action: "help", label: "Keyboard shortcuts", icon: Keyboard, off: false },
  ] as const;
  const nextTrouble = grave.find((at) => at > selected) ?? grave[0];

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: keys for what buttons do as well
    <div
      className="grid items-start gap-5 lg:grid-cols-[minmax(0,5fr)_minmax(0,6fr)]"
      onKeyDown={onKeyDown}
      data-testid="caption-editor"
    >
      <div className="grid gap-3 lg:sticky lg:top-20">
        <Stage video={video} control={player} onTimeChange={onTimeChange} />
        <label className="flex w-fit items-center gap-2 text-sm">
          <input
            type="checkbox"
            className="size-4 accent-accent"
            checked={follow}
            onChange={(event) => setFollow(event.target.checked)}
          />
          Follow the player
        </label>
        {editor.restored && (
          <p role="status" className="flex flex-wrap items-center gap-3 rounded-xl bg-warn-soft p-3 text-sm">
            <span className="flex-1">What you edited last time is back. It is not saved yet.</span>
            <Button size="sm" onClick={editor.discard}>
              Discard it
            </Button>
          </p>
        )}
        {editor.problem && !editor.conflict && <ProblemNote problem={editor.problem} />}
      </div>
      <div className="grid min-w-0 gap-3">
        <div role="toolbar" aria-label="Cues" className="flex flex-wrap gap-1">
          {tools.map(({ action, label, icon: Icon, off }) => (
            <Button
              key={action}
              size="icon-sm"
              variant="ghost"
              aria-label={label}
              title={label}
              disabled={off}
              onMouseDown={(event) => event.preventDefault()} // the caret stays where it is
              onClick={() => perform(action)}
            >
              <Icon />
            </Button>
          ))}
        </div>
        {cues.length === 0 ? (
          <p className="rounded-xl border border-line bg-surface p-6 text-center text-muted text-sm">
            There is no cue yet. Go to where somebody speaks, and add one.
          </p>
        ) : (
          <CueList
            handle={list}
            cues={cues}
            currentIndex={currentIndex}
            selectedId={selectedId}
            durationSeconds={durationSeconds}
            actions={rowActions}
          />
        )}
        <div className="flex flex-wrap items-center gap-3 rounded-2xl border border-line bg-surface px-4 py-3">
          <p className="min-w-0 flex-1 text-muted text-sm" aria-live="polite">
            {editor.dirty ? "Not saved yet" : "All changes are saved"}
            {` · ${cues.length} ${cues.length === 1 ? "cue" : "cues"}`}
            {light > 0 && ` · ${light} to look at`}
          </p>
          {nextTrouble !== undefined && (
            <Button size="sm" onClick={() => select(nextTrouble)}>
              <TriangleAlert className="text-bad" /> {grave.length} cannot be saved: go there
            </Button>
          )}
          {editor.dirty && <Button onClick={editor.discard}>Discard</Button>}
          <Button
            variant="primary"
            disabled={!editor.dirty || grave.length > 0}
            busy={editor.saving}
            onClick={editor.save}
          >
            Save
          </Button>
        </div>
      </div>
      <ShortcutsDialog open={dialog === "help"} onClose={() => setDialog(null)} />
      <ShiftDialog
        open={dialog === "shift"}
        onClose={() => setDialog(null)}
        hasSelected={selected >= 0}
        onShift={(all, seconds) => change(shift(cues, all ? null : selected, seconds))}
      />
      <ConflictDialog
        open={editor.conflict}
        onClose={editor.forget}
        onOverwrite={editor.overwrite}
        onTakeTheirs={editor.takeTheirs}
      />
      <Dialog
        open={blocker.status === "blocked"}
        onClose={() => blocker.reset?.()}
        title="Leave without saving?"
      >
        <p className="text-muted">
          The captions are not saved. Your changes will be here when you come back in this browser.
        </p>
        <div className="flex justify-end gap-3">
          <Button onClick={() => blocker.proceed?.()}>Leave</Button>
          <Button variant="primary" onClick={() => blocker.reset?.()}>
            Stay
          </Button>
        </div>
      </Dialog>
    </div>
  );
}
