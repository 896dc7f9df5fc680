"""The configuration of the plugin: ``[plugins.storage_gcs]``. Imports nothing of Google's."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

KIB = 1024
MIB = 1024 * KIB

UPLOAD_GRANULE_BYTES = 256 * KIB
"""Chunks of the resumable protocol are multiples of this (Cloud Storage, "Perform resumable uploads")."""
GOOGLE_STORAGE = "https://storage.googleapis.com"
GOOGLE_IAM = "https://iamcredentials.googleapis.com"
GOOGLE_CERTS = "https://www.googleapis.com/oauth2/v1/certs"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def _endpoint(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("must be https: tokens and signed addresses go there")
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment or "@" in value:
        raise ValueError("must be an address such as https://storage.googleapis.com")
    return value.rstrip("/")


def _origin(value: str) -> str:
    if urlsplit(_endpoint(value)).path:
        raise ValueError("must be an address without a path, such as https://storage.googleapis.com")
    return _endpoint(value)


def _origin_or_empty(value: str) -> str:
    return _origin(value) if value else ""


class NotificationConfig(BaseModel):
    """Object notifications that Pub/Sub pushes. Without ``audience`` and ``service_account``: refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    audience: str = ""
    """The audience that the push subscription puts into its tokens."""
    service_account: str = ""
    """The e-mail address of the account that the push subscription authenticates as."""
    certs_url: Annotated[str, AfterValidator(_endpoint)] = GOOGLE_CERTS

    @model_validator(mode="after")
    def _is_whole(self) -> NotificationConfig:
        if bool(self.audience) != bool(self.service_account):
            raise ValueError("audience and service_account belong together; set both, or none")
        return self


class GcsConfig(BaseModel):
    """The bucket, who reads and writes it, and how patient Echo is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$")
    """The bucket's name (Cloud Storage, "Bucket names"); it must exist."""
    credentials: SecretStr = SecretStr("")
    """JSON key of a service account. Empty: what ``google.auth.default()`` finds."""
    signer: str = Field(default="", pattern=r"^$|^[^@\s/]+@[^@\s/]+$")
    """E-mail address of the service account that signs addresses where there is no key. Empty: the machine's own."""
    endpoint: Annotated[str, AfterValidator(_origin)] = GOOGLE_STORAGE
    """Where Echo itself reaches the storage."""
    public_endpoint: Annotated[str, AfterValidator(_origin_or_empty)] = ""
    """Where browsers reach it. Empty: ``endpoint``."""
    iam_endpoint: Annotated[str, AfterValidator(_endpoint)] = GOOGLE_IAM
    chunk_size_bytes: int = Field(
        default=8 * MIB, ge=UPLOAD_GRANULE_BYTES, le=256 * MIB, multiple_of=UPLOAD_GRANULE_BYTES
    )
    """Chunk size that clients are told to use, and that Echo itself uses."""
    single_put_bytes: int = Field(default=MIB, ge=0, le=64 * MIB)
    """Uploads up to this size go in one signed PUT, from clients that can; 0: none."""
    deadline_s: float = Field(default=8.0, ge=1.0, le=60.0)
    """A short call (facts, a new session, a signature) that takes longer has failed."""
    stall_timeout_s: float = Field(default=30.0, ge=1.0)
    """A transfer that moves no byte for so long is tried again."""
    parallel_downloads: int = Field(default=4, ge=1, le=32)
    """Parts of one big source that a worker fetches at once."""
    threads: int = Field(default=16, ge=2, le=128)
    """Threads for short calls, and as many again for transfers."""
    notifications: NotificationConfig = NotificationConfig()

    @property
    def browser_endpoint(self) -> str:
        """Where browsers go."""
        return self.public_endpoint or self.endpoint


def browser_origins(config: GcsConfig) -> tuple[str, ...]:
    """The origins of all addresses that browsers get."""
    parts = urlsplit(config.browser_endpoint)
    return (f"{parts.scheme}://{parts.netloc}",)
