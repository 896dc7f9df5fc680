const whole = new Intl.NumberFormat(undefined);

/** Dollars, as precise as small amounts need: 0 → "$0", 0.00042 → "$0.0004", 1.5 → "$1.50". */
export function formatUsd(usd: number): string {
  if (usd === 0) return "$0";
  if (usd < 0.0001) return "less than $0.0001";
  return `$${usd.toFixed(usd < 0.1 ? 4 : 2)}`;
}

export function formatCount(count: number): string {
  return whole.format(count);
}
