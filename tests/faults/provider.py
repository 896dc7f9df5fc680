"""A provider on loopback that a step delivers to: it remembers how often it was told to, by video."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Provider:
    """Enter it to serve. ``deliveries`` counts the effects by path."""

    def __init__(self) -> None:
        self.deliveries: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Provider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked[self.path] += 1
                self._answer(200 if provider.deliveries[self.path] else 404)

            def do_PUT(self) -> None:
                provider.deliveries[self.path] += 1
                self._answer(201)

            def _answer(self, status: int) -> None:
                body = f"delivery {provider.deliveries[self.path]}".encode() if status < 400 else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        return Handler
