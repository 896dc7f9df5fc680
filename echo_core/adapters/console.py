"""What ``echoctl up`` shows of its children's logs: a line a person can read, and nothing routine."""

from __future__ import annotations

import json

ROUTINE = frozenset({"request.completed", "api.starting", "api.stopped", "worker.stopped"})
"""Events that are worth a log and not a line on the console, unless they are warnings."""
ROUTINE_LOGGERS = ("uvicorn",)
NOT_SHOWN = frozenset({"event", "level", "logger", "timestamp", "process", "exception", "correlation_id", "request_id"})


def condensed(line: str) -> str | None:
    """A line of ``name | log entry`` for the console: structured entries shortened, routine ones None, others as is."""
    name, bar, entry = line.partition("| ")
    if not bar or not entry.startswith("{"):
        return line
    try:
        record = json.loads(entry)
    except ValueError:
        return line
    if not isinstance(record, dict) or "event" not in record:
        return line
    level = str(record.get("level", "info"))
    routine = record["event"] in ROUTINE or str(record.get("logger", "")).startswith(ROUTINE_LOGGERS)
    if level == "debug" or (level == "info" and routine):
        return None
    shown = [f"{key}={value}" for key, value in record.items() if key not in NOT_SHOWN and value not in (None, "")]
    mark = "" if level == "info" else f"{level}: "
    text = f"{name}| {mark}{record['event']}{' ' if shown else ''}{' '.join(shown)}"
    exception = record.get("exception")
    return f"{text}\n{exception}" if exception else text
