"""Structured logs on standard error: one event a line, ids as fields, one correlation id from request to step.

Our own events are written straight away. Taking each through the standard library's records, handlers and formatter, as
foreign ones must, costs more than twice the processor time, and every request writes one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

import msgspec
import structlog
from structlog.typing import Processor

from echo_core.adapters.console import escaped
from echo_core.adapters.redaction import MIN_SECRET_CHARS, Redactor
from echo_core.adapters.settings import LogSettings

_SHARED: Sequence[Processor] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)

QUIET = ("httpx2", "httpcore2", "asyncio", "uvicorn.access", "uvicorn.error", "alembic", "hpack")
"""Loggers that talk about every call; their warnings stay. ``uvicorn.error`` tells the addresses of WebSockets with
their tickets, and at level debug every message with its token."""
JWT_BEGINNING = "eyJ"
"""Of every token: its header is a JSON object. A caller that puts one into a path gets 404, and the path is logged."""
MAX_FIELD_CHARS = 4_000
MAX_TRACEBACK_CHARS = 20_000
NO_HANDSHAKE = "ASGI callable returned without completing handshake."
"""What uvicorn (0.54) takes for an error whenever a WebSocket is refused with an HTTP answer, which is allowed."""


def _is_no_refusal(record: logging.LogRecord) -> bool:
    return record.msg != NO_HANDSHAKE


def _bounded(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """No field is longer than a screen, whatever a caller or a tool put into it; of a traceback, the end counts."""
    for name, value in event.items():
        if isinstance(value, str) and len(value) > MAX_FIELD_CHARS:
            if name != "exception":
                event[name] = f"{value[:MAX_FIELD_CHARS]}… ({len(value)} characters)"
            elif len(value) > MAX_TRACEBACK_CHARS:
                event[name] = f"({len(value)} characters) …{value[-MAX_TRACEBACK_CHARS:]}"
    return event


class _WithoutSecrets:
    """Takes secrets out of what others have written: tracebacks, warnings of libraries, errors of plugins, which like
    to quote the request or the address that failed. Our own routine events hold none and are left alone: looking
    would cost every request as much as writing its line does."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._redact = Redactor(secrets)

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event.get("level") != "info" or "exception" in event or JWT_BEGINNING in event.get("path", ""):
            for name, value in event.items():
                if isinstance(value, str) and len(value) >= MIN_SECRET_CHARS:
                    event[name] = self._redact(value)
        return event


def _printable(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For terminals, where JSON escapes nothing: no field can begin a line, move the cursor or change a colour."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = escaped(value, keep_lines=name == "exception")
    return event


_encode = msgspec.json.Encoder(enc_hook=repr).encode
_render_anything = structlog.processors.JSONRenderer()


def _as_json(logger: Any, method: str, event: MutableMapping[str, Any]) -> str | bytes:
    """The event as JSON in ASCII, where nothing can pass for the end of a line or a terminal's command.

    msgspec takes a twentieth of the time, but escapes no other characters and takes fewer types.
    """
    try:
        encoded = _encode(event)
    except (TypeError, ValueError):
        return _render_anything(logger, method, event)
    return encoded.decode() if encoded.isascii() else _render_anything(logger, method, event)


class _Lines:
    """A logger that writes each line at once. Its name is what ``get_logger`` was given."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._stream = sys.stderr

    def msg(self, line: str) -> None:
        """Write one line, in one piece: threads may log at the same time."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    log = debug = info = warn = warning = error = critical = exception = fatal = failure = err = msg


def configure_logging(settings: LogSettings, *, process: str, secrets: Iterable[str] = ()) -> None:
    """Write structlog's and the standard library's events in one format. Call once, at start. ``secrets`` are never
    written, whoever tries."""
    without_secrets = _WithoutSecrets(secrets)
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: list[Processor] = (
        # The default draws every local variable: secrets among them, and seconds in which the loop stands still.
        [
            structlog.processors.format_exc_info,
            without_secrets,
            _bounded,
            _printable,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
        if console
        else [structlog.processors.format_exc_info, without_secrets, _bounded, _as_json]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.error").addFilter(_is_no_refusal)
    structlog.configure(
        processors=[*_SHARED, *renderer],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
