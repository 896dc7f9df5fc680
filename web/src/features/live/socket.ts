import type { LiveMessage, ServerMessage } from "./messages";

/** `live`: told at once. `reconnecting`: coming back. `polling`: asked every few seconds instead. */
export type LinkState = "connecting" | "live" | "reconnecting" | "polling";

export type SocketOptions = {
  url: string;
  token: () => Promise<string | null>;
  onMessage: (message: LiveMessage) => void;
  onState: (state: LinkState) => void;
  open?: (url: string) => WebSocket;
  random?: () => number;
};

const LONGEST_WAIT_MS = 30_000;
const POLL_AFTER_MS = 5000;
const SLOW_RETRY_MS = 60_000;
/** Coming back with the same would end the same (docs/realtime.md, "When it closes"): look again now and then. */
const HOPELESS = new Set([4400, 4403, 4429]);

/** One WebSocket that stays: comes back by itself, goes on after the last event it saw, renews its token in place. */
export class LiveSocket {
  private socket: WebSocket | null = null;
  private lastEventId: number | undefined;
  private tries = 0;
  private stopped = false;
  private heartbeatS = 15;
  private silence: ReturnType<typeof setTimeout> | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private degrade: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly options: SocketOptions) {}

  start(): void {
    this.options.onState("connecting");
    this.degradeLater();
    window.addEventListener("online", this.hurry);
    window.addEventListener("offline", this.giveUp);
    document.addEventListener("visibilitychange", this.hurry);
    this.connect();
  }

  stop(): void {
    this.stopped = true;
    for (const timer of [this.silence, this.retry, this.degrade]) clearTimeout(timer);
    window.removeEventListener("online", this.hurry);
    window.removeEventListener("offline", this.giveUp);
    document.removeEventListener("visibilitychange", this.hurry);
    this.socket?.close(1000);
  }

  /** The network is back, or the person: do not sit out the wait. */
  private readonly hurry = () => {
    if (this.retry === undefined || document.hidden) return;
    clearTimeout(this.retry);
    this.connect();
  };

  private connect(): void {
    this.retry = undefined;
    if (this.stopped) return;
    const socket = (this.options.open ?? ((url) => new WebSocket(url)))(this.options.url);
    this.socket = socket;
    this.listenFor(LONGEST_WAIT_MS);
    socket.onopen = () => void this.authenticate(socket, true);
    socket.onmessage = (event: MessageEvent<string>) => this.take(socket, event.data);
    socket.onclose = (event) => this.closed(socket, event.code);
  }

  private async authenticate(socket: WebSocket, first: boolean): Promise<void> {
    const token = await this.options.token().catch(() => null);
    if (socket.readyState !== WebSocket.OPEN) return;
    if (token === null) {
      socket.close(4000);
      return;
    }
    const from = first && this.lastEventId !== undefined ? { lastEventId: this.lastEventId } : {};
    socket.send(JSON.stringify({ type: "auth", token, ...from }));
  }

  private take(socket: WebSocket, text: string): void {
    if (socket !== this.socket) return;
    const message = JSON.parse(text) as ServerMessage;
    if (message.type === "ready") {
      this.tries = 0;
      this.heartbeatS = message.heartbeatSeconds;
      clearTimeout(this.degrade);
      this.degrade = undefined;
      this.options.onState("live");
    } else if (message.type === "token_expiring") {
      void this.authenticate(socket, false);
    } else if (message.type === "snapshot" || "videoId" in message) {
      if ("id" in message) this.lastEventId = message.id;
      this.options.onMessage(message);
    }
    this.listenFor(3000 * this.heartbeatS);
  }

  /** A network can die without a word; a server that lives says something every other heartbeat. */
  private listenFor(ms: number): void {
    clearTimeout(this.silence);
    this.silence = setTimeout(this.giveUp, ms);
  }

  /** Nothing will come over this connection: come back with another. */
  private readonly giveUp = () => {
    const socket = this.socket;
    socket?.close(4000);
    if (socket) this.closed(socket, 4000); // the closing handshake of a dead network takes minutes
  };

  private closed(socket: WebSocket, code: number): void {
    if (socket !== this.socket || this.stopped) return;
    this.socket = null;
    clearTimeout(this.silence);
    if (this.degrade === undefined && this.tries === 0) this.options.onState("reconnecting");
    this.degradeLater();
    const random = this.options.random ?? Math.random;
    const grown = Math.min(LONGEST_WAIT_MS, 500 * 2 ** Math.min(this.tries, 10)) * (0.2 + 0.8 * random());
    this.tries += 1;
    this.retry = setTimeout(() => this.connect(), HOPELESS.has(code) ? SLOW_RETRY_MS : grown);
  }

  private degradeLater(): void {
    this.degrade ??= setTimeout(() => this.options.onState("polling"), POLL_AFTER_MS);
  }
}
