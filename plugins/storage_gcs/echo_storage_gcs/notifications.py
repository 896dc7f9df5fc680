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

from echo_core.plugin_api import UnavailableError

if TYPE_CHECKING:
    from echo_storage_gcs.calls import Calls
    from echo_storage_gcs.config import GcsConfig

ISSUERS = frozenset({"https://accounts.google.com", "accounts.google.com"})
CERTS_KEPT_S = 3600.0
CERTS_MIN_REFETCH_S = 60.0
CERTS_MIN_RETRY_S = 5.0
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
    """Of its own: whoever knows the address may keep it busy."""
    _certs: dict[str, str] = field(default_factory=dict)
    _fetched_at: float = float("-inf")
    _tried_at: float = float("-inf")
    _fetching: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, config: GcsConfig) -> PushReceiver | None:
        """The receiver of a configuration; None: it wants no notifications."""
        from echo_storage_gcs.calls import Calls

        wanted = config.notifications
        if not wanted.audience:
            return None
        return cls(
            audience=wanted.audience,
            service_account=wanted.service_account,
            certs_url=wanted.certs_url,
            bucket=config.bucket,
            calls=Calls(config, "storage-gcs-push"),
        )

    async def check(self, authorization: str) -> None:
        """Raises ``Refused``, or ``UnavailableError`` when Google's keys cannot be had."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused("it came without a token")
        await self.calls.run(self._check, token.strip())

    def _check(self, token: str) -> None:
        from google.auth import exceptions, jwt

        try:
            # Looked at before anything is asked of Google: most strangers end here.
            self._check_claims(jwt.decode(token, verify=False))
            keys = self._keys(str(jwt.decode_header(token).get("kid", "")))
            self._check_claims(jwt.decode(token, certs=keys, audience=self.audience))
        except (exceptions.GoogleAuthError, ValueError, TypeError, AttributeError) as error:
            raise Refused(f"the token is not good: {error}") from error

    def _check_claims(self, claims: Any) -> None:
        if claims.get("iss") not in ISSUERS:
            raise Refused("the token is not Google's")
        if claims.get("aud") != self.audience:
            raise Refused("the token is for another audience")
        if claims.get("email") != self.service_account or claims.get("email_verified") is not True:
            raise Refused("the token is another account's")

    def _keys(self, key_id: str) -> dict[str, str]:
        """Google's certificates by key id: fetched anew when they are old or one is missing, and not at every wish.

        Raises ``UnavailableError``.
        """
        with self._fetching:
            now_s = time.monotonic()
            age_s = now_s - self._fetched_at
            wanted = age_s > CERTS_KEPT_S or (key_id not in self._certs and age_s > CERTS_MIN_REFETCH_S)
            if wanted and now_s - self._tried_at > CERTS_MIN_RETRY_S:
                self._tried_at = now_s
                self._certs, self._fetched_at = self._fetch(), now_s
            if not self._certs:
                raise _no_keys()
            return self._certs

    def _fetch(self) -> dict[str, str]:
        import requests

        try:
            answer = requests.get(self.certs_url, timeout=self.calls.timeout)
            answer.raise_for_status()
            return {str(key): str(value) for key, value in answer.json().items()}
        except (requests.RequestException, ValueError, AttributeError) as error:
            raise _no_keys() from error


def _no_keys() -> UnavailableError:
    return UnavailableError("Google's certificates cannot be had.", code="certificates_unavailable")


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
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        _log.warning("notification.not_understood")  # and taken, or it would come again and again
        key = None
    if key is not None:
        await request.state.upload_hints.object_stored(key)
    return Response(status_code=204)


def make_routes() -> list[Route]:
    """The plugin's routes."""
    return [Route("/notifications", receive, methods=["POST"])]
