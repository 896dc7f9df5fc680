"""Structured logs on standard error: one event a line, ids as fields, one correlation id from request to step."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import structlog
from structlog.typing import Processor

from echo_core.adapters.settings import LogSettings

_SHARED: Sequence[Processor] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)

QUIET = ("httpx2", "httpcore2", "asyncio", "uvicorn.access", "uvicorn.error", "alembic", "hpack")
"""Loggers that talk about every call; their warnings stay. ``uvicorn.error`` tells the addresses of WebSockets with
their tickets, and at level debug every message with its token."""
NO_HANDSHAKE = "ASGI callable returned without completing handshake."
"""What uvicorn (0.54) takes for an error whenever a WebSocket is refused with an HTTP answer, which is allowed."""


def _is_no_refusal(record: logging.LogRecord) -> bool:
    return record.msg != NO_HANDSHAKE


def configure_logging(settings: LogSettings, *, process: str) -> None:
    """Send structlog's and the standard library's records through one formatter. Call once, at start."""
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: list[Processor] = (
        # The default draws every local variable: secrets among them, and seconds in which the loop stands still.
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
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
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
