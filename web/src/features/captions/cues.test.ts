import { describe, expect, it } from "vitest";
import {
  add,
  charactersPerSecond,
  cueIndexAt,
  editable,
  mergeNext,
  plain,
  remove,
  setText,
  setTime,
  shift,
  sorted,
  split,
  warningsOf,
} from "./cues";
import { begun, changed, redone, undone } from "./history";
import { formatCueTime, parseCueTime } from "./times";

const three = () =>
  editable([
    { startSeconds: 1, endSeconds: 3, text: "Good morning everyone" },
    { startSeconds: 3, endSeconds: 5, text: "and welcome" },
    { startSeconds: 8, endSeconds: 9, text: "to the show" },
  ]);
const times = (cues: readonly { startSeconds: number; endSeconds: number }[]) =>
  cues.map(({ startSeconds, endSeconds }) => [startSeconds, endSeconds]);

describe("cue operations", () => {
  it("splits at the caret and shares the time by letters", () => {
    const cues = split(editable([{ startSeconds: 10, endSeconds: 14, text: "abc  d" }]), 0, 4);
    expect(plain(cues)).toEqual([
      { startSeconds: 10, endSeconds: 13, text: "abc" },
      { startSeconds: 13, endSeconds: 14, text: "d" },
    ]);
    expect(new Set(cues.map((one) => one.id)).size).toBe(2);
  });

  it.each([0, 21, 99])("does not split where one side is empty: %d", (caret) => {
    const cues = three();
    expect(split(cues, 0, caret)).toBe(cues);
  });

  it("merges with the next and has none after the last", () => {
    const cues = three();
    expect(plain(mergeNext(cues, 0))[0]).toEqual({
      startSeconds: 1,
      endSeconds: 5,
      text: "Good morning everyone and welcome",
    });
    expect(mergeNext(cues, 2)).toBe(cues);
  });

  it("removes one", () =>
    expect(times(remove(three(), 1))).toEqual([
      [1, 3],
      [8, 9],
    ]));

  it("adds in its place, into the room that is there", () => {
    const inGap = add(three(), 7);
    expect(inGap.at).toBe(2);
    expect(times(inGap.cues)[2]).toEqual([7, 8]);
    expect(times(add(three(), 4).cues)[2]).toEqual([5, 7]);
    expect(times(add(three(), 20).cues)[3]).toEqual([20, 22]);
    expect(add([], 0).at).toBe(0);
  });

  it("shifts one or all and none before 0", () => {
    expect(times(shift(three(), null, 0.25))).toEqual([
      [1.25, 3.25],
      [3.25, 5.25],
      [8.25, 9.25],
    ]);
    expect(times(shift(three(), null, -9))).toEqual([
      [0, 2],
      [2, 4],
      [7, 8],
    ]);
    expect(times(shift(three(), 2, -0.5))).toEqual([
      [1, 3],
      [3, 5],
      [7.5, 8.5],
    ]);
  });

  it("moves the other end along where a cue would turn round", () => {
    expect(times(setTime(three(), 0, "start", 4))[0]).toEqual([4, 4.1]);
    expect(times(setTime(three(), 1, "end", 2))[1]).toEqual([1.9, 2]);
    expect(times(setTime(three(), 0, "end", 0))[0]).toEqual([0, 0.1]);
  });

  it("sorts by start and leaves what is in order alone", () => {
    const cues = three();
    expect(sorted(cues)).toBe(cues);
    expect(times(sorted(setTime(cues, 0, "start", 6)))).toEqual([
      [3, 5],
      [6, 6.1],
      [8, 9],
    ]);
  });

  it.each([
    [0, -1],
    [1, 0],
    [4.9, 1],
    [7, 1],
    [100, 2],
  ])("knows which is on at %d s", (seconds, index) => expect(cueIndexAt(three(), seconds)).toBe(index));
});

describe("warnings", () => {
  it("has none for a good cue", () => expect(warningsOf(three(), 1, 60)).toEqual([]));

  it("names overlap, speed, emptiness, order and the end", () => {
    const cues = editable([
      { startSeconds: 0, endSeconds: 2, text: "x".repeat(60) },
      { startSeconds: 1.5, endSeconds: 3, text: " " },
      { startSeconds: 9, endSeconds: 12, text: "late" },
      { startSeconds: 4, endSeconds: 5, text: "early" },
    ]);
    const found = (at: number) => warningsOf(cues, at, 10).map((one) => [one.grave, one.text.split(" ")[1]]);
    expect(found(0)).toEqual([
      [false, "overlaps"],
      [false, "to"],
    ]);
    expect(found(1)).toEqual([[true, "has"]]);
    expect(found(2)).toEqual([
      [true, "ends"],
      [false, "begins"],
    ]);
  });

  it("refuses two that begin together", () => {
    const cue = { startSeconds: 1, endSeconds: 2, text: "a" };
    expect(warningsOf([cue, cue], 0, 10).map((one) => one.grave)).toEqual([true]);
  });

  it("counts letters as they are read", () => {
    expect(charactersPerSecond({ startSeconds: 0, endSeconds: 2, text: " ab \n cd " })).toBe(2.5);
  });
});

describe("history", () => {
  it("undoes typing at once, other changes one by one, and redoes them", () => {
    const cues = three();
    let history = changed(begun(cues), setText(cues, 0, "a"), "text 1");
    history = changed(history, setText(history.present, 0, "ab"), "text 1");
    history = changed(history, remove(history.present, 1));
    expect(history.past).toHaveLength(2);
    history = undone(history);
    expect(history.present).toHaveLength(3);
    expect(history.present[0]?.text).toBe("ab");
    history = undone(history);
    expect(history.present).toBe(cues);
    expect(undone(history)).toBe(history);
    history = redone(redone(history));
    expect(history.present).toHaveLength(2);
    expect(redone(history)).toBe(history);
  });

  it("forgets what was undone once something else is changed", () => {
    const cues = three();
    const history = changed(undone(changed(begun(cues), remove(cues, 0))), remove(cues, 1));
    expect(history.future).toEqual([]);
  });

  it("is the same after a change that changed nothing", () => {
    const history = begun(three());
    expect(changed(history, history.present)).toBe(history);
  });
});

describe("times", () => {
  it.each([
    ["75.5", 75.5],
    ["1:15.5", 75.5],
    ["1:01:15,500", 3675.5],
    ["0:00.001", 0.001],
  ])("%s is %d", (text, seconds) => expect(parseCueTime(text)).toBe(seconds));
  it.each(["", "x", "1:75", "1:60:00", "-1", "1.2345"])("%s is no time", (text) =>
    expect(parseCueTime(text)).toBeNull(),
  );
  it.each([0, 0.001, 1.999, 59.9995, 75.25, 3675.5])("reads back what it writes: %d", (seconds) =>
    expect(parseCueTime(formatCueTime(seconds))).toBeCloseTo(seconds, 2),
  );
});
