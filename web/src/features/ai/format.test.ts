import { expect, it } from "vitest";
import { formatUsd } from "./format";

it.each([
  [0, "$0"],
  [0.00001, "less than $0.0001"],
  [0.00042, "$0.0004"],
  [0.0999, "$0.0999"],
  [1.5, "$1.50"],
  [12, "$12.00"],
])("%d dollars", (usd, text) => expect(formatUsd(usd)).toBe(text));
