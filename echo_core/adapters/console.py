"""What ``echoctl up`` shows of its children's logs: a line a person can read, and nothing routine."""

from __future__ import annotations

import json
import re

ROUTINE = frozenset({"request.completed", "api.starting", "api.stopped", "worker.stopped"})
"""Events that are worth a log and not a line on the console, unless they are warnings."""
ROUTINE_LOGGERS = ("uvicorn",)
NOT_SHOWN = frozenset({"event", "level", "logger", "timestamp", "process", "exception", "correlation_id", "request_id"})

_ACTIVE = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What a terminal may obey or show as a new line; the line feed is not among them."""


def escaped(text: str, *, keep_lines: bool = False) -> str:
    """The text with all that a terminal might obey as escapes; line feeds too, unless they are the writer's own."""
    shown = _ACTIVE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return shown if keep_lines else shown.replace("\n", "\\n")


def condensed(line: str) -> str | None:
    """A line of ``name | log entry`` for the console: structured entries shortened, routine ones None, others as they
    are. What a terminal might obey is escaped."""
    shown = _condensed(line)
    return escaped(shown, keep_lines=True) if shown is not None else None


def _condensed(line: str) -> str | None:
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
    shown = [
        escaped(f"{key}={value}") for key, value in record.items() if key not in NOT_SHOWN and value not in (None, "")
    ]
    mark = "" if level == "info" else f"{level}: "
    text = f"{name}| {mark}{escaped(str(record['event']))}{' ' if shown else ''}{' '.join(shown)}"
    exception = record.get("exception")
    return f"{text}\n{exception}" if exception else text
