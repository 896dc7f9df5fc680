"""``echoctl gcs setup`` and what the doctor finds in a bucket."""

import json
import uuid
from typing import Any

import pytest
from echo_storage_gcs.commands import app
from echo_storage_gcs.setting_up import HEADERS, PERMISSIONS, lacking_cors, wanted_cors
from google.auth.compute_engine import _metadata
from typer.testing import CliRunner

from echo_core.plugin_api import AuthError, EchoError
from tests.fakes.gcs.server import FakeGcs, cors_for

from .conftest import BUCKET, ORIGIN, make_context

FOREIGN = {"origin": ["https://other.example"], "method": ["GET"], "responseHeader": ["ETag"], "maxAgeSeconds": 60}


@pytest.fixture
def setup(gcs: FakeGcs, clock, tmp_path):
    def setup(*arguments: str, **config: Any):
        context = make_context(gcs, clock, tmp_path, **config)
        return CliRunner().invoke(app, ["setup", *arguments], obj=context)

    return setup


@pytest.fixture
def bare(gcs: FakeGcs) -> str:
    """A bucket as it comes, with a rule of somebody else's."""
    name = f"bare-{uuid.uuid4()}"
    gcs.create_bucket(name, cors=[FOREIGN])
    return name


def test_what_is_missing_is_shown_and_not_changed(setup, gcs: FakeGcs, bare: str) -> None:
    ran = setup(bucket=bare)
    assert ran.exit_code == 1
    assert f"a rule for the origin {ORIGIN}" in ran.output
    assert "--apply" in ran.output
    assert "AbortIncompleteMultipartUpload" in ran.output
    assert "x-goog-generation" in ran.output
    assert gcs.bucket_fields(bare)["cors"] == [FOREIGN]


def test_apply_adds_what_is_missing_once(setup, gcs: FakeGcs, bare: str) -> None:
    ran = setup("--apply", bucket=bare)
    assert (ran.exit_code, "Changed." in ran.output) == (0, True), ran.output
    fields = gcs.bucket_fields(bare)
    assert fields["cors"] == [wanted_cors([ORIGIN]), FOREIGN]
    assert [rule["action"]["type"] for rule in fields["lifecycle"]["rule"]] == [
        "AbortIncompleteMultipartUpload",
        "Delete",
    ]
    again = setup("--apply", bucket=bare)
    assert (again.exit_code, "Nothing has to be changed." in again.output) == (0, True)
    assert gcs.bucket_fields(bare) == fields


def test_json(setup, gcs: FakeGcs, bare: str) -> None:
    told = json.loads(setup("--json", bucket=bare).output)
    assert (told["ok"], told["changed"], told["missingPermissions"]) == (False, False, [])
    assert told["cors"][0]["origin"] == [ORIGIN]
    told = json.loads(setup("--json", "--apply", bucket=bare).output)
    assert (told["ok"], told["changed"]) == (True, True)


def test_missing_permissions_are_named_with_what_grants_them(setup, gcs: FakeGcs) -> None:
    gcs.deny("storage.objects.delete", "storage.objects.list")
    ran = setup("--apply")
    assert ran.exit_code == 1
    assert "lacks storage.objects.delete, storage.objects.list" in ran.output
    assert "roles/storage.objectUser" in ran.output


def test_account_that_may_not_read_the_settings_shows_what_to_set(setup, gcs: FakeGcs) -> None:
    """The role that Echo's account should have does not let it."""
    gcs.deny("storage.buckets.get")
    ran = setup()
    assert ran.exit_code == 1
    assert "--own-credentials" in ran.output
    assert "cors.json" in ran.output
    assert ORIGIN in ran.output
    assert "has the permissions that Echo needs" in ran.output
    told = json.loads(setup("--json").output)
    assert (told["ok"], told["lacking"], told["missingPermissions"]) == (False, None, [])
    assert told["cors"][0]["origin"] == [ORIGIN]


