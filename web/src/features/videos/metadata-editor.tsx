import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useBlocker } from "@tanstack/react-router";
import { useEffect, useId, useRef, useState } from "react";
import { type SuggestedChapter, type SuggestedField, type Suggestion, suggestionsOf } from "@/api/ai";
import type { Schemas, Visibility } from "@/api/client";
import { asProblem, type Problem } from "@/api/problem";
import { Button } from "@/components/button";
import { Dialog } from "@/components/dialog";
import { Field, Input, inputClass } from "@/components/field";
import { ProblemNote } from "@/components/problem-note";
import { toast } from "@/components/toast";
import { acceptSuggestion } from "@/features/suggestions/queries";
import { SuggestionSlot } from "@/features/suggestions/suggestion-card";
import { cn } from "@/lib/cn";
import { ChapterEditor } from "./chapter-editor";
import { chapterDrafts, checkChapters } from "./chapters";
import { changedFields, type Draft, draftOf, keepDraft, keptDraft, rebased } from "./draft";
import { PosterChoice } from "./poster-choice";
import { type TaggedDetails, updateMetadata, videoKeys, videoQuery } from "./queries";
import { VISIBILITY } from "./status-words";
import { TagsInput } from "./tags-input";

type EditorProps = {
  video: TaggedDetails;
  userId: string;
  now: () => number;
  onSeek: (seconds: number) => void;
};

const NAMES: Record<keyof Draft, string> = {
  title: "title",
  description: "description",
  tags: "tags",
  language: "language",
  visibility: "visibility",
  poster: "poster",
  chapters: "chapters",
};

