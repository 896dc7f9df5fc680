"""What ``echoctl doctor`` wants to know of a bucket: who may what, and does it work."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from echo_core.plugin_api import (
    AuthError,
    EchoError,
    PutFile,
    ReadObject,
    ReadUrl,
    StorageFinding,
    UnavailableError,
)
from echo_storage_gcs import setting_up
from echo_storage_gcs.errors import checksum_mismatch

if TYPE_CHECKING:
    from echo_storage_gcs.backend import GcsStorage

PROBE = b"echo doctor"
GRANT = (
    "Grant it: gcloud storage buckets add-iam-policy-binding gs://{bucket} --member=serviceAccount:{account} "
    "--role=roles/storage.objectUser"
)


async def examine(storage: GcsStorage, origins: Sequence[str]) -> Sequence[StorageFinding]:
    """One finding each; what cannot be found out says so and is no failure of its own."""
    return [
        await _finding("permissions", lambda: _permissions(storage)),
        await _finding("signing", lambda: _signing(storage)),
        await _finding("objects", lambda: _round_trip(storage)),
        await _finding("cors", lambda: _cors(storage, origins)),
    ]


async def _finding(name: str, look: Callable[[], Awaitable[StorageFinding]]) -> StorageFinding:
    try:
        return await look()
    except UnavailableError:
        raise
    except EchoError as error:
        return StorageFinding(name=name, ok=False, detail=error.message, remedy=error.remedy)


async def _permissions(storage: GcsStorage) -> StorageFinding:
    missing = await storage.calls.run(setting_up.missing_permissions, storage.bucket, storage.calls)
    if not missing:
        return StorageFinding(name="permissions", ok=True, detail="create, delete, get and list objects")
    account = storage.signer.credentials.signer_email
    return StorageFinding(
        name="permissions",
        ok=False,
        detail=f"{account} lacks {', '.join(missing)} on {storage.config.bucket}",
        remedy=GRANT.format(bucket=storage.config.bucket, account=account),
    )


async def _signing(storage: GcsStorage) -> StorageFinding:
    account = storage.signer.credentials.signer_email
    try:
        await storage.read_url(ReadUrl(key=_key(), expires_in_s=60))
    except AuthError as error:
        return StorageFinding(
            name="signing",
            ok=False,
            detail=f"no address can be signed as {account}: {error.message}",
            remedy="Let it sign in its own name: gcloud iam service-accounts add-iam-policy-binding "
            f"{account} --member=serviceAccount:{account} --role=roles/iam.serviceAccountTokenCreator",
        )
    return StorageFinding(name="signing", ok=True, detail=f"as {account}")


async def _round_trip(storage: GcsStorage) -> StorageFinding:
    key = _key()
    with tempfile.TemporaryDirectory(prefix="echo-doctor-") as folder:
        path = Path(folder) / "probe"
        path.write_bytes(PROBE)
        stored = await storage.put_file(PutFile(key=key, path=path, content_type="text/plain"))
    read = b""
    wanted = ReadObject(key=key, start=5, generation=stored.generation)
    async with aclosing(storage.open_read(wanted)) as pieces:
        async for piece in pieces:
            read += piece
    if read != PROBE[5:]:
        raise checksum_mismatch()
    await storage.delete(key)
    return StorageFinding(name="objects", ok=True, detail=f"written, read and deleted in {storage.config.bucket}")


async def _cors(storage: GcsStorage, origins: Sequence[str]) -> StorageFinding:
    try:
        plan = await storage.calls.run(setting_up.look, storage.bucket, origins, storage.calls)
    except AuthError:
        return StorageFinding(
            name="cors",
            ok=True,
            known=False,
            detail="not known: the account may not read the bucket's settings, which Echo does not need "
            "(storage.buckets.get)",
        )
    if not plan.lacking:
        return StorageFinding(name="cors", ok=True, detail=f"lets in {', '.join(origins)}")
    return StorageFinding(
        name="cors",
        ok=False,
        detail=f"missing in the bucket's CORS configuration: {'; '.join(plan.lacking)}",
        remedy="Run 'echoctl gcs setup --apply'.",
    )


def _key() -> str:
    return f"{setting_up.EXAMINATIONS}{uuid.uuid4()}"
