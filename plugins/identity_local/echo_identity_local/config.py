"""The table ``[plugins.identity_local]``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class IdentityConfig(BaseModel):
    """Who may sign up, how long sign-in lasts, and how often it may be tried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sign_up: bool = True
    allow_in_production: bool = False
    token_expires_in_s: int = Field(default=3600, ge=60, le=24 * 3600)
    min_password_length: int = Field(default=8, ge=6, le=128)
    address_tries_per_minute: int = Field(default=60, ge=1)
    account_tries_per_minute: int = Field(default=10, ge=1)
    hash_threads: int = Field(default=2, ge=1, le=32)
