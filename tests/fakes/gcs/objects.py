"""Buckets and objects, and what is checked before an object comes to be."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.fakes.gcs.content import Sink
from tests.fakes.gcs.errors import Refusal

SETTABLE = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "eventBasedHold",
    "metadata",
    "storageClass",
    "temporaryHold",
)
BUCKET_FIELDS = (
    "cors",
    "defaultEventBasedHold",
    "encryption",
    "iamConfiguration",
    "labels",
    "lifecycle",
    "location",
    "retentionPolicy",
    "softDeletePolicy",
    "storageClass",
    "versioning",
)
UNIFORM_ACCESS = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"}


@dataclass
class StoredObject:
    """One generation of an object. Bytes never change; ``fields`` are what its writer set."""

    bucket: str
    name: str
    generation: int
    size: int
    crc32c: str
    md5: str | None
    path: Path
    created: str
    updated: str
    fields: dict[str, Any] = field(default_factory=dict)
    components: int | None = None
    metageneration: int = 1

    @property
    def content_type(self) -> str:
        """The media type, where none was given the one the service gives."""
        return str(self.fields.get("contentType") or "application/octet-stream")

    @property
    def etag(self) -> str:
        """The JSON API's."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    @property
    def xml_etag(self) -> str:
        """The XML API's: strong, in quotes."""
        return f'"{base64.b64decode(self.md5).hex()}"' if self.md5 else f'"{self.etag}"'

    def read(self) -> bytes:
        """The bytes of a small one, for tests."""
        return self.path.read_bytes()

    def resource(self, base: str) -> dict[str, Any]:
        """The JSON API's object resource."""
        link = f"b/{quote(self.bucket, safe='')}/o/{quote(self.name, safe='')}"
        content: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{base}/storage/v1/{link}",
            "mediaLink": f"{base}/download/storage/v1/{link}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": str(self.size),
            "crc32c": self.crc32c,
            "etag": self.etag,
            "timeCreated": self.created,
            "updated": self.updated,
            "timeStorageClassUpdated": self.created,
            "timeFinalized": self.created,
        }
        if self.md5 is not None:
            content["md5Hash"] = self.md5
        if self.components is not None:
            content["componentCount"] = self.components
        return {**content, **self.fields}


@dataclass
class Bucket:
    """A bucket, its configuration and its live objects."""

    name: str
    created: str
    fields: dict[str, Any]
    objects: dict[str, StoredObject] = field(default_factory=dict)
    metageneration: int = 1

    @property
    def cors(self) -> list[dict[str, Any]]:
        """The entries of its CORS configuration."""
        return list(self.fields.get("cors") or [])

    def resource(self, base: str) -> dict[str, Any]:
        """The JSON API's bucket resource."""
        return {
            "kind": "storage#bucket",
            "id": self.name,
            "name": self.name,
            "selfLink": f"{base}/storage/v1/b/{self.name}",
            "projectNumber": "1",
            "location": "US",
            "locationType": "multi-region",
            "storageClass": "STANDARD",
            "iamConfiguration": UNIFORM_ACCESS,
            "metageneration": str(self.metageneration),
            "etag": base64.b64encode(f"{self.name}/{self.metageneration}".encode()).decode(),
            "timeCreated": self.created,
            "updated": self.created,
            **{name: value for name, value in self.fields.items() if value is not None},
        }


def check_preconditions(given: Mapping[str, str], stored: StoredObject | None, *, reads: bool = False) -> None:
    """Refuse with 412 what a precondition forbids; a read that is to find something else gets 304."""
    generation, metageneration = (stored.generation, stored.metageneration) if stored else (0, 0)
    for name, actual in (("ifGenerationMatch", generation), ("ifMetagenerationMatch", metageneration)):
        if name in given and _number(given[name], name) != actual:
            raise Refusal(412, "At least one of the pre-conditions you specified did not hold.")
    for name, actual in (("ifGenerationNotMatch", generation), ("ifMetagenerationNotMatch", metageneration)):
        if name in given and _number(given[name], name) == actual:
            raise Refusal(304 if reads else 412, "At least one of the pre-conditions you specified did not hold.")


def preconditions(query: Mapping[str, str]) -> dict[str, str]:
    """Those among the parameters of a request to the JSON API."""
    return {name: value for name, value in query.items() if name.startswith(("ifGeneration", "ifMetageneration"))}


def xml_preconditions(headers: Mapping[str, str]) -> dict[str, str]:
    """Those among the headers of a request to the XML API, under the names of the JSON API."""
    names = {
        "x-goog-if-generation-match": "ifGenerationMatch",
        "x-goog-if-metageneration-match": "ifMetagenerationMatch",
    }
    return {names[name.lower()]: value for name, value in headers.items() if name.lower() in names}


def _number(text: str, name: str) -> int:
    if not text.isdecimal():
        raise Refusal(400, f"Invalid value for {name}: {text}")
    return int(text)


@dataclass
class Draft:
    """An object that is to be, and what its writer wants to be checked.

    ``size_range`` is of x-goog-content-length-range, both ends included.
    """

    bucket: str
    name: str
    email: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    preconditions: dict[str, str] = field(default_factory=dict)
    crc32c: str | None = None
    md5: str | None = None
    size_range: tuple[int, int] | None = None
    components: int | None = None

    def kept_fields(self) -> dict[str, Any]:
        """What the object resource keeps of the metadata."""
        return {name: value for name, value in self.fields.items() if name in SETTABLE and value is not None}

    def expect_hashes(self, headers: Mapping[str, str]) -> None:
        """Take the hashes of x-goog-hash and Content-MD5."""
        for pair in (headers.get("x-goog-hash") or "").split(","):
            name, _, value = pair.strip().partition("=")
            if name == "crc32c":
                self.crc32c = value
            elif name == "md5":
                self.md5 = value
        self.md5 = headers.get("content-md5") or self.md5

    def check_size(self, size: int, *, final: bool = True) -> None:
        """Refuse a size outside of the range; before the end, only one that is too large already."""
        if self.size_range is None:
            return
        if size > self.size_range[1]:
            raise Refusal(400, "Your proposed upload exceeds the maximum allowed size.", code="EntityTooLarge")
        if final and size < self.size_range[0]:
            raise Refusal(400, "Your proposed upload is smaller than the minimum size.", code="EntityTooSmall")

    def check(self, sink: Sink) -> None:
        """Refuse what is not of the size or the hashes that were promised."""
        self.check_size(sink.size)
        for name, promised, actual in (("CRC32C", self.crc32c, sink.crc32c), ("MD5", self.md5, sink.md5)):
            if promised is not None and promised != actual:
                raise Refusal(
                    400,
                    f'Provided {name} "{promised}" doesn\'t match calculated {name} "{actual}".',
                    code="BadDigest",
                )