def test_whoever_is_signed_in_changes_the_bucket_and_echos_account_is_looked_at(
    setup, gcs: FakeGcs, bare: str, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    key = tmp_path / "mine.json"
    key.write_text(json.dumps(gcs.service_account_info("operator@echo-test.iam.gserviceaccount.com")))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    gcs.deny("storage.objects.create")
    ran = setup("--apply", "--own-credentials", bucket=bare)
    assert ran.exit_code == 1
    assert "Changed." in ran.output
    assert f"{gcs.email} lacks storage.objects.create" in ran.output


def test_nobody_is_signed_in(setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True)
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    ran = setup("--own-credentials")
    assert isinstance(ran.exception, AuthError)
    assert "gcloud auth application-default login" in ran.exception.remedy


def test_account_that_may_not_change_the_bucket_is_told(setup, gcs: FakeGcs, bare: str) -> None:
    gcs.deny("storage.buckets.update")
    ran = setup("--apply", bucket=bare)
    assert isinstance(ran.exception, EchoError)
    assert "storage.buckets.update" in ran.exception.message
    assert "--own-credentials" in ran.exception.remedy


def test_bucket_that_is_not_there_is_told(setup) -> None:
    ran = setup(bucket="not-there")
    assert isinstance(ran.exception, EchoError)
    assert ran.exception.code == "bucket_not_found"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"origin": ["*"]}, []),
        ({"origin": ["https://other.example"]}, ["a rule for the origin"]),
        ({"method": ["GET", "HEAD", "POST"]}, ["the methods PUT"]),
        ({"method": ["*"]}, []),
        ({"responseHeader": [name for name in HEADERS if name != "Range"]}, ["the headers Range"]),
        ({"responseHeader": ["*"]}, []),
        ({"responseHeader": [name.upper() for name in HEADERS]}, []),
    ],
)
def test_what_cors_rules_lack(change: dict[str, Any], words: list[str]) -> None:
    found = lacking_cors([wanted_cors([ORIGIN]) | change], ORIGIN)
    assert len(found) == len(words)
    assert all(word in sentence for word, sentence in zip(words, found, strict=True))


def test_rule_without_methods_permits_nothing() -> None:
    assert "the methods" in lacking_cors([{"origin": ["*"]}], ORIGIN)[0]


def test_of_the_rules_that_match_the_first_one_counts() -> None:
    loose = {"origin": ["*"], "method": ["*"], "responseHeader": ["Content-Type"]}
    assert "Range" in lacking_cors([loose, wanted_cors([ORIGIN])], ORIGIN)[0]
    assert lacking_cors([wanted_cors([ORIGIN]), loose], ORIGIN) == []
    only_reading = {"origin": ["*"], "method": ["GET", "HEAD"], "responseHeader": ["*"]}
    assert lacking_cors([only_reading, wanted_cors([ORIGIN])], ORIGIN) == []


def test_apply_puts_its_rule_before_a_looser_one(setup, gcs: FakeGcs) -> None:
    name = f"loose-{uuid.uuid4()}"
    loose = {"origin": ["*"], "method": ["*"], "responseHeader": ["Content-Type"]}
    gcs.create_bucket(name, cors=[loose])
    assert setup("--apply", bucket=name).exit_code == 0
    assert gcs.bucket_fields(name)["cors"] == [wanted_cors([ORIGIN]), loose]


def test_apply_replaces_an_older_rule_of_its_own(setup, gcs: FakeGcs) -> None:
    name = f"older-{uuid.uuid4()}"
    gcs.create_bucket(name, cors=[wanted_cors([ORIGIN]) | {"responseHeader": ["Content-Type"]}, FOREIGN])
    assert setup("--apply", bucket=name).exit_code == 0
    assert gcs.bucket_fields(name)["cors"] == [wanted_cors([ORIGIN]), FOREIGN]


# --- the doctor


async def test_healthy_bucket(storage, gcs: FakeGcs, setup) -> None:
    assert setup("--apply").exit_code == 0
    findings = await storage.examine()
    assert [(f.name, f.ok) for f in findings] == [
        ("permissions", True),
        ("signing", True),
        ("objects", True),
        ("cors", True),
    ], findings
    assert gcs.objects(BUCKET) == {}


@pytest.mark.parametrize("permission", PERMISSIONS)
async def test_missing_permission_is_named(storage, gcs: FakeGcs, permission: str) -> None:
    gcs.deny(permission)
    found = {finding.name: finding for finding in await storage.examine()}
    assert not found["permissions"].ok
    assert permission in found["permissions"].detail
    assert "add-iam-policy-binding" in found["permissions"].remedy
    if permission != "storage.objects.list":
        assert not found["objects"].ok
        assert permission in found["objects"].detail


async def test_missing_cors_header_is_named(open_storage, gcs: FakeGcs) -> None:
    rules = cors_for(ORIGIN)
    rules[0]["responseHeader"] = [name for name in HEADERS if name not in {"Range", "Content-Range"}]
    gcs.create_bucket("deaf", cors=rules)
    async with open_storage(bucket="deaf") as storage:
        found = {finding.name: finding for finding in await storage.examine()}
    assert not found["cors"].ok
    assert "the headers Content-Range, Range" in found["cors"].detail
    assert "gcs setup --apply" in found["cors"].remedy


async def test_settings_that_may_not_be_read_are_no_failure(storage, gcs: FakeGcs) -> None:
    gcs.deny("storage.buckets.get")
    found = {finding.name: finding for finding in await storage.examine()}
    assert not found["cors"].known
    assert "storage.buckets.get" in found["cors"].detail
