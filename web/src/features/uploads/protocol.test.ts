import { beforeEach, describe, expect, it } from "vitest";
import { Problem } from "@/api/problem";
import { CHUNK_ALIGNMENT_BYTES, nextOffset, type SendFileOptions, sendFile } from "./protocol";
import type { Answer, SendOptions } from "./transport";

const UNIT = CHUNK_ALIGNMENT_BYTES;
const SIZE = 4 * UNIT + 1000;

/** A storage that keeps bytes as Google's does, with faults that strike once each, in order. */
class Storage {
  stored = new Uint8Array();
  finished = false;
  sessions = new Set(["https://storage.example/one"]);
  requests: string[] = [];
  faults: ((range: string, body: Uint8Array) => Answer | undefined)[] = [];

  answer(status: number, rest: Partial<Answer> = {}): Answer {
    return { status, range: null, retryAfterS: null, body: "", ...rest };
  }

  where(): Answer {
    const range = this.stored.length ? `bytes=0-${this.stored.length - 1}` : null;
    return this.answer(308, { range });
  }

  take(body: Uint8Array): void {
    const joined = new Uint8Array(this.stored.length + body.length);
    joined.set(this.stored);
    joined.set(body, this.stored.length);
    this.stored = joined;
  }

  transport = async (url: string, { headers, body, signal }: SendOptions): Promise<Answer> => {
    signal.throwIfAborted();
    const range = headers["Content-Range"] ?? "";
    this.requests.push(range);
    const bytes = new Uint8Array(body ? await body.arrayBuffer() : []);
    const fault = this.faults.shift()?.(range, bytes);
    if (fault) return fault;
    if (!this.sessions.has(url)) return this.answer(404);
    const match = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+)$/.exec(range);
    if (!match) return this.answer(400, { body: '{"detail":"no range","code":"bad_request"}' });
    if (match[1] !== undefined) {
      if (Number(match[1]) !== this.stored.length) return this.answer(416);
      this.take(bytes);
    }
    if (this.stored.length < Number(match[3])) return this.where();
    this.finished = true;
    return this.answer(200);
  };
}

let storage: Storage;
let waits: number[];
let renewals: number;
let online: boolean;
let reachable: boolean;
const file = new Blob([Uint8Array.from({ length: SIZE }, (_, index) => (index * 7919) % 251)]);

function options(more: Partial<SendFileOptions> = {}): SendFileOptions {
  return {
    file,
    session: { url: "https://storage.example/one", headers: {}, chunkSizeBytes: UNIT, offsetBytes: 0 },
    transport: storage.transport,
    renew: async () => {
      renewals += 1;
      storage.sessions.add("https://storage.example/two");
      return {
        url: "https://storage.example/two",
        headers: {},
        chunkSizeBytes: UNIT,
        offsetBytes: storage.stored.length,
      };
    },
    onProgress: () => undefined,
    onWaiting: () => undefined,
    signal: new AbortController().signal,
    wait: async (ms, signal) => {
      signal.throwIfAborted();
      waits.push(ms);
      online = true;
    },
    isOnline: () => online,
    isReachable: async () => reachable,
    random: () => 0.5,
    ...more,
  };
}

async function expectComplete(): Promise<void> {
  expect(storage.finished).toBe(true);
  expect(Buffer.compare(storage.stored, new Uint8Array(await file.arrayBuffer()))).toBe(0);
}

beforeEach(() => {
  storage = new Storage();
  waits = [];
  renewals = 0;
  online = true;
  reachable = false;
});

