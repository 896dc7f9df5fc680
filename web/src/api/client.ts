import createClient, { type Middleware } from "openapi-fetch";

import { networkProblem, Problem, problemFrom } from "./problem";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Video = Schemas["Video"];
export type VideoItem = Schemas["VideoItem"];
export type VideoDetails = Schemas["VideoDetails"];
export type VideoStatus = Schemas["VideoStatus"];
export type Visibility = Schemas["Visibility"];
export type Job = Schemas["Job"];
export type JobState = Schemas["JobState"];
export type StepItem = Schemas["StepItem"];
export type StepFailure = Schemas["StepFailure"];
export type UploadTarget = Schemas["UploadTarget"];
export type Instance = Schemas["Instance"];

type TokenSource = (options: { fresh: boolean }) => Promise<string | null>;
let tokenSource: TokenSource = async () => null;

/** Where the client gets the bearer token from; `fresh` asks for one that was just renewed. */
export function setTokenSource(source: TokenSource): void {
  tokenSource = source;
}

const FOR_EVERYBODY = ["/api/v1/instance", "/api/v1/watch/{videoId}"];

const authorized: Middleware = {
  async onRequest({ request, schemaPath }) {
    const token = await tokenSource({ fresh: false });
    if (token) request.headers.set("Authorization", `Bearer ${token}`);
    else if (!FOR_EVERYBODY.includes(schemaPath)) {
      // Signed out while a page still asks, in this tab or another: it would be refused.
      throw new Problem({
        code: "token_missing",
        message: "You are signed out.",
        remedy: "Sign in again.",
        status: 401,
      });
    }
    return request;
  },
};

async function fetchOnce(request: Request): Promise<Response> {
  try {
    return await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    throw networkProblem();
  }
}

/**
 * Fetch; where the token is refused, once more with a fresh one: the clock of this machine may be wrong, or Echo has another
 * key than it had. Asking for a fresh one ends a session that is no more, and the page goes to signing in.
 */
async function fetchRenewing(request: Request): Promise<Response> {
  const again = request.clone();
  const response = await fetchOnce(request);
  if (response.status !== 401 || !request.headers.has("Authorization")) return response;
  const token = await tokenSource({ fresh: true });
  if (!token) return response;
  again.headers.set("Authorization", `Bearer ${token}`);
  return fetchOnce(again);
}

export const api = createClient<paths>({ baseUrl: window.location.origin, fetch: fetchRenewing });
api.use(authorized);

type Answer<T> = { data?: T; error?: unknown; response: Response };

/** The body of a good answer with its response; throws `Problem` otherwise. */
export async function answered<T>(pending: Promise<Answer<T>>): Promise<{ data: T; response: Response }> {
  const { data, error, response } = await pending;
  if (!response.ok) throw problemFrom(response.status, error, response.headers);
  return { data: data as T, response };
}

/** The body of a good answer; throws `Problem` otherwise. */
export async function body<T>(pending: Promise<Answer<T>>): Promise<T> {
  return (await answered(pending)).data;
}

/** A header that makes a POST happen once, however often it is sent. */
export function once(): { "Idempotency-Key": string } {
  // Not randomUUID: browsers keep that from pages over plain http, as on a home network.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return { "Idempotency-Key": Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("") };
}
