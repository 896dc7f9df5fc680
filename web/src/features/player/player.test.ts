import { describe, expect, it } from "vitest";
import { chapterAt, commandFor, nextRate } from "./keys";
import { parseStoryboard, tileAt } from "./storyboard";

const BASE = "https://echo.example/api/v1/stream/video/1/storyboard.vtt?token=t";

describe("parseStoryboard", () => {
  const text = [
    "WEBVTT",
    "",
    "NOTE nothing",
    "",
    "00:00.000 --> 00:05.000",
    "storyboard/sheet-0.jpg?token=t#xywh=0,0,160,90",
    "",
    "2",
    "01:00:05.500 --> 01:00:10.000",
    "https://other.example/s.jpg#xywh=pixel:160,90,160,90",
    "",
    "00:20.000 --> 00:25.000",
    "only words",
    "",
  ];

  it.each(["\n", "\r\n"])("reads cues whatever ends their lines: %j", (end) => {
    expect(parseStoryboard(text.join(end), BASE)).toEqual([
      {
        start: 0,
        end: 5,
        url: "https://echo.example/api/v1/stream/video/1/storyboard/sheet-0.jpg?token=t",
        x: 0,
        y: 0,
        width: 160,
        height: 90,
      },
      { start: 3605.5, end: 3610, url: "https://other.example/s.jpg", x: 160, y: 90, width: 160, height: 90 },
    ]);
  });

  it("makes nothing of what is no storyboard", () => {
    expect(parseStoryboard("<html>", BASE)).toEqual([]);
    expect(parseStoryboard("", BASE)).toEqual([]);
  });
});

describe("tileAt", () => {
  const tiles = [0, 5, 10].map((start) => ({
    start,
    end: start + 5,
    url: "",
    x: start,
    y: 0,
    width: 1,
    height: 1,
  }));

  it.each([
    [0, 0],
    [4.99, 0],
    [5, 5],
    [12, 10],
    [99, 10],
    [-1, 0],
  ])("at %d s shows the one from %d s", (time, start) => expect(tileAt(tiles, time)?.start).toBe(start));

  it("shows none where there are none", () => expect(tileAt([], 1)).toBeUndefined());
});

describe("commandFor", () => {
  const plain = { ctrlKey: false, metaKey: false, altKey: false };

  it.each([
    [" ", { do: "toggle" }],
    ["K", { do: "toggle" }],
    ["ArrowLeft", { do: "seekBy", by: -5 }],
    ["7", { do: "seekTo", fraction: 0.7 }],
    [">", { do: "faster" }],
  ])("%s", (key, command) => expect(commandFor({ key, ...plain })).toEqual(command));

  it("leaves the browser its own shortcuts", () => {
    expect(commandFor({ key: "l", ...plain, ctrlKey: true })).toBeNull();
    expect(commandFor({ key: "Tab", ...plain })).toBeNull();
  });
});

it("goes through the speeds and stays at the ends", () => {
  expect(nextRate(1, 1)).toBe(1.25);
  expect(nextRate(1, -1)).toBe(0.75);
  expect(nextRate(2, 1)).toBe(2);
  expect(nextRate(0.5, -1)).toBe(0.5);
});

it("knows which chapter a moment is in", () => {
  const chapters = [
    { startSeconds: 5, title: "A" },
    { startSeconds: 10, title: "B" },
  ];
  expect(chapterAt(chapters, 4)).toBeUndefined();
  expect(chapterAt(chapters, 5)?.title).toBe("A");
  expect(chapterAt(chapters, 100)?.title).toBe("B");
});