/** Edits what a video says about itself. Typed text survives a reload; a change made elsewhere is never overwritten unseen. */
export function MetadataEditor({ video, userId, now, onSeek }: EditorProps) {
  const queryClient = useQueryClient();
  const [base, setBase] = useState(() => ({ draft: draftOf(video), etag: video.etag }));
  const [draft, setDraft] = useState<Draft>(() => ({ ...base.draft, ...keptDraft(userId, video.videoId) }));
  const [restored, setRestored] = useState(() => changedFields(base.draft, draft).length > 0);
  /** The suggestions that were opened in their fields. */
  const [editing, setEditing] = useState<Partial<Record<SuggestedField, string>>>({});
  const form = useRef<HTMLFormElement>(null);
  const dirty = changedFields(base.draft, draft);
  const { chapters, errors } = checkChapters(draft.chapters, video.durationSeconds);
  const invalid = !draft.title.trim() || errors.some(Boolean);

  // Nothing is being edited: what others change shows up here. While something is, the server's 412 tells of it.
  if (dirty.length === 0 && video.etag !== base.etag) {
    setBase({ draft: draftOf(video), etag: video.etag });
    setDraft(draftOf(video));
  }

  const changes = dirty.length
    ? JSON.stringify(Object.fromEntries(dirty.map((field) => [field, draft[field]])))
    : null;
  useEffect(() => {
    keepDraft(userId, video.videoId, changes === null ? null : (JSON.parse(changes) as Partial<Draft>));
  }, [changes, userId, video.videoId]);

  const blocker = useBlocker({
    shouldBlockFn: ({ current, next }) => dirty.length > 0 && current.pathname !== next.pathname,
    enableBeforeUnload: () => dirty.length > 0,
    withResolver: true,
  });

  const save = useMutation({
    mutationFn: async ({ etag, draft }: { etag: string; draft: Draft }) => {
      const sent: Record<string, unknown> = Object.fromEntries(dirty.map((field) => [field, draft[field]]));
      if ("chapters" in sent) sent.chapters = chapters;
      if ("title" in sent) sent.title = draft.title.trim();
      const { data, response } = await updateMetadata(
        video.videoId,
        etag,
        sent as Schemas["MetadataRequest"],
      );
      const edited = (Object.keys(editing) as SuggestedField[]).filter((field) => dirty.includes(field));
      if (edited.length === 0) return { data, etag: response.headers.get("ETag") ?? "" };
      try {
        for (const field of edited) await acceptSuggestion(video.videoId, editing[field] ?? "", data[field]);
      } catch (error) {
        // What was written is saved; only the suggestion is still open, or was decided elsewhere meanwhile.
        if (asProblem(error).code !== "suggestion_decided")
          toast.problem("Saved, but the suggestion is still open", error);
      }
      const fresh = await queryClient.fetchQuery({ ...videoQuery(video.videoId), staleTime: 0 });
      return { data: fresh, etag: fresh.etag };
    },
    onSuccess: ({ data, etag }, { draft: sent }) => {
      setEditing({});
      setBase({ draft: draftOf(data), etag });
      // What was typed while it was being saved stays.
      setDraft((now) => {
        const since = changedFields(sent, now).map((field) => [field, now[field]]);
        return { ...draftOf(data), ...(Object.fromEntries(since) as Partial<Draft>) };
      });
      setRestored(false);
      queryClient.setQueryData(videoQuery(video.videoId).queryKey, (old) => old && { ...old, ...data, etag });
      void queryClient.invalidateQueries({ queryKey: videoKeys.all });
      toast.good("Saved");
    },
  });
  const problem = save.error ? asProblem(save.error) : null;
  const set = <K extends keyof Draft>(field: K, value: Draft[K]) =>
    setDraft((old) => ({ ...old, [field]: value }));
  const discard = () => {
    setDraft(base.draft);
    setRestored(false);
    setEditing({});
    save.reset();
  };
  const openSuggestion = ({ id, field, value }: Suggestion) => {
    setEditing((old) => ({ ...old, [field]: id }));
    const shown = field === "chapters" ? chapterDrafts(value as SuggestedChapter[]) : value;
    setDraft((old) => ({ ...old, [field]: shown }));
    requestAnimationFrame(() =>
      form.current?.querySelector<HTMLElement>(`[data-field="${field}"] :is(input, textarea)`)?.focus(),
    );
  };
  const afterDecision = async (field: SuggestedField, accepted: boolean) => {
    const fresh = await queryClient.fetchQuery({ ...videoQuery(video.videoId), staleTime: 0 });
    const edited = accepted && rebased(base.draft, draft, draftOf(fresh), field);
    if (!edited) return;
    setBase({ draft: draftOf(fresh), etag: fresh.etag });
    setDraft(edited);
  };
  const suggestionFor = (field: SuggestedField) => (
    <SuggestionSlot
      videoId={video.videoId}
      field={field}
      suggestions={suggestionsOf(video.suggestions)}
      typed={dirty.includes(field)}
      editingId={dirty.includes(field) ? editing[field] : undefined}
      onEdit={openSuggestion}
      onDecided={afterDecision}
      onSeek={onSeek}
    />
  );

  return (
    <form
      ref={form}
      className="grid gap-5"
      aria-label="Details"
      onSubmit={(event) => {
        event.preventDefault();
        if (dirty.length && !invalid) save.mutate({ etag: base.etag, draft });
      }}
    >
      {restored && (
        <p role="status" className="flex flex-wrap items-center gap-3 rounded-xl bg-warn-soft p-3 text-sm">
          <span className="flex-1">What you typed last time is back. It is not saved yet.</span>
          <Button size="sm" onClick={discard}>
            Discard it
          </Button>
        </p>
      )}
      <div data-field="title" className="grid gap-2.5">
        <Field
          label="Title"
          error={
            problem?.fieldMessage("/title") ?? (draft.title.trim() ? undefined : "A video needs a title.")
          }
        >
          {(control) => (
            <Input
              {...control}
              value={draft.title}
              maxLength={200}
              onChange={(event) => set("title", event.target.value)}
            />
          )}
        </Field>
        {suggestionFor("title")}
      </div>
      <div data-field="description" className="grid gap-2.5">
        <Field label="Description" error={problem?.fieldMessage("/description")}>
          {(control) => (
            <textarea
              {...control}
              rows={5}
              maxLength={10_000}
              value={draft.description}
              onChange={(event) => set("description", event.target.value)}
              className={cn(inputClass, "field-sizing-content max-h-96 min-h-28")}
            />
          )}
        </Field>
        {suggestionFor("description")}
      </div>
      <VisibilityChoice value={draft.visibility} onChange={(chosen) => set("visibility", chosen)} />
      <div className="grid gap-5 sm:grid-cols-[1fr_10rem]">
        <div data-field="tags" className="grid content-start gap-2.5">
          <Field label="Tags" hint="Enter or a comma ends a tag." error={problem?.fieldMessage("/tags")}>
            {(control) => (
              <TagsInput
                id={control.id}
                aria-describedby={control["aria-describedby"]}
                tags={draft.tags}
                onChange={(tags) => set("tags", tags)}
              />
            )}
          </Field>
          {suggestionFor("tags")}
        </div>
        <div data-field="language" className="grid content-start gap-2.5">
          <Field label="Language" hint="As in en, de or pt-BR." error={problem?.fieldMessage("/language")}>
            {(control) => (
              <Input
                {...control}
                value={draft.language}
                maxLength={35}
                spellCheck={false}
                autoCapitalize="none"
                onChange={(event) => set("language", event.target.value.trim())}
              />
            )}
          </Field>
          {suggestionFor("language")}
        </div>
      </div>
      <PosterChoice
        posters={video.posters}
        chosen={draft.poster}
        onChange={(poster) => set("poster", poster)}
      />
      <div data-field="chapters" className="grid gap-2.5">
        <ChapterEditor
          chapters={draft.chapters}
          errors={errors}
          onChange={(edited) => set("chapters", edited)}
          now={now}
        />
        {suggestionFor("chapters")}
      </div>
      {problem && (
        <SaveProblem
          problem={problem}
          videoId={video.videoId}
          mine={dirty}
          onOverwrite={(etag) => save.mutate({ etag, draft })}
          onTakeTheirs={(theirs) => {
            setBase({ draft: draftOf(theirs), etag: theirs.etag });
            setDraft(draftOf(theirs));
            save.reset();
          }}
        />
      )}
      <div
        className={cn(
          "sticky bottom-[var(--tray,0px)] lg:bottom-0 -mx-5 -mb-5 flex items-center gap-3 rounded-b-2xl border-line border-t bg-surface px-5 py-3",
          dirty.length === 0 && "static",
        )}
      >
        <p className="min-w-0 flex-1 truncate text-muted text-sm" aria-live="polite">
          {dirty.length
            ? `Not saved: ${dirty.map((field) => NAMES[field]).join(", ")}`
            : "All changes are saved."}
        </p>
        {dirty.length > 0 && <Button onClick={discard}>Discard</Button>}
        <Button type="submit" variant="primary" disabled={!dirty.length || invalid} busy={save.isPending}>
          Save
        </Button>
      </div>
      <Dialog
        open={blocker.status === "blocked"}
        onClose={() => blocker.reset?.()}
        title="Leave without saving?"
      >
        <p className="text-muted">
          Changes of {dirty.map((field) => NAMES[field]).join(", ")} are not saved. They will be here when you
          come back in this browser.
        </p>
        <div className="flex justify-end gap-3">
          <Button onClick={() => blocker.proceed?.()}>Leave</Button>
          <Button variant="primary" onClick={() => blocker.reset?.()}>
            Stay
          </Button>
        </div>
      </Dialog>
    </form>
  );
}

