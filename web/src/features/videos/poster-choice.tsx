import { useId } from "react";
import type { Schemas } from "@/api/client";
import { formatClock } from "@/lib/format";

type PosterChoiceProps = {
  posters: Schemas["PosterItem"][];
  chosen: string;
  onChange: (name: string) => void;
};

/** The pictures that may stand for the video; none chosen means Echo's choice. */
export function PosterChoice({ posters, chosen, onChange }: PosterChoiceProps) {
  const group = useId();
  if (posters.length === 0) return null;
  const automatic = posters.find((poster) => poster.chosen)?.name;
  return (
    <fieldset>
      <legend className="mb-1.5 font-medium text-sm">Poster</legend>
      <div className="grid grid-cols-3 gap-2 sm:grid-cols-6">
        {posters.map((poster) => (
          <label
            key={poster.name}
            className="relative overflow-hidden rounded-lg outline-2 outline-transparent outline-offset-2 has-checked:outline-accent has-focus-visible:outline-ink"
          >
            <input
              type="radio"
              name={group}
              className="sr-only"
              checked={chosen ? chosen === poster.name : poster.name === automatic}
              onChange={() => onChange(poster.name)}
            />
            <img
              src={poster.url}
              alt={`At ${formatClock(poster.atSeconds)}`}
              className="aspect-video w-full bg-raised object-cover"
            />
          </label>
        ))}
      </div>
      {chosen && (
        <button
          type="button"
          className="mt-2 text-accent text-sm underline underline-offset-4"
          onClick={() => onChange("")}
        >
          Let Echo choose
        </button>
      )}
    </fieldset>
  );
}
