import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { asProblem } from "@/api/problem";
import { toast } from "@/components/toast";
import { videoKeys } from "@/features/videos/queries";
import { asKept, type Cue, editable, isSame, plain, sorted } from "./cues";
import { begun, changed, type History, redone, undone } from "./history";
import { keepCues, keptCues } from "./kept";
import { captionQuery, saveCaptions, type TaggedTrack } from "./queries";

const KEEP_MS = 300;

type Base = { etag: string; cues: readonly Cue[] };

function restore(track: TaggedTrack, userId: string, videoId: string) {
  const kept = keptCues(userId, videoId, track.name);
  const base: Base = { etag: track.etag, cues: editable(track.cues) };
  if (!kept || isSame(kept.cues, base.cues)) return { base, history: begun(base.cues), restored: false };
  // Saved with the tag that it was made from: what others have saved since shows as a conflict.
  return {
    base: { ...base, etag: kept.etag },
    history: changed(begun(base.cues), editable(kept.cues)),
    restored: true,
  };
}

export type Editor = ReturnType<typeof useEditor>;

/** The cues of a track while they are edited: history, draft in the browser, saving, conflicts. */
export function useEditor(track: TaggedTrack, userId: string, videoId: string) {
  const queryClient = useQueryClient();
  const [start] = useState(() => restore(track, userId, videoId));
  const [base, setBase] = useState<Base>(start.base);
  const [history, setHistory] = useState<History>(start.history);
  const [restored, setRestored] = useState(start.restored);
  const cues = history.present;
  const dirty = cues !== base.cues && !isSame(cues, base.cues);

  // Nothing is being edited: what others save shows up here.
  if (!dirty && track.etag !== base.etag) {
    const fresh = editable(track.cues);
    setBase({ etag: track.etag, cues: fresh });
    setHistory(begun(fresh));
  }

  useEffect(() => {
    const timer = setTimeout(() => {
      keepCues(userId, videoId, track.name, dirty ? { etag: base.etag, cues: plain(cues) } : null);
    }, KEEP_MS);
    return () => clearTimeout(timer);
  }, [userId, videoId, track.name, dirty, base.etag, cues]);

  const save = useMutation({
    mutationFn: ({ etag, sent }: { etag: string; sent: readonly Cue[] }) =>
      saveCaptions(videoId, track.name, etag, plain(sent)),
    onSuccess: (saved, { sent }) => {
      // Ends that reach into the next cue were cut. What was typed while it was being saved stays, as a change.
      const kept = asKept(sent, saved.cues);
      setBase({ etag: saved.etag, cues: kept });
      setHistory((now) => (now.present === sent ? { ...now, present: kept, kind: null } : now));
      setRestored(false);
      queryClient.setQueryData(captionQuery(videoId, track.name).queryKey, saved);
      void queryClient.invalidateQueries({ queryKey: videoKeys.details(videoId) });
      toast.good("Captions saved");
    },
  });
  const problem = save.error ? asProblem(save.error) : null;
  const change = (next: readonly Cue[], kind: string | null = null) =>
    setHistory((now) => changed(now, next, kind));
  const send = (etag: string) => {
    const sent = sorted(cues);
    if (sent !== cues) change(sent);
    save.mutate({ etag, sent });
  };
  const readTheirs = () => queryClient.fetchQuery({ ...captionQuery(videoId, track.name), staleTime: 0 });
  return {
    cues,
    dirty,
    restored,
    problem,
    conflict: problem?.code === "version_mismatch",
    saving: save.isPending,
    canUndo: history.past.length > 0,
    canRedo: history.future.length > 0,
    change,
    undo: () => setHistory(undone),
    redo: () => setHistory(redone),
    save: () => send(base.etag),
    forget: () => save.reset(),
    discard: () => {
      setHistory((now) => changed(now, base.cues));
      setRestored(false);
      save.reset();
    },
    overwrite: async () => {
      const theirs = await readTheirs();
      save.reset();
      send(theirs.etag);
    },
    /** Their cues instead of one's own, which `undo` brings back. */
    takeTheirs: async () => {
      const theirs = await readTheirs();
      const fresh = editable(theirs.cues);
      setBase({ etag: theirs.etag, cues: fresh });
      setHistory((now) => changed(now, fresh));
      setRestored(false);
      save.reset();
    },
  };
}
