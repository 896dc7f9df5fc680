"""The id of the request being served: in the answer, in every log line, and in the jobs that it starts."""

from __future__ import annotations

import re
from contextvars import ContextVar

from uuid_utils.compat import uuid7

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_request_id: ContextVar[str] = ContextVar("echo_request_id", default="")


def accept_or_new(offered: str) -> str:
    """The caller's id if it may stand in a log line, else a fresh one."""
    return offered if _SANE.fullmatch(offered) else str(uuid7())


def current_request_id() -> str:
    """The present request's id; empty outside of one."""
    return _request_id.get()


def set_request_id(request_id: str) -> None:
    """Make it the present request's; every request is served in a context of its own."""
    _request_id.set(request_id)
