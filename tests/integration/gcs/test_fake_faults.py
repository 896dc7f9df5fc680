"""What the fake does wrong on demand."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption

from tests.fakes.gcs.server import FakeGcs

BUCKET = "echo-videos"
UNIT = 256 * 1024
WHOLE = b"0123456789abcdef" * (3 * UNIT // 16)


def put(http: httpx2.Client, uri: str, first: int, end: int) -> httpx2.Response:
    headers = {"Content-Range": f"bytes {first}-{end - 1}/{len(WHOLE)}"}
    return http.put(uri, content=WHOLE[first:end], headers=headers)


def probe(http: httpx2.Client, uri: str) -> httpx2.Response:
    return http.put(uri, headers={"Content-Range": "bytes */*"})


@pytest.fixture
def uri(bucket: storage.Bucket) -> str:
    return str(bucket.blob("video").create_resumable_upload_session(size=len(WHOLE)))


def test_a_status_and_the_retry_of_the_client(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    gcs.faults.add(method="GET", path="/o/", status=503, retry_after=0)
    gcs.put_object(BUCKET, "a", b"1")
    blob = bucket.blob("a")
    blob.reload()
    assert [request.status for request in gcs.log if "/o/a" in request.path] == [503, 200]
    gcs.faults.add(method="GET", path="/o/", status=503, body={"error": {"code": 503, "message": "told"}})
    with pytest.raises(ServiceUnavailable, match="told"):
        blob.reload(retry=None)
    assert not gcs.faults.pending()


def test_which_requests_are_meant(gcs: FakeGcs, http: httpx2.Client, sign: Any) -> None:
    gcs.put_object(BUCKET, "a", b"1")
    url = sign("GET", "a")
    gcs.faults.add(path_regex=r"/a\?", nth=2, times=2, status=429)
    gcs.faults.add(method="PUT", status=500)
    answers = [http.get(url) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 200]
    assert "<Code>SlowDown</Code>" in answers[1].text


def test_lost_requests_and_lost_answers(gcs: FakeGcs, http: httpx2.Client, uri: str) -> None:
    gcs.faults.add(method="PUT", drop=True)
    with pytest.raises(httpx2.TransportError):
        put(http, uri, 0, UNIT)
    assert "range" not in probe(http, uri).headers
    gcs.faults.add(method="PUT", drop_response=True)
    with pytest.raises(httpx2.TransportError):
        put(http, uri, 0, len(WHOLE))
    assert gcs.objects(BUCKET)["video"].read() == WHOLE
    assert probe(http, uri).status_code == 200


def test_a_page_may_read_what_goes_wrong(gcs: FakeGcs, http: httpx2.Client, sign: Any) -> None:
    gcs.put_object(BUCKET, "a", WHOLE)
    gcs.faults.add(path="/a", status=503, retry_after=7)
    answer = http.get(sign("GET", "a"), headers={"Origin": "https://echo.example"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.headers["access-control-allow-origin"] == "https://echo.example"


def test_another_request_takes_an_upload_over(gcs: FakeGcs, http: httpx2.Client, uri: str) -> None:
    answers = []

    def slow() -> Any:
        yield WHOLE[: UNIT + 5]
        while "range" not in probe(other, uri).headers:
            pass
        answers.append(put(other, uri, UNIT, 2 * UNIT))
        yield WHOLE[UNIT + 5 :]

    with httpx2.Client() as other:
        headers = {"Content-Range": f"bytes 0-{len(WHOLE) - 1}/{len(WHOLE)}"}
        assert http.put(uri, content=slow(), headers=headers).status_code == 503
    assert [answer.status_code for answer in answers] == [308]
    assert put(http, uri, 2 * UNIT, len(WHOLE)).status_code == 200
    assert gcs.objects(BUCKET)["video"].read() == WHOLE


def test_less_is_kept(gcs: FakeGcs, http: httpx2.Client, uri: str) -> None:
    gcs.faults.add(method="PUT", keep_bytes=UNIT)
    short = put(http, uri, 0, len(WHOLE))
    assert (short.status_code, short.headers["range"]) == (308, f"bytes=0-{UNIT - 1}")
    gcs.faults.add(method="PUT", fail_after=UNIT)
    assert put(http, uri, UNIT, len(WHOLE)).status_code == 503
    assert probe(http, uri).headers["range"] == f"bytes=0-{2 * UNIT - 1}"
    gcs.faults.add(method="PUT", fail_after=100)
    assert put(http, uri, 2 * UNIT, len(WHOLE)).status_code == 503
    assert probe(http, uri).headers["range"] == f"bytes=0-{2 * UNIT - 1}"
    assert put(http, uri, 2 * UNIT, len(WHOLE)).status_code == 200
    assert gcs.objects(BUCKET)["video"].read() == WHOLE


def test_an_upload_that_breaks_off_leaves_whole_units(gcs: FakeGcs, http: httpx2.Client, uri: str) -> None:
    sent = threading.Event()

    def broken() -> Any:
        yield WHOLE[: UNIT + 1000]
        sent.set()
        raise ConnectionError

    with pytest.raises(ConnectionError):
        http.put(uri, content=broken(), headers={"Content-Range": f"bytes 0-{len(WHOLE) - 1}/{len(WHOLE)}"})
    assert sent.is_set()
    while not (kept := probe(http, uri).headers.get("range")):
        pass
    assert kept == f"bytes=0-{UNIT - 1}"
    assert put(http, uri, UNIT, len(WHOLE)).status_code == 200
    assert gcs.objects(BUCKET)["video"].read() == WHOLE


def test_broken_downloads(gcs: FakeGcs, http: httpx2.Client, sign: Any, bucket: storage.Bucket) -> None:
    gcs.put_object(BUCKET, "a", WHOLE)
    url = sign("GET", "a")
    gcs.faults.add(path="/a", truncate=1000)
    got = bytearray()
    with http.stream("GET", url) as answer, pytest.raises(httpx2.RemoteProtocolError):
        any(got.extend(block) for block in answer.iter_bytes())
    assert got == WHOLE[:1000]
    gcs.faults.add(path="/a", corrupt=True)
    wrong = http.get(url).content
    assert [at for at, (left, right) in enumerate(zip(wrong, WHOLE, strict=True)) if left != right] == [len(WHOLE) // 2]
    gcs.faults.add(path="/o/a", corrupt=True)
    with pytest.raises(DataCorruption):
        bucket.blob("a").download_as_bytes()


def test_an_upload_that_is_stored_wrong(gcs: FakeGcs, bucket: storage.Bucket) -> None:
    gcs.faults.add(method="POST", path="/upload/", corrupt=True)
    blob = bucket.blob("a")
    blob.upload_from_string(b"123456789")
    assert blob.crc32c == "AAAAAA=="
    with pytest.raises(DataCorruption):
        blob.download_as_bytes(checksum="crc32c")


@pytest.mark.parametrize("status", [404, 410])
def test_a_session_is_gone(gcs: FakeGcs, http: httpx2.Client, uri: str, status: int) -> None:
    assert put(http, uri, 0, UNIT).status_code == 308
    gcs.faults.add(method="PUT", path="upload_id", session_gone=status)
    assert put(http, uri, UNIT, 2 * UNIT).status_code == status
    assert probe(http, uri).status_code == status


def test_a_request_hangs_until_reset(gcs: FakeGcs, http: httpx2.Client, sign: Any) -> None:
    gcs.put_object(BUCKET, "a", b"1")
    url = sign("GET", "a")
    gcs.faults.add(path="/a", hang=True)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(http.get, url)
        while not any(request.fault for request in gcs.log):
            pass
        assert not hanging.done()
        gcs.reset()
        with pytest.raises(httpx2.TransportError):
            hanging.result()


def test_a_delay_and_what_is_no_fault(gcs: FakeGcs, http: httpx2.Client, sign: Any) -> None:
    gcs.put_object(BUCKET, "a", b"1")
    gcs.faults.add(delay_s=0.01)
    assert http.get(sign("GET", "a")).status_code == 200
    with pytest.raises(TypeError):
        gcs.faults.add(explode=True)
    assert http.post(f"{gcs.url}/__faults", json={"explode": True}).status_code == 400
