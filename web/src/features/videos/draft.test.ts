import { describe, expect, it } from "vitest";
import { type Draft, rebased } from "./draft";

const draft: Draft = {
  title: "Old",
  description: "",
  tags: [],
  language: "",
  visibility: "private",
  poster: "",
  chapters: [],
};

describe("rebased", () => {
  it("takes the accepted field and what nobody touched, and keeps what is being typed", () => {
    const edited = { ...draft, description: "Typed", title: "Typed too" };
    const now = { ...draft, title: "Accepted", language: "de" };
    expect(rebased(draft, edited, now, "title")).toEqual({
      ...draft,
      title: "Accepted",
      description: "Typed",
      language: "de",
    });
  });

  it("leaves it to the server to tell of a conflict", () => {
    const edited = { ...draft, description: "Typed" };
    const now = { ...draft, title: "Accepted", description: "Theirs" };
    expect(rebased(draft, edited, now, "title")).toBeNull();
  });
});
