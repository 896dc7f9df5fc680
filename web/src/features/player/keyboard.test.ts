import { describe, expect, it } from "vitest";
import { actionOf, isTakenBy, nextSpeed } from "./keyboard";

const press = (key: string, more = {}) =>
  actionOf({ key, altKey: false, ctrlKey: false, metaKey: false, ...more });

describe("actionOf", () => {
  it.each([
    [" ", { do: "toggle-play" }],
    ["k", { do: "toggle-play" }],
    ["K", { do: "toggle-play" }],
    ["j", { do: "skip", seconds: -10 }],
    ["ArrowRight", { do: "skip", seconds: 5 }],
    ["ArrowUp", { do: "volume", by: 0.05 }],
    ["<", { do: "speed", by: -1 }],
    ["0", { do: "seek-to", fraction: 0 }],
    ["7", { do: "seek-to", fraction: 0.7 }],
    ["End", { do: "seek-to", fraction: 1 }],
    ["?", { do: "help" }],
  ])("knows %s", (key, action) => {
    expect(press(key)).toEqual(action);
  });

  it("leaves other keys and the browser's shortcuts alone", () => {
    for (const key of ["x", "Tab", "Enter", "F5", "constructor"]) expect(press(key)).toBeNull();
    expect(press("c", { ctrlKey: true })).toBeNull();
    expect(press("ArrowLeft", { altKey: true })).toBeNull();
    expect(press("f", { metaKey: true })).toBeNull();
  });
});

describe("isTakenBy", () => {
  it("leaves text fields, menus and pressed buttons their keys", () => {
    document.body.innerHTML =
      '<input id="text"><div role="menu"><button id="entry"></button></div><button id="button"><i id="icon"></i></button><div id="plain"></div>';
    const taken = (id: string, key: string) => isTakenBy(document.getElementById(id), key);
    expect(taken("text", "k")).toBe(true);
    expect(taken("entry", "ArrowDown")).toBe(true);
    expect(taken("button", " ")).toBe(true);
    expect(taken("icon", " ")).toBe(true);
    expect(taken("button", "k")).toBe(false);
    expect(taken("plain", " ")).toBe(false);
  });
});

describe("nextSpeed", () => {
  it("steps through the list and stops at its ends", () => {
    expect(nextSpeed(1, 1)).toBe(1.25);
    expect(nextSpeed(1, -1)).toBe(0.75);
    expect(nextSpeed(1.1, 1)).toBe(1.25);
    expect(nextSpeed(2, 1)).toBe(2);
    expect(nextSpeed(0.5, -1)).toBe(0.5);
  });
});
