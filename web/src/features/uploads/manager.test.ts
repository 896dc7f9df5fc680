import { beforeEach, expect, it, vi } from "vitest";
import { setTokenSource } from "@/api/client";
import { loadInstance } from "@/api/instance";
import { addFiles, currentUploads, stopUploads } from "./manager";

vi.mock("./transport", () => ({
  xhrTransport: async () => ({ status: 200, range: null, retryAfterS: null, body: "" }),
}));

type Json = Record<string, unknown>;

/** The fields of bodies that a server knows; what else is sent is refused, as closed bodies are. */
const FIELDS: Record<string, string[]> = {
  "/api/v1/videos/signed-upload-url": ["filename", "contentType", "sizeBytes"],
  "/api/v1/videos/upload-complete": [
    "videoId",
    "originalFilename",
    "storagePath",
    "contentType",
    "sizeBytes",
  ],
};
const ANSWERS: Record<string, Json> = {
  "/api/v1/instance": { publicUrl: "http://localhost:3000", upload: { maxSizeBytes: 1 << 30 } },
  "/api/v1/videos/signed-upload-url": {
    videoId: "v",
    uploadUrl: "http://storage.test/v",
    storagePath: "videos/v/source/a.mp4",
    upload: {
      protocol: "google-resumable",
      method: "PUT",
      headers: {},
      chunkSizeBytes: null,
      expiresAt: "2030-01-01T00:00:00Z",
    },
  },
  "/api/v1/videos/upload-complete": { videoId: "v", jobId: "j", status: "processing" },
};

let sent: { path: string; key: string | null; body: Json }[];
let alsoKnown: string[];

async function answer(request: Request): Promise<Response> {
  const path = new URL(request.url).pathname;
  const body = request.method === "POST" ? ((await request.json()) as Json) : {};
  if (request.method === "POST") sent.push({ path, key: request.headers.get("Idempotency-Key"), body });
  const unknown = Object.keys(body).filter((name) => ![...(FIELDS[path] ?? []), ...alsoKnown].includes(name));
  const errors = unknown.map((name) => ({ pointer: `/${name}`, message: "There is no such field." }));
  return errors.length
    ? Response.json({ code: "validation_failed", detail: "There is no such field.", errors }, { status: 422 })
    : Response.json(ANSWERS[path] ?? {});
}

beforeEach(async () => {
  sent = [];
  alsoKnown = ["protocols"];
  vi.stubGlobal("fetch", answer);
  const request = async (_: string, __: LockOptions, then: (lock: object) => Promise<void>) => then({});
  Object.defineProperty(navigator, "locks", { value: { request }, configurable: true });
  setTokenSource(async () => "token");
  await loadInstance();
  stopUploads();
});

async function upload(): Promise<void> {
  addFiles([new File(["bytes"], "a.mp4", { type: "video/mp4" })], crypto.randomUUID());
  await vi.waitFor(() => expect(["done", "failed"]).toContain(currentUploads()[0]?.state));
}

it("says which protocols it speaks, and no checksum", async () => {
  await upload();
  expect(currentUploads()[0]?.state).toBe("done");
  const [begun, completed] = sent;
  expect(sent.length).toBe(2);
  expect(begun?.body.protocols).toEqual(["google-resumable", "signed-put"]);
  expect(completed?.body).not.toHaveProperty("checksum");
});

it("begins without protocols, under the same key, where a server of the version before refuses them", async () => {
  alsoKnown = [];
  await upload();
  expect(currentUploads()[0]?.state).toBe("done");
  const [refused, begun] = sent;
  expect(sent.length).toBe(3);
  expect(begun?.body).toEqual({ filename: "a.mp4", contentType: "video/mp4", sizeBytes: 5 });
  expect(begun?.key).toBe(refused?.key);
});

it("shows what else is refused", async () => {
  FIELDS["/api/v1/videos/signed-upload-url"] = ["filename", "contentType"];
  await upload();
  expect(currentUploads()[0]?.problem?.code).toBe("validation_failed");
  expect(sent.length).toBe(1);
});
