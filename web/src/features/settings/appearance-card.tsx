import { Monitor, Moon, Sun } from "lucide-react";
import { Card } from "@/components/card";
import { setTheme, type Theme, useTheme } from "@/lib/theme";

const THEMES: [Theme, string, typeof Sun][] = [
  ["system", "As the system", Monitor],
  ["light", "Light", Sun],
  ["dark", "Dark", Moon],
];

export function AppearanceCard() {
  const chosen = useTheme();
  return (
    <Card title="Appearance">
      <fieldset className="flex flex-wrap gap-2">
        <legend className="sr-only">Colours</legend>
        {THEMES.map(([theme, label, Icon]) => (
          <label
            key={theme}
            className="inline-flex h-10 items-center gap-2 rounded-lg border border-line px-4 text-sm has-checked:border-accent has-checked:bg-accent-soft has-focus-visible:outline-2 has-focus-visible:outline-accent"
          >
            <input
              type="radio"
              name="theme"
              className="sr-only"
              checked={chosen === theme}
              onChange={() => setTheme(theme)}
            />
            <Icon className="size-4" aria-hidden="true" />
            {label}
          </label>
        ))}
      </fieldset>
    </Card>
  );
}
