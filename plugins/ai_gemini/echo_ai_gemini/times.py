"""Times as models write them: M:SS, MM:SS.s or H:MM:SS; minutes beyond 59 are legal."""

from __future__ import annotations

import re

_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,4}):(\d{1,2}(?:[.,]\d{1,3})?)")


def seconds_of(text: object) -> float | None:
    """Seconds, or None for what is no time: 61:05 is 3665."""
    found = _CLOCK.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        return None
    seconds = float(found[3].replace(",", "."))
    if seconds >= 60:
        return None
    return int(found[1] or 0) * 3600 + int(found[2]) * 60 + seconds


def clock_of(seconds: float) -> str:
    """MM:SS, as the models are shown times."""
    whole = max(0, int(seconds))
    return f"{whole // 60:02d}:{whole % 60:02d}"
