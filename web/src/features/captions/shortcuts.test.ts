import { describe, expect, it } from "vitest";
import { actionOf } from "./shortcuts";

const press = (key: string, rest: Partial<Parameters<typeof actionOf>[0]> = {}) =>
  actionOf({ key, code: "", altKey: false, ctrlKey: false, metaKey: false, shiftKey: false, ...rest });

describe("actionOf", () => {
  it("leaves writing alone", () => {
    expect(press("j")).toBeNull();
    expect(press("Enter")).toBeNull();
    expect(press("@", { code: "KeyL", altKey: true, ctrlKey: true })).toBeNull(); // AltGr
  });
  it("knows a key by its place where Alt makes another letter of it", () => {
    expect(press("∆", { code: "KeyJ", altKey: true })).toBe("merge");
  });
  it("takes Ctrl and ⌘", () => {
    expect(press("Enter", { ctrlKey: true })).toBe("split");
    expect(press("z", { metaKey: true })).toBe("undo");
    expect(press("Z", { metaKey: true, shiftKey: true })).toBe("redo");
    expect(press("y", { ctrlKey: true })).toBe("redo");
    expect(press("s", { ctrlKey: true })).toBe("save");
  });
});
