import { useQuery } from "@tanstack/react-query";
import type { AiDay, AiUsage } from "@/api/ai";
import { instance } from "@/api/instance";
import { asProblem } from "@/api/problem";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { ProblemNote } from "@/components/problem-note";
import { Progress, Skeleton } from "@/components/status";
import { pluginsQuery } from "@/features/settings/plugins-query";
import { formatLanguage } from "@/lib/format";
import { formatCount, formatUsd } from "./format";
import { aiUsageQuery } from "./queries";

const SERVES = {
  transcribe: "Captions",
  describe: "Title, chapters and the like",
  translate: "Translations",
  embed: "Search by meaning",
} as const;

/** What AI costs, what it may cost, and who does what. */
export function AiCard() {
  const usage = useQuery(aiUsageQuery);
  return (
    <Card title="AI">
      <Providers />
      <h3 className="font-semibold">Cost of your videos</h3>
      {usage.isPending && <Skeleton className="h-40" />}
      {usage.isError && (
        <ProblemNote problem={asProblem(usage.error)}>
          <Button size="sm" onClick={() => usage.refetch()}>
            Try again
          </Button>
        </ProblemNote>
      )}
      {usage.data && <Costs usage={usage.data} />}
    </Card>
  );
}

function Providers() {
  const { ai } = instance();
  const plugins = useQuery(pluginsQuery);
  const served = ai ? (Object.keys(SERVES) as (keyof typeof SERVES)[]) : [];
  const used = new Set(served.flatMap((one) => ai?.[one] ?? []));
  if (!ai || used.size === 0) {
    return <p className="text-muted text-sm">No AI provider is set up on this Echo.</p>;
  }
  const limitations = (plugins.data?.items ?? [])
    .flatMap((plugin) => Object.entries(limitationsOf(plugin.capabilities)))
    .filter(([provider]) => used.has(provider));
  return (
    <>
      <dl className="grid grid-cols-[auto_minmax(0,1fr)] gap-x-4 gap-y-1.5 text-sm">
        {served.map((one) => (
          <div key={one} className="contents">
            <dt className="text-muted">{SERVES[one]}</dt>
            <dd className="wrap-anywhere">{ai[one].join(", else ") || "nobody"}</dd>
          </div>
        ))}
        {ai.translateTo.length > 0 && (
          <>
            <dt className="text-muted">Translated to</dt>
            <dd>{ai.translateTo.map(formatLanguage).join(", ")}</dd>
          </>
        )}
      </dl>
      {limitations.map(([provider, sentences]) => (
        <details key={provider} className="text-sm">
          <summary>What {provider} cannot do</summary>
          <ul className="mt-1 ml-5 list-disc text-muted">
            {sentences.map((sentence) => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
        </details>
      ))}
    </>
  );
}

/** Sentences of each provider of a plugin, where its capabilities hold any. */
export function limitationsOf(capabilities: Record<string, unknown>): Record<string, string[]> {
  const { limitations } = capabilities;
  if (typeof limitations !== "object" || limitations === null) return {};
  return Object.fromEntries(
    Object.entries(limitations)
      .filter(([, told]) => Array.isArray(told))
      .map(([provider, told]) => [provider, (told as unknown[]).map(String)]),
  );
}

function Costs({ usage }: { usage: AiUsage }) {
  const { today, budgetPerDayUsd, days } = usage;
  const sum = days.reduce((total, one) => total + one.costUsd, 0);
  const calls = days.reduce((total, one) => total + one.calls, 0);
  return (
    <div className="grid gap-3 text-sm">
      <p>
        Today {formatUsd(today.costUsd)}
        {today.calls > 0 && ` for ${formatCount(today.calls)} ${today.calls === 1 ? "call" : "calls"}`}
        {budgetPerDayUsd !== null &&
          `; all people of this Echo together may spend ${formatUsd(budgetPerDayUsd)} a day`}
        .
      </p>
      {budgetPerDayUsd !== null && budgetPerDayUsd > 0 && (
        <Progress
          label="Your part of today's budget"
          percent={Math.min(100, (100 * today.costUsd) / budgetPerDayUsd)}
        />
      )}
      <p className="text-muted">
        In {days.length} days: {formatUsd(sum)}, {formatCount(calls)} {calls === 1 ? "call" : "calls"}.
      </p>
      {calls > 0 && (
        <>
          <Bars days={days} />
          <DayTable days={days} />
        </>
      )}
    </div>
  );
}

/** The days as bars, by what they cost; by their calls where nothing costs anything. The table says the same in words. */
function Bars({ days }: { days: readonly AiDay[] }) {
  const free = days.every((one) => one.costUsd === 0);
  const height = (one: AiDay) => (free ? one.calls : one.costUsd);
  const highest = Math.max(...days.map(height));
  return (
    <div aria-hidden="true" className="grid gap-1">
      <div className="flex h-24 items-end gap-px sm:gap-1">
        {days.map((one) => (
          <div
            key={one.date}
            title={`${one.date}: ${formatUsd(one.costUsd)}, ${one.calls} calls`}
            className="min-h-px flex-1 rounded-t-sm bg-accent"
            style={{ height: `${(100 * height(one)) / highest}%` }}
          />
        ))}
      </div>
      <div className="flex justify-between border-line border-t pt-1 text-muted text-xs">
        <span>{days[0]?.date}</span>
        <span>{free ? "calls" : "cost"} a day</span>
        <span>{days.at(-1)?.date}</span>
      </div>
    </div>
  );
}

function DayTable({ days }: { days: readonly AiDay[] }) {
  return (
    <details>
      <summary>Day by day</summary>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <section className="mt-2 max-h-80 overflow-auto" tabIndex={0} aria-label="Cost day by day">
        <table className="w-full text-left">
          <thead className="text-muted text-xs">
            <tr>
              <th scope="col" className="py-1 pr-3 font-medium">
                Day
              </th>
              <th scope="col" className="py-1 pr-3 text-right font-medium">
                Cost
              </th>
              <th scope="col" className="py-1 pr-3 text-right font-medium">
                Calls
              </th>
              <th scope="col" className="py-1 pr-3 text-right font-medium">
                Tokens
              </th>
              <th scope="col" className="py-1 font-medium">
                By
              </th>
            </tr>
          </thead>
          <tbody>
            {days
              .filter((one) => one.calls > 0)
              .map((one) => (
                <tr key={one.date} className="border-line border-t tabular-nums">
                  <td className="py-1 pr-3 whitespace-nowrap">{one.date}</td>
                  <td className="py-1 pr-3 text-right">{formatUsd(one.costUsd)}</td>
                  <td className="py-1 pr-3 text-right">{formatCount(one.calls)}</td>
                  <td className="py-1 pr-3 text-right">{formatCount(one.inputTokens + one.outputTokens)}</td>
                  <td className="py-1">{one.byProvider.map((by) => by.model || by.provider).join(", ")}</td>
                </tr>
              ))}
          </tbody>
        </table>
      </section>
    </details>
  );
}
