import { describe, expect, it } from "vitest";
import { diffLists, diffWords } from "./diff";

const shown = (before: string, after: string) =>
  diffWords(before, after)
    .map(({ kind, text }) => (kind === "same" ? text : kind === "added" ? `+${text}+` : `-${text}-`))
    .join("");

describe("diffWords", () => {
  it.each([
    ["a b c", "a b c", "a b c"],
    ["a b c", "a x c", "a -b-+x+ c"],
    ["", "new words", "+new words+"],
    ["old", "", "-old-"],
    ["a c", "a b c", "a +b +c"],
    ["a b b", "a b", "a b- b-"],
  ])("%s → %s", (before, after, expected) => expect(shown(before, after)).toBe(expected));

  it("gives both texts back", () => {
    const [before, after] = ["the quick brown fox jumps", "a quick red fox jumps high"];
    const parts = diffWords(before, after);
    const side = (other: string) =>
      parts
        .filter((one) => one.kind !== other)
        .map((one) => one.text)
        .join("");
    expect(side("added")).toBe(before);
    expect(side("removed")).toBe(after);
  });

  it("does not compare what would take too long", () => {
    const [before, after] = ["a ".repeat(3000), "b ".repeat(3000)];
    expect(diffWords(before, after).filter((one) => one.kind === "same").length).toBeLessThan(2);
  });
});

describe("diffLists", () => {
  it("finds tags that come and go", () => {
    expect(diffLists(["sea", "sun"], ["sea", "sand"], (tag) => tag).map((one) => one.kind)).toEqual([
      "same",
      "removed",
      "added",
    ]);
  });
});
