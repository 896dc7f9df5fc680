"""Signatures without a key: by IAM, in the name of the machine's own account or of another."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import google.auth.transport.requests
import httpx2
import pytest
from echo_storage_gcs import backend
from echo_storage_gcs.backend import GcsStorage
from google.auth.compute_engine import _metadata
from google.auth.exceptions import TransportError

from echo_core.plugin_api import AuthError, BeginUpload, ReadUrl, UnavailableError
from echo_core.testing.storage_probe import put_bytes
from tests.fakes.gcs.server import FakeGcs

SIGN = "signBlob"


@pytest.fixture
def keyless(
    gcs: FakeGcs, open_storage: Callable[..., AbstractAsyncContextManager[GcsStorage]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractAsyncContextManager[GcsStorage]]:
    """A machine of Google's: its metadata server gives tokens, and there is no key."""
    monkeypatch.setenv("GCE_METADATA_IP", gcs.address)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
    # The library reads GCE_METADATA_HOST when it is imported.
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", gcs.address)
    return lambda **config: open_storage(credentials="", **config)


def signatures(gcs: FakeGcs) -> list[str]:
    return [r.path for r in gcs.log if r.path.endswith(SIGN)]


async def test_machine_signs_in_its_own_name_without_a_key(keyless, gcs: FakeGcs, tmp_path) -> None:
    async with keyless() as storage:
        await put_bytes(storage, tmp_path, "a", b"0123456789")
        url = (await storage.read_url(ReadUrl(key="a", expires_in_s=60))).url
        with httpx2.Client() as http:
            assert http.get(url).content == b"0123456789"
    assert signatures(gcs) == [f"/v1/projects/-/serviceAccounts/{gcs.email}:signBlob"]


async def test_signer_may_be_another_account(keyless, gcs: FakeGcs) -> None:
    other = "signer@echo-test.iam.gserviceaccount.com"
    gcs.service_account_info(other)
    async with keyless(signer=other) as storage:
        await storage.read_url(ReadUrl(key="a", expires_in_s=60))
    assert signatures(gcs) == [f"/v1/projects/-/serviceAccounts/{other}:signBlob"]


async def test_playlist_that_many_ask_for_is_signed_once(keyless, gcs: FakeGcs) -> None:
    async with keyless() as storage:
        gcs.faults.add(path=SIGN, delay_s=0.3)
        wanted = ReadUrl(key="a", expires_in_s=60)
        signed = await asyncio.gather(*(storage.read_url(wanted) for _ in range(20)))
        assert len(set(signed)) == 1
        assert await storage.read_url(wanted) == signed[0]
    assert len(signatures(gcs)) == 1


async def test_one_who_goes_away_takes_it_from_nobody(keyless, gcs: FakeGcs) -> None:
    async with keyless() as storage:
        gcs.faults.add(path=SIGN, delay_s=0.3)
        asking = [asyncio.create_task(storage.read_url(ReadUrl(key="a", expires_in_s=60))) for _ in range(2)]
        await asyncio.sleep(0.1)
        asking[0].cancel()
        assert (await asking[1]).url


async def test_slow_signature_is_a_problem_within_seconds_and_hurts_nothing_else(keyless, gcs: FakeGcs) -> None:
    async with keyless(deadline_s=1) as storage:
        gcs.faults.add(path=SIGN, hang=True, times=100)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError):
            await storage.read_url(ReadUrl(key="a", expires_in_s=60))
        assert asyncio.get_running_loop().time() - begun < 10
        await storage.check()
        gcs.faults.clear()
        assert (await storage.read_url(ReadUrl(key="a", expires_in_s=60))).url


async def test_metadata_server_that_is_away_at_the_start_is_no_defect(
    open_storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise TransportError("the metadata server does not answer")

    monkeypatch.setattr(backend, "signing_credentials", away)
    with pytest.raises(UnavailableError):
        async with open_storage():
            raise AssertionError("it opened")


async def test_signature_is_tried_again(keyless, gcs: FakeGcs) -> None:
    async with keyless() as storage:
        gcs.faults.add(path=SIGN, status=503)
        assert (await storage.read_url(ReadUrl(key="a", expires_in_s=60))).url
    assert len(signatures(gcs)) == 2


async def test_account_that_may_not_sign_is_told_which_permission_it_lacks(keyless, gcs: FakeGcs) -> None:
    async with keyless() as storage:
        gcs.deny("iam.serviceAccounts.signBlob")
        with pytest.raises(AuthError) as caught:
            await storage.read_url(ReadUrl(key="a", expires_in_s=60))
    assert "iam.serviceAccounts.signBlob" in caught.value.message
    assert not caught.value.retryable


async def test_small_files_get_a_session_where_a_signature_costs_as_much(keyless) -> None:
    async with keyless() as storage:
        ticket = await storage.begin_upload(
            BeginUpload(key="a", content_type="video/mp4", size_bytes=3, protocols=("google-resumable", "signed-put"))
        )
        assert ticket.protocol == "google-resumable"


async def test_key_signs_here(storage, gcs: FakeGcs) -> None:
    await storage.read_url(ReadUrl(key="a", expires_in_s=60))
    assert signatures(gcs) == []


async def test_tokens_are_renewed(storage, gcs: FakeGcs, tmp_path) -> None:
    await put_bytes(storage, tmp_path, "a")
    gcs.revoke_tokens()
    assert (await storage.stat("a")).size_bytes == 7


async def test_sign_in_that_is_away_is_no_wrong_key(open_storage, gcs: FakeGcs) -> None:
    async with open_storage(deadline_s=2) as storage:
        gcs.faults.add(path="/token", status=503, times=100)
        with pytest.raises(UnavailableError):
            await storage.stat("a")


@pytest.mark.parametrize(
    ("credentials", "word"),
    [
        ("{", "no JSON key"),
        ("[]", "no JSON key"),
        ("{}", "no JSON key"),
        ('{"type": "service_account"}', "no JSON key"),
        ('{"type": "external_account"}', "external_account"),
    ],
)
async def test_what_is_no_key_is_told_at_the_start(open_storage, credentials: str, word: str) -> None:
    with pytest.raises(AuthError, match=word) as caught:
        async with open_storage(credentials=credentials):
            raise AssertionError("it opened")
    assert caught.value.code == "storage_credentials"
    assert caught.value.remedy


async def test_key_of_a_stranger_is_told(open_storage, gcs: FakeGcs) -> None:
    info = gcs.service_account_info() | {"client_email": "nobody@echo-test.iam.gserviceaccount.com"}
    async with open_storage(credentials=json.dumps(info)) as storage:
        with pytest.raises(AuthError) as caught:
            await storage.stat("a")
    assert caught.value.code == "storage_credentials"


async def test_machine_without_any_credentials_is_told_at_the_start(
    open_storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True)
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(AuthError, match="no credentials") as caught:
        async with open_storage(credentials=""):
            raise AssertionError("it opened")
    assert "credentials_file" in caught.value.remedy


def test_library_refreshes_with_a_timeout_of_ours() -> None:
    """Its own is two minutes."""
    from echo_storage_gcs.client import REFRESH_TIMEOUT_S

    assert google.auth.transport.requests._DEFAULT_TIMEOUT > 10 * REFRESH_TIMEOUT_S
