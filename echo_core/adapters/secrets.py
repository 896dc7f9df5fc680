"""The instance secret and the keys that are derived from it.

``load_instance_secret(settings)`` gives the secret, ``derive_key(secret, label)`` 32 bytes for one purpose. Labels in
use: ``plugin:<plugin>:<label>``, ``playback``, ``auth:embedded``, ``role:<role>``, ``idempotency``.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from echo_core.adapters.settings import MIN_SECRET_LENGTH, Settings
from echo_core.adapters.settings_errors import ConfigurationError, ConfigurationIssue

KEY_LENGTH = 32
"""Bytes; SHA-256's output, what HMAC-SHA256 wants at least (RFC 7518, 3.2)."""
GENERATED_SECRET_BYTES = 48


def load_instance_secret(settings: Settings) -> bytes:
    """``secret_key``, or the one kept at ``data_dir/secrets/secret_key``, made at first use. Blocking.

    Processes that start at once end up with the same secret. Raises ``ConfigurationError`` if the file cannot be made
    or read, or holds too little.
    """
    if configured := settings.secret_key.get_secret_value():
        return configured.encode()
    path = settings.data_dir / "secrets" / "secret_key"
    try:
        secret = _read_or_create(path)
    except OSError as error:
        raise _refusal(f"cannot keep the instance secret at {path}: {error.strerror}") from error
    if len(secret) < MIN_SECRET_LENGTH:
        raise _refusal(f"{path} holds less than {MIN_SECRET_LENGTH} bytes; restore it, or remove it to make a new one")
    return secret


def derive_key(secret: bytes, label: str) -> bytes:
    """32 bytes that are stable for this secret and label, and tell nothing of each other (HKDF-SHA256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY_LENGTH, salt=None, info=b"echo/v1/" + label.encode()).derive(secret)


def embedded_jwt_secret(settings: Settings, secret: bytes) -> bytes:
    """The HS256 secret: ``auth.hs256_secret`` or, without it, the instance's own. ``secret`` is the instance's."""
    configured = settings.auth.hs256_secret.get_secret_value()
    return configured.encode() if configured else derive_key(secret, "auth:embedded")


def _read_or_create(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes().strip()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".secret_key.")  # 0600 from the first byte
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(GENERATED_SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was faster: its secret counts
            # A link appears whole or not at all, and unlike a rename never replaces what is there.
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    return path.read_bytes().strip()


def _refusal(problem: str) -> ConfigurationError:
    return ConfigurationError([ConfigurationIssue("secret_key", problem)])
