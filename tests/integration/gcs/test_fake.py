"""The fake of Google Cloud Storage, driven by Google's own client and by bare HTTP."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import google_crc32c
import httpx2
import pytest
from google.api_core.exceptions import Conflict, Forbidden, NotFound, PreconditionFailed
from google.cloud import storage
from google.cloud.storage import transfer_manager

from tests.fakes.gcs.server import FakeGcs

BUCKET = "echo-videos"
UNIT = 256 * 1024


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def test_uploads_reads_and_deletes(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    blob = bucket.blob("uploads/ä b/source #1.mp4")
    blob.metadata = {"by": "ada"}
    blob.upload_from_string(b"0123456789", content_type="video/mp4", if_generation_match=0)
    blob.reload()
    assert (blob.size, blob.content_type, blob.crc32c) == (10, "video/mp4", crc32c(b"0123456789"))
    assert base64.b64decode(blob.md5_hash) == hashlib.md5(b"0123456789", usedforsecurity=False).digest()
    assert blob.metadata == {"by": "ada"}
    stored = gcs.objects(BUCKET)[blob.name]
    assert blob.generation == stored.generation
    assert blob.download_as_bytes() == b"0123456789"
    assert blob.download_as_bytes(start=2, end=4) == b"234"
    assert bucket.blob(blob.name, generation=blob.generation).download_as_bytes() == b"0123456789"
    with pytest.raises(NotFound):
        bucket.blob(blob.name, generation=1).download_as_bytes()
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=1)
    blob.delete(if_generation_match=blob.generation)
    assert not gcs.objects(BUCKET)
    with pytest.raises(NotFound):
        blob.delete()


def test_upload_from_a_large_file_is_resumable(gcs: FakeGcs, bucket: storage.Bucket, tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    path.write_bytes(bytes(range(256)) * 4 * 9 * 1024)
    blob = bucket.blob("large")
    blob.chunk_size = 2 * 1024 * 1024
    blob.upload_from_filename(str(path), content_type="video/mp4", if_generation_match=0)
    assert [request.status for request in gcs.log if request.method == "PUT"] == [308, 308, 308, 308, 200]
    assert gcs.objects(BUCKET)["large"].read() == path.read_bytes()
    assert blob.crc32c == crc32c(path.read_bytes())


def test_an_existing_name_is_not_overwritten(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    gcs.put_object(BUCKET, "taken", b"first")
    with pytest.raises(PreconditionFailed):
        bucket.blob("taken").upload_from_string(b"second", if_generation_match=0)
    gcs.deny("storage.objects.delete")
    with pytest.raises(Forbidden, match=r"does not have storage\.objects\.delete access"):
        bucket.blob("taken").upload_from_string(b"second")
    assert gcs.objects(BUCKET)["taken"].read() == b"first"
    gcs.allow("storage.objects.delete")
    bucket.blob("taken").upload_from_string(b"second")
    assert gcs.objects(BUCKET)["taken"].read() == b"second"


def test_lists_in_pages_that_survive_deletes(gcs: FakeGcs, client: storage.Client, bucket: storage.Bucket) -> None:
    names = ["a/1", "a/2", "a/3", "b/1", "b/ä", "b/\U0001f600", "b/\uffee"]
    for name in names:
        gcs.put_object(BUCKET, name, b"x")
    assert [blob.name for blob in client.list_blobs(BUCKET, page_size=2)] == sorted(names, key=str.encode)
    assert [blob.name for blob in client.list_blobs(BUCKET, prefix="a/", start_offset="a/2")] == ["a/2", "a/3"]
    listing = client.list_blobs(BUCKET, delimiter="/")
    assert list(listing) == []
    assert listing.prefixes == {"a/", "b/"}
    seen = []
    for page in client.list_blobs(BUCKET, page_size=2).pages:
        for blob in page:
            seen.append(blob.name)
            gcs.delete_object(BUCKET, blob.name)
    assert seen == sorted(names, key=str.encode)


def test_signed_get(gcs: FakeGcs, sign: Any, http: httpx2.Client) -> None:
    stored = gcs.put_object(BUCKET, "v/ü (1)+2&3=4.mp4", b"0123456789")
    url = sign(
        "GET",
        stored.name,
        generation=stored.generation,
        response_disposition='attachment; filename="a b.mp4"',
        response_type="video/x-echo",
    )
    answer = http.get(url)
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["x-goog-generation"] == str(stored.generation)
    assert answer.headers["x-goog-stored-content-length"] == "10"
    assert f"crc32c={stored.crc32c}" in answer.headers["x-goog-hash"]
    assert answer.headers["content-disposition"] == 'attachment; filename="a b.mp4"'
    assert answer.headers["content-type"] == "video/x-echo"
    assert answer.headers["accept-ranges"] == "bytes"
    part = http.get(url, headers={"Range": "bytes=-3"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"789", "bytes 7-9/10")
    wrong = http.get(url, headers={"Range": "bytes=10-"})
    assert (wrong.status_code, wrong.headers["content-range"]) == (416, "bytes */10")
    assert http.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert http.get(url, headers={"If-Match": '"other"'}).status_code == 412
    changed = {"Range": "bytes=0-1", "If-Range": '"other"'}
    assert http.get(url, headers=changed).status_code == 200
    assert http.get(url, headers={**changed, "If-Range": answer.headers["etag"]}).status_code == 206
    gcs.put_object(BUCKET, stored.name, b"another generation")
    gone = http.get(url)
    assert gone.status_code == 404
    assert "<Code>NoSuchKey</Code>" in gone.text


def test_signatures_are_verified(gcs: FakeGcs, sign: Any, http: httpx2.Client) -> None:
    gcs.put_object(BUCKET, "a", b"1")
    gcs.put_object(BUCKET, "b", b"2")
    url = sign("GET", "a")
    assert http.get(url).status_code == 200
    for wrong in (url.replace(f"/{BUCKET}/a", f"/{BUCKET}/b"), url + "&generation=1", url[:-2] + "00"):
        answer = http.get(wrong)
        assert answer.status_code == 403
        assert "<Code>SignatureDoesNotMatch</Code>" in answer.text
    assert http.head(url).status_code == 403
    assert http.get(url, headers={"x-goog-meta-a": "unsigned"}).status_code == 403
    gcs.advance(601)
    late = http.get(url)
    assert late.status_code == 400
    assert "<Code>ExpiredToken</Code>" in late.text


def test_metadata_changes(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    stored = gcs.put_object(BUCKET, "a", b"1")
    blob = bucket.get_blob("a")
    blob.metadata, blob.cache_control = {"a": "1"}, "no-store"
    blob.patch(if_metageneration_match=1)
    assert (blob.metageneration, blob.generation, blob.metadata) == (2, stored.generation, {"a": "1"})
    with pytest.raises(PreconditionFailed):
        blob.patch(if_metageneration_match=1)
    assert bucket.get_blob("a").cache_control == "no-store"
    assert bucket.get_blob("b") is None
    with pytest.raises(PreconditionFailed):
        bucket.get_blob("a", if_generation_match=1)


def test_buckets(gcs: FakeGcs, client: storage.Client) -> None:
    bucket = client.create_bucket("another-bucket")
    bucket.cors = [{"origin": ["https://a.example"], "method": ["PUT"], "responseHeader": ["Range"]}]
    bucket.versioning_enabled = True
    bucket.soft_delete_policy.retention_duration_seconds = 0
    bucket.add_lifecycle_delete_rule(age=1)
    bucket.patch()
    again = client.get_bucket("another-bucket")
    assert (again.cors, again.versioning_enabled) == (bucket.cors, True)
    assert (again.soft_delete_policy.retention_duration_seconds, len(list(again.lifecycle_rules))) == (0, 1)
    assert again.iam_configuration.uniform_bucket_level_access_enabled
    with pytest.raises(Conflict):
        client.create_bucket("another-bucket")
    again.delete()
    assert client.lookup_bucket("another-bucket") is None


def test_compose_and_rewrite(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    for name in "abc":
        gcs.put_object(BUCKET, name, name.encode() * 1000)
    composed = bucket.blob("composed")
    composed.compose([bucket.blob(name) for name in "abc"], if_generation_match=0)
    composed.reload()
    whole = b"a" * 1000 + b"b" * 1000 + b"c" * 1000
    assert (composed.md5_hash, composed.component_count, composed.crc32c) == (None, 3, crc32c(whole))
    assert composed.download_as_bytes() == whole
    with pytest.raises(PreconditionFailed):
        composed.compose([bucket.blob("a")], if_generation_match=0)
    copy = bucket.blob("copy")
    token, rewritten, total = copy.rewrite(composed, if_generation_match=0)
    assert (token, rewritten, total) == (None, 3000, 3000)
    assert gcs.objects(BUCKET)["copy"].read() == whole
    assert bucket.copy_blob(bucket.blob("a"), bucket, "second").size == 1000
    with pytest.raises(NotFound):
        copy.rewrite(bucket.blob("missing"))


def test_rewrites_by_token(gcs: FakeGcs, client: storage.Client, bucket: storage.Bucket) -> None:
    gcs.put_object(BUCKET, "a", b"0123456789")
    path, token, calls = f"/b/{BUCKET}/o/a/rewriteTo/b/{BUCKET}/o/b", None, []
    while not calls or not calls[-1]["done"]:
        query = {"maxBytesRewrittenPerCall": 4} | ({"rewriteToken": token} if token else {})
        calls.append(client._post_resource(path, {}, query_params=query))
        token = calls[-1].get("rewriteToken")
    assert [call["totalBytesRewritten"] for call in calls] == ["4", "8", "10"]
    assert gcs.objects(BUCKET)["b"].read() == b"0123456789"


def test_transfer_manager(gcs: FakeGcs, bucket: storage.Bucket, tmp_path: Path) -> None:
    whole = bytes(range(256)) * 4096
    gcs.put_object(BUCKET, "a", whole)
    transfer_manager.download_chunks_concurrently(
        bucket.blob("a"),
        str(tmp_path / "a"),
        chunk_size=300_000,
        worker_type=transfer_manager.THREAD,
        max_workers=2,
    )
    assert (tmp_path / "a").read_bytes() == whole


def test_promised_hashes(gcs: FakeGcs, http: httpx2.Client, client: storage.Client, bucket: storage.Bucket) -> None:
    bucket.reload()
    token = {"Authorization": f"Bearer {client._credentials.token}"}
    url = f"{gcs.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=a"
    for wrong in ({"x-goog-hash": "crc32c=AAAAAA=="}, {"x-goog-hash": "crc32c=4waSgw==,md5=AAAA"}):
        assert http.post(url, content=b"123456789", headers={**token, **wrong}).status_code == 400
    assert not gcs.objects(BUCKET)
    right = {"x-goog-hash": "crc32c=4waSgw=="}
    assert http.post(url, content=b"123456789", headers={**token, **right}).json()["crc32c"] == "4waSgw=="
    page = f"{gcs.url}/storage/v1/b/{BUCKET}/o/a?alt=media"
    for asked, status, content_range in (
        ("bytes=2-4", 206, "bytes 2-4/9"),
        ("bytes=-2", 206, "bytes 7-8/9"),
        ("bytes=-100", 206, "bytes 0-8/9"),
        ("bytes=4-100", 206, "bytes 4-8/9"),
        ("bytes=9-", 416, "bytes */9"),
        ("bytes=-0", 416, "bytes */9"),
        ("bytes=4-2", 200, None),
        ("lines=1-2", 200, None),
    ):
        answer = http.get(page, headers={**token, "Range": asked})
        assert (asked, answer.status_code, answer.headers.get("content-range")) == (asked, status, content_range)


def test_zeros_take_no_room(gcs: FakeGcs, bucket: storage.Bucket, tmp_path: Path) -> None:
    size = 64 * 1024 * 1024
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(size)
    bucket.blob("sparse").upload_from_filename(str(tmp_path / "sparse"))
    stored = gcs.objects(BUCKET)["sparse"]
    assert (stored.size, stored.path.stat().st_size) == (size, size)
    assert stored.path.stat().st_blocks * 512 < UNIT
