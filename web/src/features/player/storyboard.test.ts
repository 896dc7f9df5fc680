import { describe, expect, it } from "vitest";
import { parseStoryboard, tileAt } from "./storyboard";

const base = "https://echo.example/api/v1/stream/video/1/storyboard.vtt?token=abc";

describe("parseStoryboard", () => {
  it("resolves relative addresses against the index and keeps their query", () => {
    const [tile] = parseStoryboard(
      "WEBVTT\n\n00:00:05.000 --> 00:00:10.500\nstoryboard/sheet-000.jpg?token=abc#xywh=160,90,160,90\n",
      base,
    );
    expect(tile).toEqual({
      startSeconds: 5,
      endSeconds: 10.5,
      url: "https://echo.example/api/v1/stream/video/1/storyboard/sheet-000.jpg?token=abc",
      x: 160,
      y: 90,
      width: 160,
      height: 90,
    });
  });

  it("leaves absolute addresses as they are", () => {
    const [tile] = parseStoryboard(
      "WEBVTT\n\n00:00.000 --> 00:01.000\nhttps://cdn.example/a.jpg?s=1#xywh=0,0,8,8",
      base,
    );
    expect(tile?.url).toBe("https://cdn.example/a.jpg?s=1");
  });

  it("reads hours, CRLF, identifiers and settings", () => {
    const tiles = parseStoryboard(
      "WEBVTT\r\n\r\nfirst\r\n100:00:01.250 --> 100:00:02.000 align:start\r\na.jpg#xywh=0,0,8,8\r\n\r\n01:02.000 --> 01:03.000\r\na.jpg#xywh=pixel:8,0,8,8\r\n",
      base,
    );
    expect(tiles.map((tile) => tile.startSeconds)).toEqual([62, 360_001.25]);
  });

  it("leaves out what is no tile", () => {
    const cue = (address: string, times = "00:00.000 --> 00:01.000") => `${times}\n${address}\n`;
    const junk = [
      "NOTE a remark\n",
      cue("just words"),
      cue("a.jpg"),
      cue("a.jpg#xywh=0,0,0,90"),
      cue("a.jpg#xywh=percent:0,0,50,50"),
      cue("javascript:alert(1)#xywh=0,0,8,8"),
      cue("http://[#xywh=0,0,8,8"),
      cue("a.jpg#xywh=0,0,8,8", "00:02.000 --> 00:01.000"),
      cue("a.jpg#xywh=0,0,8,8", "soon --> later"),
    ];
    expect(parseStoryboard(["WEBVTT\n", ...junk].join("\n"), base)).toEqual([]);
    expect(parseStoryboard("", base)).toEqual([]);
  });
});

describe("tileAt", () => {
  const tiles = parseStoryboard(
    [2, 4, 6, 8]
      .map((start) => `00:0${start}.000 --> 00:0${start + 1}.000\na.jpg#xywh=${start},0,8,8\n`)
      .join("\n"),
    base,
  );

  it.each([
    [1.9, undefined],
    [2, 2],
    [3.5, 2],
    [4, 4],
    [7.99, 6],
    [500, 8],
  ])("at %d s", (seconds, x) => {
    expect(tileAt(tiles, seconds)?.x).toBe(x);
  });

  it("has none where there are none", () => {
    expect(tileAt([], 1)).toBeNull();
  });
});
