"""The conformance kit on an emulator that others wrote, for what it does as Google does.

Each skip names what it does otherwise (``SKIPS``); the fake of this repository covers those.
"""

import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from echo_storage_gcs.backend import GcsStorage, open_gcs_storage
from google.auth.credentials import AnonymousCredentials, Signing
from google.auth.crypt import RSASigner

from echo_core.testing.manual_clock import ManualClock
from echo_core.testing.storage_kit import StorageTests

from .conftest import BUCKET, context_of

SOURCE = "https://github.com/oittaa/gcp-storage-emulator/blob/main/src/gcp_storage_emulator"
OBJECTS = f"{SOURCE}/handlers/objects.py"
SERVER = f"{SOURCE}/server.py"
SKIPS = {
    r"test_s3_(put_file_never|the_same_bytes|of_many|key_that_was)": f"it does not know ifGenerationMatch: {OBJECTS}",
    r"test_s7_list|test_s7_cursor|test_s7_prefix.*\[(|a|a/|a/b)\]": f"it has no pages (maxResults): {OBJECTS}",
    r"test_s8_get_and_head": f"it does not answer HEAD: {SERVER}",
    r"test_s8_range\[bytes=-|test_s8_range_behind": f"it knows no suffix ranges and no 416: {SERVER}",
    r"test_s8_(etag|content_type|generation)": f"it reads no conditions and no response-… parameters: {OBJECTS}",
    r"test_s8_s9_changed": f"it checks no signature: {SERVER}",
    r"test_s9_chunks|test_s10_offset": f"of a session without a byte it says that it has one: {OBJECTS}",
    r"test_s9_bytes_sent_again": f"it refuses bytes that it has: {OBJECTS}",
    r"test_s9_(contradiction|longer|bound|signed_put)": f"it does not compare sizes: {OBJECTS}",
    r"test_s10_abort": f"its sessions cannot be cancelled: {SERVER}",
}


class Peer(AnonymousCredentials, Signing):
    """Nobody; whose signatures the emulator does not look at."""

    def __init__(self) -> None:
        super().__init__()
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._signer = RSASigner.from_string(pem)

    @property
    def signer(self) -> RSASigner:
        return self._signer

    @property
    def signer_email(self) -> str:
        return "nobody@peer.example"

    def sign_bytes(self, message: bytes) -> bytes:
        return self._signer.sign(message)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    program = Path(sys.executable).with_name("gcp-storage-emulator")
    log = tmp_path_factory.mktemp("peer") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, "start", "--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={BUCKET}"],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(200):
                try:
                    httpx2.get(url, timeout=1)
                    break
                except httpx2.TransportError:
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait(10)


class TestPeer(StorageTests):
    @pytest.fixture(autouse=True)
    def what_it_does_otherwise(self, request: pytest.FixtureRequest) -> None:
        for pattern, why in SKIPS.items():
            if re.match(pattern, request.node.name):
                pytest.skip(why)

    @pytest.fixture
    async def storage(self, peer: str, tmp_path: Path) -> AsyncIterator[GcsStorage]:
        context = context_of(ManualClock(), tmp_path, endpoint=peer)
        async with open_gcs_storage(context, Peer()) as storage:
            for blob in storage.bucket.client.list_blobs(storage.bucket):
                blob.delete()
            yield storage