describe("sendFile", () => {
  it("sends aligned chunks and ends with the rest", async () => {
    await sendFile(options());
    await expectComplete();
    expect(storage.requests).toEqual(
      [0, 1, 2, 3, 4].map((n) => `bytes ${n * UNIT}-${Math.min(SIZE, (n + 1) * UNIT) - 1}/${SIZE}`),
    );
  });

  it("sends eight megabytes at a time where the storage names no size", async () => {
    const session = { url: "https://storage.example/one", headers: {}, chunkSizeBytes: null, offsetBytes: 0 };
    await sendFile(options({ session }));
    expect(storage.requests).toEqual([`bytes 0-${SIZE - 1}/${SIZE}`]);
  });

  describe("in one signed PUT", () => {
    const session = {
      url: "https://storage.example/put",
      headers: { "x-goog-if-generation-match": "0" },
      chunkSizeBytes: null,
      offsetBytes: 0,
      inOnePut: true,
    };

    it("sends the signed headers and no others", async () => {
      const seen: Record<string, string>[] = [];
      const transport = async (_: string, { headers, body }: SendOptions) => {
        seen.push(headers);
        storage.take(new Uint8Array(body ? await body.arrayBuffer() : []));
        storage.finished = true;
        return storage.answer(200);
      };
      await sendFile(options({ session, transport }));
      await expectComplete();
      expect(seen).toEqual([session.headers]);
      expect(renewals).toBe(0);
    });

    it.each([0, 400, 403, 503])("goes on by the resumable way after %i", async (status) => {
      storage.faults.push(() => storage.answer(status));
      await sendFile(options({ session }));
      await expectComplete();
      expect(renewals).toBe(1);
    });

    it("leaves it to completing whose file is there already", async () => {
      storage.faults.push(() => storage.answer(412));
      const sent: number[] = [];
      await sendFile(options({ session, onProgress: (bytes) => sent.push(bytes) }));
      expect(sent.at(-1)).toBe(SIZE);
      expect(renewals).toBe(0);
    });
  });

  it("goes on at the byte that a short 308 names, not at the end of the chunk", async () => {
    storage.faults.push((_, body) => {
      storage.take(body.slice(0, 1000));
      return storage.where();
    });
    await sendFile(options());
    await expectComplete();
    expect(storage.requests[1]).toBe(`bytes 1000-${1000 + UNIT - 1}/${SIZE}`);
    expect(waits).toEqual([]);
  });

  it("asks what is stored after a dropped answer, and does not send the chunk twice", async () => {
    storage.faults.push((_, body) => {
      storage.take(body);
      return storage.answer(0);
    });
    await sendFile(options());
    await expectComplete();
    expect(storage.requests.slice(0, 3)).toEqual([
      `bytes 0-${UNIT - 1}/${SIZE}`,
      `bytes */${SIZE}`,
      `bytes ${UNIT}-${2 * UNIT - 1}/${SIZE}`,
    ]);
  });

  it("sees that all is stored when the last answer was dropped", async () => {
    const session = { url: "https://storage.example/one", headers: {}, chunkSizeBytes: null, offsetBytes: 0 };
    storage.faults.push((_, body) => {
      storage.take(body);
      return storage.answer(0);
    });
    await sendFile(options({ session }));
    await expectComplete();
    expect(storage.requests).toEqual([`bytes 0-${SIZE - 1}/${SIZE}`, `bytes */${SIZE}`]);
  });

  it("takes a fresh session when the old one has expired, and goes on at its offset", async () => {
    storage.faults.push(
      () => undefined,
      () => storage.answer(410),
    );
    await sendFile(options());
    await expectComplete();
    expect(renewals).toBe(1);
    expect(storage.requests[2]).toBe(`bytes ${UNIT}-${2 * UNIT - 1}/${SIZE}`);
  });

  it("sends everything again, without waiting, when the storage has forgotten the bytes", async () => {
    storage.faults.push(
      () => undefined,
      () => undefined,
      () => {
        storage.stored = new Uint8Array();
        return storage.answer(410);
      },
    );
    await sendFile(options());
    await expectComplete();
    expect(renewals).toBe(1);
    expect(waits).toEqual([]);
    expect(storage.requests.slice(2)).toEqual(
      [2, 0, 1, 2, 3, 4].map((n) => `bytes ${n * UNIT}-${Math.min(SIZE, (n + 1) * UNIT) - 1}/${SIZE}`),
    );
  });

  it("gives up when the storage forgets the bytes again and again", async () => {
    const forget = () => {
      storage.stored = new Uint8Array();
      return storage.answer(410);
    };
    for (let n = 0; n < 20; n += 1) storage.faults.push(() => undefined, forget);
    await expect(sendFile(options())).rejects.toMatchObject({ status: 410 });
    expect(renewals).toBe(5);
  });

  it("ends when the server says that all bytes are stored already", async () => {
    storage.faults.push(() => storage.answer(404));
    const sent: number[] = [];
    await sendFile(options({ renew: async () => null, onProgress: (bytes) => sent.push(bytes) }));
    expect(sent.at(-1)).toBe(SIZE);
  });

  it("gives up when every session that it gets is refused", async () => {
    storage.sessions.clear();
    const told = sendFile(options({ renew: async () => options().session }));
    await expect(told).rejects.toMatchObject({ status: 404 });
  });

  it("waits longer after each failure, and as long as the storage says", async () => {
    storage.faults.push(
      () => storage.answer(503),
      () => storage.answer(503),
      () => storage.answer(429, { retryAfterS: 7 }),
    );
    await sendFile(options());
    await expectComplete();
    expect(waits).toEqual([500, 1000, 7000]);
  });

  it("waits for the network without counting it as failure", async () => {
    for (let n = 0; n < 40; n += 1) storage.faults.push(() => storage.answer(0));
    const told: (string | null)[] = [];
    const wait: SendFileOptions["wait"] = async () => {
      online = !online; // down again after every return
    };
    online = false;
    await sendFile(options({ wait, onWaiting: (state) => told.push(state) }));
    await expectComplete();
    expect(told).toContain("offline");
  });

  it("names CORS soon when something is there that this page may not read", async () => {
    reachable = true;
    for (let n = 0; n < 40; n += 1) storage.faults.push(() => storage.answer(0));
    await expect(sendFile(options())).rejects.toMatchObject({ code: "storage_unreachable" });
    expect(waits).toHaveLength(2);
  });

  it("names the header soon when nobody says how much is kept", async () => {
    for (let n = 0; n < 40; n += 1) storage.faults.push(() => storage.answer(308));
    await expect(sendFile(options())).rejects.toMatchObject({ code: "storage_tells_nothing" });
    expect(waits).toHaveLength(3);
  });

  it("does not blame CORS for a network that breaks off after it has worked", async () => {
    reachable = true;
    storage.faults.push(() => undefined);
    for (let n = 0; n < 5; n += 1) storage.faults.push(() => storage.answer(0));
    await sendFile(options());
    await expectComplete();
  });

  it("names CORS and the host when nothing is ever answered", async () => {
    const transport = async () => storage.answer(0);
    const problem = await sendFile(options({ transport })).catch((error: unknown) => error);
    expect(problem).toBeInstanceOf(Problem);
    expect(problem).toMatchObject({ code: "storage_unreachable" });
    expect((problem as Problem).message).toContain("storage.example");
    expect((problem as Problem).remedy).toMatch(/CORS.*expose the header Range/);
  });

  it("does not count failures that bytes went between", async () => {
    const chunks = 4;
    for (let n = 0; n < chunks; n += 1) {
      for (let failure = 0; failure < 10; failure += 1) storage.faults.push(() => storage.answer(503));
      storage.faults.push(
        () => undefined,
        () => undefined,
      );
    }
    await sendFile(options());
    await expectComplete();
  });

  it("passes on the storage's own sentence and remedy", async () => {
    const body = JSON.stringify({ code: "storage_full", detail: "The disk is full.", remedy: "Make room." });
    storage.faults.push(() => storage.answer(507, { body }));
    await expect(sendFile(options())).rejects.toMatchObject({
      code: "storage_full",
      message: "The disk is full.",
      remedy: "Make room.",
    });
  });

  it("makes its chunks smaller until a proxy lets them pass", async () => {
    const session = { ...options().session, chunkSizeBytes: 4 * UNIT };
    const refuse = (_: string, body: Uint8Array) => (body.length > UNIT ? storage.answer(413) : undefined);
    storage.faults.push(...Array<typeof refuse>(9).fill(refuse));
    await sendFile(options({ session }));
    await expectComplete();
    expect(storage.requests.filter((range) => !range.includes("*"))[2]).toBe(`bytes 0-${UNIT - 1}/${SIZE}`);
  });

  it("names the proxy when even the smallest chunk is too large for it", async () => {
    const transport = async () => storage.answer(413, { body: "<html>nginx</html>" });
    await expect(sendFile(options({ transport }))).rejects.toMatchObject({
      status: 413,
      remedy: expect.stringContaining("proxy"),
    });
  });

  it("refuses to go on with a file that is shorter than what is stored", async () => {
    storage.faults.push(() => storage.answer(308, { range: `bytes=0-${SIZE}` }));
    await expect(sendFile(options())).rejects.toMatchObject({ code: "not_the_same_file" });
  });

  it("stops when it is aborted, and finds its place again later", async () => {
    const abort = new AbortController();
    storage.faults.push(
      () => undefined,
      () => {
        abort.abort();
        return undefined;
      },
    );
    await expect(sendFile(options({ signal: abort.signal }))).rejects.toThrow();
    expect(storage.finished).toBe(false);
    await sendFile(options({ session: { ...options().session, offsetBytes: null } }));
    await expectComplete();
  });
});

describe("nextOffset", () => {
  it.each([
    [null, 0],
    ["bytes=0-0", 1],
    ["bytes=0-8388607", 8388608],
  ])("%s → %d", (range, offset) => expect(nextOffset(range)).toBe(offset));

  it("refuses what it does not understand", () => {
    expect(() => nextOffset("bytes=5-9")).toThrow(Problem);
  });
});
