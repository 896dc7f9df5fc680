import { Search, X } from "lucide-react";
import type { ComponentProps } from "react";
import { cn } from "@/lib/cn";
import { Button } from "./button";
import { inputClass } from "./field";

type SearchInputProps = Omit<ComponentProps<"input">, "onChange" | "value"> & {
  value: string;
  onChange: (text: string) => void;
  boxClassName?: string;
};

/** A field for searching, with a button that empties it. */
export function SearchInput({ value, onChange, boxClassName, className, ...rest }: SearchInputProps) {
  return (
    <search className={cn("relative", boxClassName)}>
      <Search className="pointer-events-none absolute top-3 left-3 size-4 text-muted" aria-hidden="true" />
      <input
        type="text"
        inputMode="search"
        enterKeyHint="search"
        maxLength={200}
        value={value}
        onChange={(event) => onChange(event.target.value)}
        className={cn(inputClass, "h-10 px-9", className)}
        {...rest}
      />
      {value && (
        <Button
          variant="ghost"
          size="icon-sm"
          aria-label="Clear the search"
          className="absolute top-1 right-1"
          onClick={() => onChange("")}
        >
          <X />
        </Button>
      )}
    </search>
  );
}
