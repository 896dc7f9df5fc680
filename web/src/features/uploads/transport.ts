/** One answer of the storage; `status` 0: none came. */
export type Answer = { status: number; range: string | null; retryAfterS: number | null; body: string };

export type SendOptions = {
  method: string;
  headers: Record<string, string>;
  body: Blob | null;
  signal: AbortSignal;
  onProgress: (sentBytes: number) => void;
  /** Give up when nothing at all moves for so long. */
  stallMs: number;
};

export type Transport = (url: string, options: SendOptions) => Promise<Answer>;

/**
 * Send over XMLHttpRequest, the only thing in browsers that tells how much of a body has left. A `Blob` that is a slice
 * of a `File` is read from the disk while it is sent, so memory stays flat whatever the size.
 */
export const xhrTransport: Transport = (url, { method, headers, body, signal, onProgress, stallMs }) =>
  new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let timer: ReturnType<typeof setTimeout>;
    const none: Answer = { status: 0, range: null, retryAfterS: null, body: "" };
    const settle = (then: () => void) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      then();
    };
    const abort = () => {
      request.abort();
      settle(() => reject(signal.reason));
    };
    const watch = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        request.abort();
        settle(() => resolve(none));
      }, stallMs);
    };
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    signal.addEventListener("abort", abort);
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      watch();
      onProgress(event.loaded);
    };
    request.onload = () => {
      // Only what another origin lets us see: asking for anything else puts an error into the console.
      const shown = new Headers(
        request
          .getAllResponseHeaders()
          .split("\r\n")
          .filter((line) => line.includes(":"))
          .map((line): [string, string] => [
            line.slice(0, line.indexOf(":")),
            line.slice(line.indexOf(":") + 1),
          ]),
      );
      const retryAfter = Number(shown.get("Retry-After"));
      settle(() =>
        resolve({
          status: request.status,
          range: shown.get("Range"),
          retryAfterS: retryAfter > 0 ? retryAfter : null,
          body: request.responseText.slice(0, 4096),
        }),
      );
    };
    request.onerror = () => settle(() => resolve(none));
    watch();
    request.send(body);
  });
