"""The limits of use cases, out of the settings."""

from __future__ import annotations

from echo_core.adapters.settings import Settings
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
        ws_auth_timeout_s=realtime.auth_timeout_s,
        ws_ticket_expires_in_s=realtime.ticket_expires_in_s,
        ws_max_queue=realtime.max_queue,
        ws_max_connections_per_user=realtime.max_connections_per_user,
        ws_poll_s=realtime.poll_s,
    )
