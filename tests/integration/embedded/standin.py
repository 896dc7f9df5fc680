"""A program in the place of the API (``standin.py api <port>`` answers /healthz) or the worker."""

import http.server
import os
import signal
import sys
import threading


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    print(f"{sys.argv[1]} uses {os.environ['ECHO_DATABASE__URL']} and {os.environ['ECHO_REDIS__URL']}")  # noqa: T201
    if sys.argv[1] == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.argv[1] == "failing":
        sys.exit("no configuration")
    if sys.argv[1] == "api":
        server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Health)
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()
        server.server_close()
    else:
        threading.Event().wait()


if __name__ == "__main__":
    main()