type SaveProblemProps = {
  problem: Problem;
  videoId: string;
  mine: (keyof Draft)[];
  onOverwrite: (etag: string) => void;
  onTakeTheirs: (theirs: TaggedDetails) => void;
};

/** Why it was not saved; when somebody else changed the video meanwhile, whose words shall stay. */
function SaveProblem({ problem, videoId, mine, onOverwrite, onTakeTheirs }: SaveProblemProps) {
  const queryClient = useQueryClient();
  if (problem.code !== "version_mismatch") return <ProblemNote problem={problem} />;
  const read = () => queryClient.fetchQuery({ ...videoQuery(videoId), staleTime: 0 });
  const told = (error: unknown) => toast.problem("The video could not be read", error);
  return (
    <ProblemNote
      problem={{
        message: "This video was changed somewhere else while you were editing.",
        remedy: `Keep your ${mine.map((field) => NAMES[field]).join(", ")}, and everything else as it is now; or take what is there.`,
      }}
    >
      <Button size="sm" onClick={() => read().then((theirs) => onOverwrite(theirs.etag), told)}>
        Keep mine
      </Button>
      <Button size="sm" onClick={() => read().then(onTakeTheirs, told)}>
        Take theirs
      </Button>
    </ProblemNote>
  );
}

function VisibilityChoice({
  value,
  onChange,
}: {
  value: Visibility;
  onChange: (chosen: Visibility) => void;
}) {
  const name = useId();
  return (
    <fieldset>
      <legend className="mb-1.5 font-medium text-sm">Who can watch</legend>
      <div className="grid gap-2 sm:grid-cols-3">
        {(Object.keys(VISIBILITY) as Visibility[]).map((one) => (
          <label
            key={one}
            className="flex gap-2.5 rounded-xl border border-line p-3 has-checked:border-accent has-checked:bg-accent-soft has-focus-visible:outline-2 has-focus-visible:outline-accent"
          >
            <input
              type="radio"
              name={name}
              className="mt-1 size-4 shrink-0 accent-accent outline-none"
              checked={value === one}
              onChange={() => onChange(one)}
            />
            <span className="text-sm">
              <span className="block font-medium">{VISIBILITY[one].label}</span>
              <span className="block text-muted text-xs">{VISIBILITY[one].hint}</span>
            </span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}
