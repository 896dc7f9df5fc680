import { describe, expect, it } from "vitest";
import { checkChapters, formatStart, parseStart } from "./chapters";

describe("parseStart", () => {
  it.each([
    ["0:00", 0],
    ["75", 75],
    ["1:15", 75],
    ["01:01:15.5", 3675.5],
    [" 2:03 ", 123],
  ])("%s is %d seconds", (text, seconds) => expect(parseStart(text)).toBe(seconds));

  it.each(["", "abc", "1:75", "1:60:00", "-1", "1:2:3:4", "1e3"])("%s is no time", (text) => {
    expect(parseStart(text)).toBeNull();
  });

  it.each([0, 1, 59.5, 60, 75.125, 3599.999, 3600, 86399])("reads back what it writes: %d", (seconds) => {
    expect(parseStart(formatStart(seconds))).toBe(seconds);
  });
});

describe("checkChapters", () => {
  it("puts chapters in order and finds nothing wrong with good ones", () => {
    const drafts = [
      { start: "1:00", title: "End" },
      { start: "0:00", title: " Begin " },
    ];
    expect(checkChapters(drafts, 120)).toEqual({
      chapters: [
        { startSeconds: 0, title: "Begin" },
        { startSeconds: 60, title: "End" },
      ],
      errors: [undefined, undefined],
    });
  });

  it("names what is wrong, line by line", () => {
    const drafts = [
      { start: "x", title: "a" },
      { start: "0:10", title: "" },
      { start: "0:20", title: "b" },
      { start: "20", title: "c" },
      { start: "3:00", title: "d" },
    ];
    const { errors } = checkChapters(drafts, 120);
    expect(errors.map((error) => error?.split(" ")[0])).toEqual(["Write", "Give", undefined, "Two", "The"]);
  });
});
