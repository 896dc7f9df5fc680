import { useQuery } from "@tanstack/react-query";
import { instance } from "@/api/instance";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { ProblemNote } from "@/components/problem-note";
import { Badge, Skeleton, type Tone } from "@/components/status";
import { formatBytes } from "@/lib/format";
import { pluginsQuery } from "./plugins-query";

const TONES: Record<string, Tone> = { loaded: "good", disabled: "plain", failed: "bad", quarantined: "bad" };

export function InstanceCard() {
  const { version, upload } = instance();
  return (
    <Card title="This Echo">
      <p className="text-muted text-sm">
        Version {version}. A video may have up to {formatBytes(upload.maxSizeBytes)}.{" "}
        <a href="/docs" className="text-accent underline underline-offset-4">
          For programs: the API
        </a>
      </p>
      <h3 className="font-semibold">Plugins</h3>
      <Plugins />
    </Card>
  );
}

function Plugins() {
  const plugins = useQuery(pluginsQuery);
  if (plugins.isPending) return <Skeleton className="h-32" />;
  if (plugins.isError) {
    return (
      <ProblemNote problem={asProblem(plugins.error)}>
        <Button size="sm" onClick={() => plugins.refetch()}>
          Try again
        </Button>
      </ProblemNote>
    );
  }
  return (
    <ul className="divide-y divide-line rounded-xl border border-line">
      {plugins.data.items.map((plugin) => (
        <li key={plugin.name} className="grid gap-1 p-4 text-sm">
          <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
            <span className="min-w-0 truncate font-medium">{plugin.name}</span>
            <span className="flex-1 text-muted">{plugin.version}</span>
            {plugin.selected && <span className="whitespace-nowrap text-muted text-xs">in use</span>}
            <Badge tone={TONES[plugin.status] ?? "plain"}>{plugin.status}</Badge>
          </div>
          {Object.entries(plugin.provides).map(([kind, names]) => (
            <p key={kind} className="text-muted">
              {kind}: {[names].flat().join(", ")}
            </p>
          ))}
          {plugin.reason && <p className="text-bad">{plugin.reason}</p>}
        </li>
      ))}
    </ul>
  );
}
