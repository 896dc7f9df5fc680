import { Plus, Trash2 } from "lucide-react";
import { Button } from "@/components/button";
import { Input } from "@/components/field";
import { type ChapterDraft, formatStart } from "./chapters";

type ChapterEditorProps = {
  chapters: ChapterDraft[];
  errors: (string | undefined)[];
  onChange: (chapters: ChapterDraft[]) => void;
  /** Where the player stands, for a chapter that begins there. */
  now: () => number;
};

export function ChapterEditor({ chapters, errors, onChange, now }: ChapterEditorProps) {
  const set = (index: number, change: Partial<ChapterDraft>) =>
    onChange(chapters.map((chapter, at) => (at === index ? { ...chapter, ...change } : chapter)));
  return (
    <fieldset className="grid gap-2">
      <legend className="mb-1.5 font-medium text-sm">Chapters</legend>
      {chapters.length === 0 && (
        <p className="text-muted text-xs">
          People jump between chapters in the player. Add one where the player stands.
        </p>
      )}
      {chapters.map((chapter, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a line has no name of its own; times and titles change while they are typed
        <div key={index} className="grid gap-1">
          <div className="flex gap-2">
            <Input
              aria-label={`Start of chapter ${index + 1}`}
              aria-invalid={errors[index] ? true : undefined}
              className="w-24"
              value={chapter.start}
              onChange={(event) => set(index, { start: event.target.value })}
            />
            <Input
              aria-label={`Title of chapter ${index + 1}`}
              className="min-w-0 flex-1"
              maxLength={200}
              value={chapter.title}
              onChange={(event) => set(index, { title: event.target.value })}
            />
            <Button
              variant="ghost"
              size="icon"
              aria-label={`Remove chapter ${index + 1}`}
              onClick={() => onChange(chapters.filter((_, at) => at !== index))}
            >
              <Trash2 />
            </Button>
          </div>
          {errors[index] && <p className="font-medium text-bad text-xs">{errors[index]}</p>}
        </div>
      ))}
      <Button
        size="sm"
        className="w-fit"
        onClick={() =>
          onChange([
            ...chapters,
            { start: chapters.length ? formatStart(Math.floor(now())) : "0:00", title: "" },
          ])
        }
      >
        <Plus /> Add a chapter
      </Button>
    </fieldset>
  );
}
