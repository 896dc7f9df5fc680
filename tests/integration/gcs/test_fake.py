"""The fake of Google Cloud Storage, driven by Google's own client and by bare HTTP."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import google_crc32c
import httpx2
import pytest
from google.api_core.exceptions import Forbidden, NotFound, PreconditionFailed
from google.cloud import storage

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


def test_upload_from_a_large_file_is_resumable(gcs: FakeGcs, bucket: storage.Bucket, tmp_path: Any) -> None:
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
