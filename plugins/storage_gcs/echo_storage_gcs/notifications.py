"""Object notifications that Pub/Sub pushes (Cloud Storage, "Pub/Sub notifications"; Pub/Sub, "Push authentication").

They come at least once, in any order, late, or never: each is only a hint to look.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from echo_storage_gcs.calls import Calls
    from echo_storage_gcs.config import GcsConfig

ISSUERS = frozenset({"https://accounts.google.com", "accounts.google.com"})
CERTS_KEPT_S = 3600.0
CERTS_MIN_REFETCH_S = 60.0
FINALIZED = "OBJECT_FINALIZE"
_log = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818 - not an error of Echo's: whoever called was not Pub/Sub
    """The caller has not shown to be the push subscription."""


@dataclass
class PushReceiver:
    """Knows the push subscription by its token (OpenID Connect, signed by Google)."""

    audience: str
    service_account: str
    certs_url: str
    bucket: str
    calls: Calls
    _certs: dict[str, str] = field(default_factory=dict)
    _fetched_at: float = float("-inf")
    _fetching: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, config: GcsConfig, calls: Calls) -> PushReceiver | None:
        """The receiver of a configuration; None: it wants no notifications."""
        wanted = config.notifications
        if not wanted.audience:
            return None
        return cls(
            audience=wanted.audience,
            service_account=wanted.service_account,
            certs_url=wanted.certs_url,
            bucket=config.bucket,
            calls=calls,
        )

    async def check(self, authorization: str) -> None:
        """Raises ``Refused``, or ``UnavailableError`` when Google's keys cannot be had."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused("there is no bearer token")
        await self.calls.run(self._check, token.strip())

    def _check(self, token: str) -> None:
        from google.auth import exceptions, jwt

        try:
            key_id = jwt.decode_header(token).get("kid", "")
            claims = jwt.decode(token, certs=self._keys(str(key_id)), audience=self.audience)
        except exceptions.TransportError:
            raise
        except (exceptions.GoogleAuthError, ValueError) as error:
            raise Refused(f"the token is not good: {error}") from error
        if claims.get("iss") not in ISSUERS:
            raise Refused("the token is not Google's")
        if claims.get("email") != self.service_account or claims.get("email_verified") is not True:
            raise Refused("the token is another account's")

    def _keys(self, key_id: str) -> dict[str, str]:
        """Google's certificates by key id, fetched anew when one is missing, but not more often than once a minute."""
        with self._fetching:
            age_s = time.monotonic() - self._fetched_at
            if age_s > CERTS_KEPT_S or (key_id not in self._certs and age_s > CERTS_MIN_REFETCH_S):
                self._certs = self._fetch()
                self._fetched_at = time.monotonic()
            return self._certs

    def _fetch(self) -> dict[str, str]:
        import requests

        answer = requests.get(self.certs_url, timeout=self.calls.timeout)
        answer.raise_for_status()
        return {str(key): str(value) for key, value in answer.json().items()}


def stored_object(body: bytes, bucket: str) -> str | None:
    """The key that a push tells of; None: nothing that arrived in ``bucket``. Raises ``ValueError``."""
    message: Any = json.loads(body)["message"]
    attributes = message.get("attributes") or {}
    if not attributes and message.get("data"):  # a notification that was made without attributes
        data = json.loads(base64.b64decode(message["data"], validate=True))
        attributes = {"bucketId": data.get("bucket"), "objectId": data.get("name"), "eventType": FINALIZED}
    if attributes.get("eventType", FINALIZED) != FINALIZED or attributes.get("bucketId") != bucket:
        return None
    key = attributes.get("objectId")
    return key if isinstance(key, str) else None


async def receive(request: Request) -> Response:
    """``POST /plugins/storage_gcs/notifications``: 204 for whatever was understood, also for what is no news."""
    receiver: PushReceiver | None = getattr(request.state.storage, "push", None)
    if receiver is None:
        raise HTTPException(404, "This instance takes no object notifications (plugins.storage_gcs.notifications).")
    try:
        await receiver.check(request.headers.get("authorization", ""))
    except Refused as error:
        _log.warning("notification.refused", extra={"reason": str(error)[:200]})
        raise HTTPException(401, "This is not the push subscription of this instance.") from error
    try:
        key = stored_object(await request.body(), receiver.bucket)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise HTTPException(422, "This is no Cloud Storage notification.") from error
    if key is not None:
        await request.state.upload_hints.object_stored(key)
    return Response(status_code=204)


def make_routes() -> list[Route]:
    """The plugin's routes."""
    return [Route("/notifications", receive, methods=["POST"])]
