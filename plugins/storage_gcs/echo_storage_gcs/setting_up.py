"""What a bucket has to permit: CORS for browsers, lifecycle rules, permissions. Everything here blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.cloud.storage import Bucket

from echo_storage_gcs.calls import Calls

METHODS = ("GET", "HEAD", "PUT", "POST", "OPTIONS")
HEADERS = (
    *("Content-Type", "Content-Range", "Range", "Location", "ETag", "If-Range", "Accept-Ranges"),
    *("x-goog-generation", "x-goog-hash", "x-goog-resumable"),
    *("x-goog-if-generation-match", "x-goog-content-length-range"),
)
"""Cloud Storage takes one list for what a page may send and what it may read (``responseHeader``). Without ``Range`` no
page can go on with an upload."""
MAX_AGE_S = 3600
PERMISSIONS = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")
"""Those of Echo's own account: all four are in roles/storage.objectUser."""
EXAMINATIONS = "doctor/"
"""What begins so is ``echoctl doctor``'s."""

Rule = dict[str, Any]


def wanted_cors(origins: Sequence[str]) -> Rule:
    """The rule that lets pages of these origins upload and play."""
    return {
        "origin": list(origins),
        "method": list(METHODS),
        "responseHeader": list(HEADERS),
        "maxAgeSeconds": MAX_AGE_S,
    }


def lacking_cors(rules: Sequence[Rule], origin: str) -> list[str]:
    """What pages of ``origin`` may not do by these rules, in words."""
    ours = [rule for rule in rules if {"*", origin} & set(rule.get("origin", ()))]
    if not ours:
        return [f"a rule for the origin {origin}"]
    methods: list[str] = []
    headers: set[str] = set()
    for method in METHODS[:-1]:
        # Of the rules that match a request, the first one counts.
        rule = next((rule for rule in ours if {"*", method} & _upper(rule.get("method", ()))), None)
        if rule is None:
            methods.append(method)
            continue
        shown = {str(name).lower() for name in rule.get("responseHeader", ())}
        headers |= set() if "*" in shown else {name for name in HEADERS if name.lower() not in shown}
    lacking = [f"the methods {', '.join(methods)} for {origin}"] if methods else []
    if headers:
        lacking.append(f"the headers {', '.join(name for name in HEADERS if name in headers)} for {origin}")
    return lacking


def _upper(names: Sequence[object]) -> set[str]:
    return {str(name).upper() for name in names}


def wanted_lifecycle() -> list[Rule]:
    """Rules against what a killed process leaves. Resumable sessions end by themselves after a week."""
    return [
        {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}},
        {"action": {"type": "Delete"}, "condition": {"age": 1, "matchesPrefix": [EXAMINATIONS]}},
    ]


def merged(rules: Sequence[Rule], wanted: Sequence[Rule]) -> list[Rule]:
    """The rules that are there, and behind them those that are missing."""
    return [*rules, *(rule for rule in wanted if rule not in rules)]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a bucket has and should have."""

    cors: list[Rule]
    lifecycle: list[Rule]
    wanted_cors: list[Rule]
    wanted_lifecycle: list[Rule]
    lacking: list[str]
    location: str = ""
    versioning: bool = False
    soft_delete_days: float = 0.0
    public: bool = False

    @property
    def is_done(self) -> bool:
        """Whether nothing has to be changed."""
        return not self.lacking and self.lifecycle == self.wanted_lifecycle


def look(bucket: Bucket, origins: Sequence[str], calls: Calls) -> Plan:
    """Read the bucket's settings. Needs ``storage.buckets.get``."""
    bucket.reload(timeout=calls.timeout, retry=calls.retry)
    cors = [dict(rule) for rule in bucket.cors]
    lifecycle = [dict(rule) for rule in bucket.lifecycle_rules]
    lacking = [words for origin in origins for words in lacking_cors(cors, origin)]
    soft_delete = bucket.soft_delete_policy.retention_duration_seconds or 0
    return Plan(
        cors=cors,
        lifecycle=lifecycle,
        # In front: of the rules that match a request, the first one counts.
        wanted_cors=[wanted_cors(origins), *(r for r in cors if r.get("origin") != list(origins))] if lacking else cors,
        wanted_lifecycle=merged(lifecycle, wanted_lifecycle()),
        lacking=lacking,
        location=str(bucket.location or ""),
        versioning=bool(bucket.versioning_enabled),
        soft_delete_days=int(soft_delete) / 86_400,
        public=bucket.iam_configuration.public_access_prevention != "enforced",
    )


def apply(bucket: Bucket, plan: Plan, calls: Calls) -> None:
    """Give the bucket what it lacks. Needs ``storage.buckets.update``; changes nothing else, and not what somebody else
    changed since ``look`` (``PreconditionFailedError``)."""
    bucket.cors = plan.wanted_cors
    bucket.lifecycle_rules = plan.wanted_lifecycle
    bucket.patch(if_metageneration_match=bucket.metageneration, timeout=calls.timeout, retry=calls.retry)


def missing_permissions(bucket: Bucket, calls: Calls) -> list[str]:
    """Those of ``PERMISSIONS`` that the client's account does not have."""
    granted = set(bucket.test_iam_permissions(list(PERMISSIONS), timeout=calls.timeout, retry=calls.retry))
    return [name for name in PERMISSIONS if name not in granted]
