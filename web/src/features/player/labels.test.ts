import { describe, expect, it } from "vitest";
import { cueLines, isAutomatic, isForced, markedLabel, preferredTrack, trackLabel } from "./caption-text";
import { chapterIndexAt, chapterTitleAt } from "./chapters";
import { autoLabel, qualitiesOf, qualityLabel } from "./quality";

const level = (width: number, height: number, bitrate = 1_000_000, frameRate = 25) => ({
  width,
  height,
  bitrate,
  frameRate,
});

describe("quality labels", () => {
  it("names the short side, the rate of fast ones, the bitrate where there is no size", () => {
    expect(qualityLabel(level(1280, 720))).toBe("720p");
    expect(qualityLabel(level(720, 1280))).toBe("720p");
    expect(qualityLabel(level(1920, 1080, 1, 59.94))).toBe("1080p60");
    expect(qualityLabel(level(0, 0, 96_000))).toBe("96 kbit/s");
  });

  it("lists the largest first and of one name the best", () => {
    const found = qualitiesOf([level(640, 360), level(1280, 720, 1_000_000), level(1280, 720, 2_000_000)]);
    expect(found).toEqual([
      { level: 2, label: "720p", lines: 720 },
      { level: 0, label: "360p", lines: 360 },
    ]);
  });

  it("says what the automatic choice is", () => {
    expect(autoLabel("720p")).toBe("Auto (720p)");
    expect(autoLabel(null)).toBe("Auto");
  });
});

describe("chapters", () => {
  const chapters = [
    { startSeconds: 5, title: "Intro" },
    { startSeconds: 20, title: "Middle" },
    { startSeconds: 60, title: "End" },
  ];

  it.each([
    [0, -1],
    [5, 0],
    [19.9, 0],
    [20, 1],
    [1000, 2],
  ])("at %d s", (seconds, index) => {
    expect(chapterIndexAt(chapters, seconds)).toBe(index);
  });

  it("has no title before the first or without any", () => {
    expect(chapterTitleAt(chapters, 1)).toBe("");
    expect(chapterTitleAt([], 1)).toBe("");
    expect(chapterTitleAt(chapters, 61)).toBe("End");
  });
});

describe("captions", () => {
  const track = (id: string, language: string, forced = false) => ({ id, label: id, language, forced });

  it("shows a cue's text without its markup", () => {
    expect(cueLines("<v Ann>Fish &amp; <i>chips</i>\r\n\n a&lt;b &amp;lt; ")).toEqual([
      "Fish & chips",
      "a<b &lt;",
    ]);
  });

  it("prefers the language, then its relatives, then one that is not forced", () => {
    const tracks = [track("f", "de", true), track("en", "en-GB"), track("de", "de")];
    expect(preferredTrack(tracks, ["de"])?.id).toBe("de");
    expect(preferredTrack(tracks, ["en-US"])?.id).toBe("en");
    expect(preferredTrack(tracks, ["fr"])?.id).toBe("en");
    expect(preferredTrack([], ["fr"])).toBeNull();
  });

  it("calls a track by its title, else by its language", () => {
    expect(trackLabel("Director", "en", "x")).toBe("Director");
    expect(trackLabel("Captions 2", "de", "x")).toBe(
      new Intl.DisplayNames(undefined, { type: "language" }).of("de"),
    );
    expect(trackLabel("", "", "Captions 3")).toBe("Captions 3");
  });

  it("knows the forced ones from the details", () => {
    const caption = { name: "a", url: "", language: "de", title: "Signs", forced: true };
    expect(isForced([caption], "Signs", "de")).toBe(true);
    expect(isForced([caption, { ...caption, title: "Full", forced: false }], "Full", "de")).toBe(false);
    expect(isForced([caption], "x", "en")).toBe(false);
  });

  it("marks those that a machine wrote, once", () => {
    const made = { name: "a", url: "", language: "de", title: "", forced: false, automatic: true };
    expect(isAutomatic([made], "Deutsch", "de")).toBe(true);
    expect(isAutomatic([{ ...made, automatic: false }], "Deutsch", "de")).toBe(false);
    expect(markedLabel("German", false, true)).toBe("German (automatic)");
    expect(markedLabel("German (automatic)", false, true)).toBe("German (automatic)");
    expect(markedLabel("German", true, true)).toBe("German (forced)");
  });
});
