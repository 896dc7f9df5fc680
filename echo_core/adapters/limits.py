"""The limits of use cases, out of the settings."""

from __future__ import annotations

from typing import TypedDict

from echo_core.adapters.settings import Settings
from echo_core.application.rate_limiting import RatePolicy
from echo_core.application.services import Limits


def limits_of(settings: Settings) -> Limits:
    """The limits of use cases, out of the sections that set them."""
    realtime = settings.realtime
    return Limits(
        public_url=settings.public_url,
        max_upload_bytes=settings.upload.max_size_bytes,
        upload_expires_in_s=settings.upload.expires_in_s,
        url_expires_in_s=settings.storage.url_expires_in_s,
        max_body_bytes=settings.http.max_body_bytes,
        cors_origins=settings.http.cors_origins,
        max_requests=settings.http.max_requests,
        max_transfers=settings.http.max_transfers,
        body_idle_timeout_s=settings.http.idle_timeout_s,
        quota_bytes=settings.upload.quota_bytes,
        max_unfinished_uploads=settings.upload.max_unfinished,
        ws_max_connections=realtime.max_connections,
        ws_auth_timeout_s=realtime.auth_timeout_s,
        ws_ticket_expires_in_s=realtime.ticket_expires_in_s,
        ws_max_queue=realtime.max_queue,
        ws_max_connections_per_user=realtime.max_connections_per_user,
        ws_poll_s=realtime.poll_s,
    )


class RatePolicies(TypedDict):
    """The policies of a rate limiter; None: no limit."""

    users: RatePolicy | None
    addresses: RatePolicy | None
    failures: RatePolicy | None


def rate_policies_of(settings: Settings) -> RatePolicies:
    """The rate limits, out of ``[http]``."""

    def policy(name: str, key: str, quota: int) -> RatePolicy | None:
        return RatePolicy(name=name, quota=quota, setting=f"http.{key}") if quota else None

    http = settings.http
    return RatePolicies(
        users=policy("user", "user_requests_per_minute", http.user_requests_per_minute),
        addresses=policy("address", "address_requests_per_minute", http.address_requests_per_minute),
        failures=policy("unauthenticated", "address_failures_per_minute", http.address_failures_per_minute),
    )
