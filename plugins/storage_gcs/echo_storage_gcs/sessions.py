"""Resumable upload sessions: opening one for a browser, asking it, ending it (Cloud Storage, "Resumable uploads").

The address of a session is a secret that is good for a week. So what the kernel keeps of an upload
(``UploadTicket.state``) is sealed: AES-256-GCM under a key of this instance, bound to the object's key.
"""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import asdict, dataclass
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import requests
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.api_core.exceptions import from_http_response
from google.cloud.storage import Blob, Bucket

from echo_core.plugin_api import UploadOffset
from echo_storage_gcs.calls import Calls
from echo_storage_gcs.config import GcsConfig
from echo_storage_gcs.errors import upload_gone

LIFETIME_S = 7 * 24 * 3600
"""After that the storage forgets a session."""
NOTHING_BEFORE = 0
"""``ifGenerationMatch=0``: there must be no such object yet, at the moment when the upload ends."""
RESUME_INCOMPLETE = 308
CACHE_CONTROL = "private, max-age=86400, immutable"
"""What is stored under a key never changes: a browser may keep what it has played, and nobody between it and us."""
_GONE = frozenset({404, 410, 412, 499})
"""Unknown, expired, its key was taken at the end, cancelled."""
_NONCE_BYTES = 12
_VERSION = b"\x01"
_RANGE = re.compile(r"bytes=0-(\d{1,19})")


@dataclass(frozen=True, kw_only=True)
class UploadState:
    """What is kept of an upload. ``uri`` is the session's; none where the object comes in one signed PUT."""

    kind: Literal["session", "put"]
    uri: str = ""
    origin: str | None = None
    """Of the pages that may speak to the session: the storage lets in those that it was opened for, and no others."""
    content_type: str = ""
    size_bytes: int | None = None


class Seal:
    """Hides an upload's state from whoever reads the database."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, key: str, state: UploadState) -> str:
        """The sealed state of the upload to ``key``."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, json.dumps(asdict(state)).encode(), key.encode())
        return base64.urlsafe_b64encode(_VERSION + nonce + sealed).decode()

    def open(self, key: str, sealed: str) -> UploadState:
        """The state. Raises ``NotFoundError`` (``upload_gone``) for another key's, another instance's or storage's."""
        try:
            raw = base64.b64decode(sealed, altchars=b"-_", validate=True)
            if not raw.startswith(_VERSION):
                raise upload_gone()
            nonce, rest = raw[1 : 1 + _NONCE_BYTES], raw[1 + _NONCE_BYTES :]
            return UploadState(**json.loads(self._cipher.decrypt(nonce, rest, key.encode())))
        except (InvalidTag, TypeError, ValueError) as error:
            raise upload_gone() from error


def kept_bytes(answer: requests.Response) -> int:
    """How much of an upload is stored, by a 308; without the header nothing is."""
    stored = _RANGE.fullmatch(answer.headers.get("Range", ""))
    return int(stored[1]) + 1 if stored else 0


class Sessions:
    """Everything here blocks and raises Google's errors or Echo's; ``Calls`` turns them into Echo's."""

    def __init__(self, bucket: Bucket, config: GcsConfig, calls: Calls, http: requests.Session) -> None:
        self._bucket = bucket
        self._config = config
        self._calls = calls
        self._http = http
        """Without credentials: the address is all that a session needs."""

    def new_blob(self, key: str) -> Blob:
        """An object to be written."""
        blob = self._bucket.blob(key)
        blob.cache_control = CACHE_CONTROL
        return blob

    def open(self, key: str, content_type: str, size_bytes: int, origin: str | None = None) -> str:
        """A session for an object of known size; its address, as Echo reaches it."""
        # Another try after a lost answer only leaves an empty session behind.
        return str(
            self.new_blob(key).create_resumable_upload_session(
                content_type=content_type,
                size=size_bytes,
                origin=origin,
                checksum=None,
                if_generation_match=NOTHING_BEFORE,
                timeout=self._calls.timeout,
                retry=self._calls.retry,
            )
        )

    def open_signed(self, url: str, headers: dict[str, str], origin: str | None) -> str:
        """A session by a signed POST, which can bound a size that is not known yet; its address."""
        sent = headers | ({"Origin": origin} if origin else {})
        answer = self._request("POST", url, sent)
        if answer.status_code != 201 or "Location" not in answer.headers:
            raise from_http_response(answer)
        return str(answer.headers["Location"])

    def offset(self, state: UploadState) -> UploadOffset | None:
        """What the session has; None: it has all, and there should be an object.

        Raises ``NotFoundError`` (``upload_gone``).
        """
        total = "*" if state.size_bytes is None else str(state.size_bytes)
        answer = self._request("PUT", state.uri, {"Content-Range": f"bytes */{total}"})
        if answer.status_code in {200, 201}:
            return None
        if answer.status_code == RESUME_INCOMPLETE:
            return UploadOffset(offset_bytes=kept_bytes(answer), complete=False)
        if answer.status_code in _GONE:
            raise upload_gone()
        raise from_http_response(answer)

    def cancel(self, state: UploadState) -> None:
        """End the session and free what it has; one that is gone is fine."""
        # Whatever it says: what could pass by itself was tried again, and nothing else can be done about it.
        self._request("DELETE", state.uri, {})

    def public(self, uri: str) -> str:
        """The address of a session as browsers reach it."""
        public = urlsplit(self._config.browser_endpoint)
        return urlunsplit(urlsplit(uri)._replace(scheme=public.scheme, netloc=public.netloc))

    def _request(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        def once() -> requests.Response:
            answer = self._http.request(
                method,
                url,
                headers={**headers, "Content-Length": "0"},
                data=b"",
                timeout=self._calls.timeout,
                allow_redirects=False,
            )
            if answer.status_code in {408, 429} or answer.status_code >= 500:
                raise from_http_response(answer)
            return answer

        answer: requests.Response = self._calls.retry(once)()
        return answer
