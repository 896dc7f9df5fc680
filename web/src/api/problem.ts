import type { components } from "./schema";

export type ProblemDocument = components["schemas"]["Problem"];

/** What went wrong, as a sentence and a remedy, whoever noticed it: the server, the network or this page. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly code: string;
  readonly remedy: string;
  /** The HTTP status; 0 when no answer came. */
  readonly status: number;
  readonly requestId: string;
  readonly retryAfterS: number | null;
  readonly document: Partial<ProblemDocument> & Record<string, unknown>;

  constructor(told: {
    code: string;
    message: string;
    remedy?: string;
    status?: number;
    requestId?: string;
    retryAfterS?: number | null;
    document?: Record<string, unknown>;
  }) {
    super(told.message);
    this.code = told.code;
    this.remedy = told.remedy ?? "";
    this.status = told.status ?? 0;
    this.requestId = told.requestId ?? "";
    this.retryAfterS = told.retryAfterS ?? null;
    this.document = told.document ?? {};
  }

  /** Whether the same request may succeed later without anybody changing anything. */
  get temporary(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }

  /** Whether the server does not take this field of the body, or something in it. */
  refusesField(pointer: string): boolean {
    const errors = this.status === 422 ? this.document.errors : undefined;
    return !!errors?.some((error) => error.pointer === pointer || error.pointer.startsWith(`${pointer}/`));
  }

  /** The message for one field of the body, by its JSON pointer. */
  fieldMessage(pointer: string): string | undefined {
    return this.document.errors?.find((error) => error.pointer === pointer)?.message;
  }
}

let home: string | null = null;

/** The address under which this Echo wants to be opened. */
export function setHome(publicUrl: string): void {
  home = publicUrl;
}

/** What helps where this page may not speak to Echo because it was opened under another address; null where it was not. */
export function addressRemedy(): string | null {
  if (home === null || new URL(home).origin === window.location.origin) return null;
  return `This Echo is at ${home}: open it there. If that is not its address, its operator has to set http.public_url.`;
}

export function networkProblem(): Problem {
  const elsewhere = addressRemedy();
  if (navigator.onLine && elsewhere) {
    return new Problem({ code: "network", message: "Echo did not answer this page.", remedy: elsewhere });
  }
  return new Problem({
    code: "network",
    message: navigator.onLine ? "Echo did not answer." : "You are offline.",
    remedy: navigator.onLine
      ? "Check that the server runs and that nothing between you and it blocks the request."
      : "It goes on by itself when the connection is back.",
  });
}

/** The problem in an answer's body; what the status says where the body is something else (a proxy's page). */
export function problemFrom(status: number, body: unknown, headers: Headers): Problem {
  const document = (typeof body === "object" && body !== null ? body : {}) as Partial<ProblemDocument>;
  const retryAfter = Number(headers.get("Retry-After"));
  return new Problem({
    code: document.code ?? `http_${status}`,
    message: document.detail ?? document.title ?? `The server answered ${status}.`,
    remedy:
      document.remedy ?? (status === 413 ? "A proxy in front of Echo limits the size of requests." : ""),
    status,
    requestId: document.requestId ?? headers.get("X-Request-Id") ?? "",
    retryAfterS: Number.isFinite(retryAfter) && retryAfter > 0 ? retryAfter : null,
    document: document as Record<string, unknown>,
  });
}

/** A part of the application that cannot be loaded: the network, or files of a build that has been replaced. */
export const PART_MISSING = "part_missing";
const PART = /dynamically imported module|importing a module script|unable to preload/i;

export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof Error && PART.test(error.message)) {
    return new Problem({
      code: PART_MISSING,
      message: "A part of this page could not be loaded.",
      remedy: "Echo may have been updated meanwhile: load the page again.",
    });
  }
  return new Problem({ code: "unexpected", message: error instanceof Error ? error.message : String(error) });
}
