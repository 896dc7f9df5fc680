import { X } from "lucide-react";
import { type ClipboardEvent, type KeyboardEvent, useState } from "react";
import { inputClass } from "@/components/field";
import { cn } from "@/lib/cn";

type TagsInputProps = {
  id: string;
  tags: string[];
  onChange: (tags: string[]) => void;
  "aria-describedby"?: string | undefined;
};

/** Tags as chips; Enter or a comma ends one, Backspace in the empty field removes the last. */
export function TagsInput({ id, tags, onChange, ...described }: TagsInputProps) {
  const [typed, setTyped] = useState("");
  const add = (text: string) => {
    const known = new Set(tags.map((tag) => tag.toLowerCase()));
    const fresh = text
      .split(/[,\n]/)
      .map((tag) => tag.trim().slice(0, 100))
      .filter((tag) => tag && !known.has(tag.toLowerCase()) && known.add(tag.toLowerCase()));
    if (fresh.length) onChange([...tags, ...fresh].slice(0, 100));
    setTyped("");
  };
  const onKeyDown = (event: KeyboardEvent<HTMLInputElement>) => {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter" || event.key === ",") {
      event.preventDefault();
      add(typed);
    } else if (event.key === "Backspace" && !typed && tags.length) onChange(tags.slice(0, -1));
  };
  const onPaste = (event: ClipboardEvent<HTMLInputElement>) => {
    const text = event.clipboardData.getData("text");
    if (!/[,\n]/.test(text)) return;
    event.preventDefault();
    add(typed + text);
  };
  return (
    <div
      className={cn(
        inputClass,
        "flex flex-wrap gap-1.5 p-1.5 focus-within:outline-2 focus-within:outline-accent focus-within:outline-offset-2",
      )}
    >
      {tags.map((tag) => (
        <span
          key={tag}
          className="inline-flex max-w-full items-center gap-1 rounded-md bg-raised py-0.5 pr-0.5 pl-2 text-sm"
        >
          <span className="truncate">{tag}</span>
          <button
            type="button"
            aria-label={`Remove the tag ${tag}`}
            className="grid size-6 place-items-center rounded hover:bg-line"
            onClick={() => onChange(tags.filter((one) => one !== tag))}
          >
            <X className="size-3.5" aria-hidden="true" />
          </button>
        </span>
      ))}
      <input
        id={id}
        {...described}
        value={typed}
        maxLength={100}
        onChange={(event) => setTyped(event.target.value)}
        onKeyDown={onKeyDown}
        onPaste={onPaste}
        onBlur={() => add(typed)}
        className="h-7 min-w-24 flex-1 bg-transparent px-1.5 outline-none"
      />
    </div>
  );
}
