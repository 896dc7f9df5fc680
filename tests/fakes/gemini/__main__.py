"""The fake as a program: one JSON line on standard output, until SIGTERM."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading

from tests.fakes.gemini.server import FakeGemini


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.gemini")
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with FakeGemini.serve(port=asked.port) as gemini:
        sys.stdout.write(json.dumps({"url": gemini.url, "apiKey": gemini.api_key}) + "\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
