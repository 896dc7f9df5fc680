"""The process that listens: JSON lines in, JSON lines out, one request at a time.

Started as ``python -m echo_ai_local.worker SETTINGS``. Ends as soon as its stdin is closed, which is also what the
death of its parent does. Answers are ``{"progress": fraction}``, then ``{"result": ...}`` or
``{"error": kind, "message": ...}``.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from echo_ai_local.models import ModelMissingError, ModelRefusedError

Tell = Callable[[float], None]


def _serve(settings: dict[str, Any], requests: queue.Queue[str], out: TextIO) -> None:
    recogniser: Any = None

    def answer(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    while True:
        request = json.loads(requests.get())
        try:
            if request["op"] == "describe":
                from echo_ai_local.describing import describe

                answer({"result": describe(request)})
                continue
            if recogniser is None:
                from echo_ai_local.recognising import Recogniser

                recogniser = Recogniser(settings)
            if request["op"] == "detect":
                answer({"result": recogniser.detect(Path(request["path"]))})
            else:
                answer({"result": recogniser.transcribe(request, lambda done: answer({"progress": done}))})
        except ModelMissingError as error:
            answer({"error": "missing", "message": str(error)})
        except ModelRefusedError as error:
            answer({"error": "refused", "message": str(error)})
        except ImportError as error:
            answer({"error": "missing", "message": f"{error}. Run: pip install echo-ai-local"})
        except (MemoryError, RuntimeError, OSError, ValueError) as error:
            answer({"error": "failed", "message": f"{type(error).__name__}: {error}"[:500]})


def main() -> None:
    """Serve requests until stdin ends."""
    settings = json.loads(sys.argv[1])
    os.nice(settings["nice"])
    limit = settings["memory_limit_bytes"]
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What a library prints must not get between the answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()

    def serve() -> None:
        try:
            _serve(settings, requests, out)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    threading.Thread(target=serve, daemon=True).start()
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # at once: whatever is being computed, nobody waits for it


if __name__ == "__main__":
    main()
