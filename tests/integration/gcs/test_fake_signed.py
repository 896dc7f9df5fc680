"""Signed URLs of the fake: writing, resumable starts, conditions in signed headers, CORS."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import quote

import google_crc32c
import httpx2
import pytest
from google.cloud import storage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.gcs.server import FakeGcs

BUCKET = "echo-videos"
ORIGIN = "https://echo.example"
DATA = b"0123456789" * 100
CRC32C = base64.b64encode(google_crc32c.Checksum(DATA).digest()).decode()
MD5 = base64.b64encode(hashlib.md5(DATA, usedforsecurity=False).digest()).decode()


def test_put(gcs: FakeGcs, sign: Any, http: httpx2.Client) -> None:
    headers = {"x-goog-if-generation-match": "0", "x-goog-content-length-range": "10,1000", "Content-Type": "video/mp4"}
    url = sign("PUT", "a", headers=dict(headers))
    done = http.put(url, content=DATA, headers=headers)
    stored = gcs.objects(BUCKET)["a"]
    assert (done.status_code, done.headers["x-goog-generation"]) == (200, str(stored.generation))
    assert (stored.read(), stored.content_type) == (DATA, "video/mp4")
    again = http.put(url, content=DATA, headers=headers)
    assert again.status_code == 412
    assert "<Code>PreconditionFailed</Code>" in again.text
    for name in headers:
        less = {key: value for key, value in headers.items() if key != name}
        assert http.put(url, content=DATA, headers=less).status_code == 403
        assert http.put(url, content=DATA, headers={**headers, name: "1"}).status_code == 403
    assert gcs.objects(BUCKET)["a"].generation == stored.generation


@pytest.mark.parametrize(("length", "code"), [(1001, "EntityTooLarge"), (9, "EntityTooSmall")])
@pytest.mark.parametrize("how", ["PUT", "streamed", "RESUMABLE"])
def test_sizes_out_of_range(gcs: FakeGcs, sign: Any, http: httpx2.Client, how: str, length: int, code: str) -> None:
    headers = {"x-goog-content-length-range": "10,1000"}
    if how == "RESUMABLE":
        start = http.post(
            sign("RESUMABLE", "a", headers=dict(headers)), headers={**headers, "x-goog-resumable": "start"}
        )
        answer = http.put(start.headers["location"], content=b"x" * length)
    else:
        url = sign("PUT", "a", headers=dict(headers))
        answer = http.put(url, content=b"x" * length if how == "PUT" else iter([b"x"] * length), headers=headers)
    assert answer.status_code == 400
    assert f"<Code>{code}</Code>" in answer.text
    assert not gcs.objects(BUCKET)
    assert not gcs.sessions()


@pytest.mark.parametrize(
    ("header", "right"), [("x-goog-hash", f"crc32c={CRC32C}"), ("x-goog-hash", f"md5={MD5}"), ("Content-MD5", MD5)]
)
def test_hashes(gcs: FakeGcs, sign: Any, http: httpx2.Client, header: str, right: str) -> None:
    headers = {header: right}
    url = sign("PUT", "a", headers=dict(headers))
    assert http.put(url, content=DATA + b"x", headers=headers).status_code == 400
    assert not gcs.objects(BUCKET)
    assert http.put(url, content=DATA, headers=headers).status_code == 200


def test_resumable_start(gcs: FakeGcs, sign: Any, http: httpx2.Client) -> None:
    headers = {"x-goog-if-generation-match": "0", "Content-Type": "video/mp4"}
    start = http.post(
        sign("RESUMABLE", "ü/a b", headers=dict(headers)),
        headers={**headers, "x-goog-resumable": "start", "Origin": ORIGIN},
    )
    assert start.status_code == 201
    assert start.headers["access-control-allow-origin"] == ORIGIN
    assert "Location" in start.headers["access-control-expose-headers"].split(", ")
    done = http.put(start.headers["location"], content=DATA, headers={"Origin": ORIGIN})
    assert (done.status_code, done.content) == (200, b"")
    assert done.headers["access-control-allow-origin"] == ORIGIN
    assert gcs.objects(BUCKET)["ü/a b"].content_type == "video/mp4"
    assert done.headers["x-goog-generation"] == str(gcs.objects(BUCKET)["ü/a b"].generation)


def test_head_and_delete(gcs: FakeGcs, sign: Any, http: httpx2.Client) -> None:
    gcs.put_object(BUCKET, "a", DATA)
    head = http.head(sign("HEAD", "a"))
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "1000", b"")
    wrong = sign("DELETE", "a", headers={"x-goog-if-generation-match": "1"})
    assert http.delete(wrong, headers={"x-goog-if-generation-match": "1"}).status_code == 412
    gcs.deny("storage.objects.delete")
    denied = http.delete(sign("DELETE", "a"))
    assert denied.status_code == 403
    assert "<Code>AccessDenied</Code>" in denied.text
    gcs.allow("storage.objects.delete")
    assert http.delete(sign("DELETE", "a")).status_code == 204
    assert http.delete(sign("DELETE", "a")).status_code == 404
    assert http.head(sign("HEAD", "a")).status_code == 404


def test_who_may_sign_and_for_how_long(gcs: FakeGcs, sign: Any, http: httpx2.Client) -> None:
    gcs.put_object(BUCKET, "a", DATA)
    url = sign("GET", "a", expiration=604800)
    assert http.get(url).status_code == 200
    assert http.get(url.replace("X-Goog-Expires=604800", "X-Goog-Expires=604801")).status_code == 400
    assert http.get(url.replace(quote(gcs.email, safe=""), "somebody%40example.org")).status_code == 403
    assert http.get(url.split("?")[0]).status_code == 403
    for host in ("localhost", "127.0.0.1"):
        other = url.replace("127.0.0.1", host)
        assert http.get(other).status_code == (200 if host == "127.0.0.1" else 403)
    token = {"Authorization": "Bearer ya29.unknown"}
    assert http.get(url.split("?")[0], headers=token).status_code == 401


def test_cors_of_the_bucket(gcs: FakeGcs, sign: Any, http: httpx2.Client, bucket: storage.Bucket) -> None:
    gcs.put_object(BUCKET, "a", DATA)
    url = sign("GET", "a")
    answer = http.get(url, headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "ETag" in answer.headers["access-control-expose-headers"].split(", ")
    assert "access-control-allow-origin" not in http.get(url, headers={"Origin": "https://other.example"}).headers
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}
    assert http.options(url, headers=asks).headers["access-control-allow-origin"] == ORIGIN
    by_json = http.get(f"{gcs.url}/storage/v1/b/{BUCKET}/o/a", headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in by_json.headers
    before = bucket.client.get_bucket(BUCKET).cors
    bucket.cors = [{"origin": ["*"], "method": ["GET"]}]
    bucket.patch()
    assert http.get(url, headers={"Origin": "https://other.example"}).headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in http.options(url, headers=asks).headers
    bucket.cors = before
    bucket.patch()


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30).filter(
    lambda name: not name.startswith("/") and name not in {".", ".."} and "/." not in f"/{name}"
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, disposition=NAMES, data=st.binary(max_size=50))
def test_any_name_can_be_signed(
    gcs: FakeGcs, sign: Any, http: httpx2.Client, bucket: storage.Bucket, name: str, disposition: str, data: bytes
) -> None:
    assert http.put(sign("PUT", name), content=data).status_code == 200
    assert gcs.objects(BUCKET)[name].read() == data
    assert http.get(sign("GET", name, response_disposition=disposition)).content == data
    assert bucket.blob(name).download_as_bytes() == data
