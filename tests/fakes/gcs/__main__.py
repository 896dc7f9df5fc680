"""The fake as a program: one JSON line on standard output, a key file in the directory, until SIGTERM."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from tests.fakes.gcs.server import FakeGcs, cors_for


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.gcs")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--bucket", action="append", default=[])
    parser.add_argument("--cors-origin", action="append", default=[])
    asked = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with FakeGcs.serve(asked.dir, port=asked.port) as gcs:
        for name in asked.bucket:
            gcs.create_bucket(name, cors=cors_for(*asked.cors_origin) if asked.cors_origin else None)
        key_file = asked.dir / "service-account.json"
        key_file.write_text(json.dumps(gcs.service_account_info(), indent=2))
        sys.stdout.write(json.dumps({"url": gcs.url, "serviceAccount": str(key_file)}) + "\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
