import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { LiveMessage } from "./messages";
import { type LinkState, LiveSocket } from "./socket";

class Wire {
  readyState = 0;
  sent: unknown[] = [];
  closedWith: number | undefined;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(code: number): void {
    this.closedWith = code; // a dead network answers no closing handshake
  }

  async open(): Promise<void> {
    this.readyState = WebSocket.OPEN;
    this.onopen?.();
    await vi.advanceTimersByTimeAsync(0);
  }

  say(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  lose(code: number): void {
    this.onclose?.({ code });
  }
}

const ready = { type: "ready", userId: "u", heartbeatSeconds: 15 };
const event = (id: number) => ({ type: "video.updated", id, videoId: "v", state: "ready", title: "T" });

let wires: Wire[];
let states: LinkState[];
let messages: LiveMessage[];
let token: string | null;
let socket: LiveSocket;
const last = () => wires.at(-1) as Wire;

beforeEach(() => {
  vi.useFakeTimers();
  wires = [];
  states = [];
  messages = [];
  token = "one";
  socket = new LiveSocket({
    url: "ws://echo.example/ws/jobs/status/u",
    token: async () => token,
    onMessage: (message) => messages.push(message),
    onState: (state) => states.push(state),
    open: () => {
      wires.push(new Wire());
      return last() as unknown as WebSocket;
    },
    random: () => 1,
  });
  socket.start();
});

afterEach(() => {
  socket.stop();
  vi.useRealTimers();
});

describe("LiveSocket", () => {
  it("says who it is first, and is live once the server is ready", async () => {
    await last().open();
    expect(last().sent).toEqual([{ type: "auth", token: "one" }]);
    last().say(ready);
    expect(states).toEqual(["connecting", "live"]);
  });

  it("never puts the token into the address", async () => {
    const open = vi.fn(() => new Wire() as unknown as WebSocket);
    const other = new LiveSocket({
      url: "ws://e/ws",
      token: async () => "secret",
      onMessage: vi.fn(),
      onState: vi.fn(),
      open,
    });
    other.start();
    expect(open).toHaveBeenCalledWith("ws://e/ws");
    other.stop();
  });

  it("comes back and goes on after the last event that it saw", async () => {
    await last().open();
    last().say(ready);
    last().say(event(41));
    last().say({ type: "job.progress", videoId: "v", jobId: "j", progress: 5 });
    last().lose(1012);
    expect(states.at(-1)).toBe("reconnecting");
    await vi.advanceTimersByTimeAsync(500);
    expect(wires).toHaveLength(2);
    await last().open();
    expect(last().sent).toEqual([{ type: "auth", token: "one", lastEventId: 41 }]);
    last().say(ready);
    expect(states.at(-1)).toBe("live");
    expect(messages).toHaveLength(2);
  });

  it("waits longer after each failure, and polls meanwhile", async () => {
    for (const wait of [500, 1000, 2000, 4000]) {
      last().lose(1006);
      const before = wires.length;
      await vi.advanceTimersByTimeAsync(wait - 1);
      expect(wires).toHaveLength(before);
      await vi.advanceTimersByTimeAsync(1);
      expect(wires).toHaveLength(before + 1);
    }
    expect(states.at(-1)).toBe("polling");
  });

  it("does not sit out the wait when the network is back", async () => {
    for (const wait of [500, 1000, 2000, 4000, 8000]) {
      last().lose(1006);
      await vi.advanceTimersByTimeAsync(wait);
    }
    last().lose(1006);
    const before = wires.length;
    window.dispatchEvent(new Event("online"));
    expect(wires).toHaveLength(before + 1);
  });

  it("renews its token in place", async () => {
    await last().open();
    last().say(ready);
    token = "two";
    last().say({ type: "token_expiring", expiresAt: "2026-01-01T00:00:00Z" });
    await vi.advanceTimersByTimeAsync(0);
    expect(last().sent.at(-1)).toEqual({ type: "auth", token: "two" });
    expect(wires).toHaveLength(1);
  });

  it("gives up a connection that has fallen silent, without waiting for a goodbye", async () => {
    await last().open();
    last().say(ready);
    await vi.advanceTimersByTimeAsync(44_000);
    expect(wires).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1500);
    expect(wires[0]?.closedWith).toBe(4000);
    expect(wires).toHaveLength(2);
  });

  it("stays quiet about words from a connection that it has given up", async () => {
    await last().open();
    last().say(ready);
    const old = last();
    old.lose(1006);
    await vi.advanceTimersByTimeAsync(500);
    old.say(event(1));
    expect(messages).toEqual([]);
  });

  it("does not hammer a server that will not have it", async () => {
    await last().open();
    last().lose(4403);
    await vi.advanceTimersByTimeAsync(59_000);
    expect(wires).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1000);
    expect(wires).toHaveLength(2);
  });

  it("ends for good when it is stopped", async () => {
    await last().open();
    last().say(ready);
    socket.stop();
    last().lose(1000);
    await vi.advanceTimersByTimeAsync(120_000);
    expect(wires).toHaveLength(1);
  });
});
