import { describe, expect, it } from "vitest";
import type { VideoItem } from "@/api/client";
import { mergeNewest } from "./refresh";

const item = (videoId: string, title = videoId) => ({ videoId, title }) as VideoItem;
const page = (ids: string[], nextCursor: string | null) => ({ items: ids.map((id) => item(id)), nextCursor });
const ids = (pages: { pages: { items: VideoItem[] }[] }) =>
  pages.pages.map((one) => one.items.map((video) => video.videoId));

describe("mergeNewest", () => {
  const three = {
    pages: [page(["9", "8"], "a"), page(["7", "6"], "b"), page(["5"], null)],
    pageParams: ["", "a", "b"],
  };

  it("puts what is new first and keeps the pages below", () => {
    expect(ids(mergeNewest(three, page(["x", "9"], "c")))).toEqual(
      [["x", "9"], ["7", "6"], ["5"]].map((one, n) => (n ? one : ["x", "9", "8"])),
    );
  });

  it("drops what is gone from the span of the newest page, and nothing older", () => {
    expect(ids(mergeNewest(three, page(["9", "7"], "c")))).toEqual([["9"], ["7", "6"], ["5"]]);
  });

  it("replaces what has changed in place", () => {
    const merged = mergeNewest(three, { items: [item("9"), item("8"), item("7", "new")], nextCursor: "c" });
    expect(merged.pages[1]?.items[0]?.title).toBe("new");
  });

  it("is simply the newest page while there is one", () => {
    const one = { pages: [page(["9"], "a")], pageParams: [""] };
    expect(mergeNewest(one, page(["x", "9"], "c")).pages).toEqual([page(["x", "9"], "c")]);
  });
});
