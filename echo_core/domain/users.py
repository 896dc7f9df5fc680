"""Who is asking."""

from __future__ import annotations

from dataclasses import dataclass, field

from echo_core.domain.ids import UserId
from echo_core.plugin_api.json import JsonObject


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """An authenticated caller. ``claims`` are the token's, verified; row level security reads them."""

    id: UserId
    email: str = ""
    claims: JsonObject = field(default_factory=dict)
    expires_at_s: float = 0.0
    """When the token ends, in seconds since the epoch."""
