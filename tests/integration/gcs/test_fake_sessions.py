"""Resumable uploads of the fake: the protocol as Google documents it, and what it refuses."""

from __future__ import annotations

import io
import itertools
from typing import Any

import httpx2
import pytest
import requests
from google.cloud import storage
from google.resumable_media import InvalidResponse
from google.resumable_media.requests import ResumableUpload
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.gcs.server import FakeGcs

BUCKET = "echo-videos"
ORIGIN = "https://echo.example"
UNIT = 256 * 1024
WHOLE = bytes(itertools.islice(itertools.cycle(range(251)), 3 * UNIT + 17))
TOTAL = len(WHOLE)


@pytest.fixture
def uri(bucket: storage.Bucket) -> str:
    return str(
        bucket.blob("video").create_resumable_upload_session(
            content_type="video/mp4", size=TOTAL, origin=ORIGIN, if_generation_match=0
        )
    )


def put(http: httpx2.Client, uri: str, first: int, end: int, total: Any = TOTAL, **headers: str) -> httpx2.Response:
    headers = {"Content-Range": f"bytes {first}-{end - 1}/{total}", **headers}
    return http.put(uri, content=WHOLE[first:end], headers=headers)


def probe(http: httpx2.Client, uri: str, total: Any = "*") -> httpx2.Response:
    return http.put(uri, headers={"Content-Range": f"bytes */{total}"})


def test_chunks_and_probes(gcs: FakeGcs, http: httpx2.Client, uri: str) -> None:
    nothing = probe(http, uri)
    assert (nothing.status_code, nothing.headers.get("range")) == (308, None)
    first = put(http, uri, 0, UNIT)
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{UNIT - 1}")
    again = put(http, uri, 0, 2 * UNIT)
    assert (again.status_code, again.headers["range"]) == (308, f"bytes=0-{2 * UNIT - 1}")
    assert probe(http, uri, TOTAL).headers["range"] == f"bytes=0-{2 * UNIT - 1}"
    assert "video" not in gcs.objects(BUCKET)
    last = put(http, uri, 2 * UNIT, TOTAL)
    assert (last.status_code, last.json()["size"]) == (200, str(TOTAL))
    assert gcs.objects(BUCKET)["video"].read() == WHOLE
    for resent in (probe(http, uri), probe(http, uri, TOTAL), put(http, uri, 2 * UNIT, TOTAL)):
        assert (resent.status_code, resent.json()) == (200, last.json())
    assert not gcs.sessions()


def test_one_piece_without_content_range(gcs: FakeGcs, http: httpx2.Client, uri: str) -> None:
    assert http.put(uri, content=WHOLE).status_code == 200
    assert gcs.objects(BUCKET)["video"].read() == WHOLE


def test_an_empty_object(gcs: FakeGcs, http: httpx2.Client, bucket: storage.Bucket) -> None:
    uri = bucket.blob("empty").create_resumable_upload_session(size=0)
    assert probe(http, uri, 0).status_code == 200
    assert gcs.objects(BUCKET)["empty"].read() == b""


@pytest.mark.parametrize("known", [True, False])
def test_a_probe_of_the_exact_size_completes(
    gcs: FakeGcs, http: httpx2.Client, bucket: storage.Bucket, known: bool
) -> None:
    uri = bucket.blob("exact").create_resumable_upload_session(size=2 * UNIT if known else None)
    assert put(http, uri, 0, UNIT, "*").status_code == 308
    assert put(http, uri, UNIT, 2 * UNIT, "*").status_code == 308
    assert probe(http, uri).status_code == 308
    assert probe(http, uri, 2 * UNIT).status_code == 200
    assert gcs.objects(BUCKET)["exact"].read() == WHOLE[: 2 * UNIT]


def test_what_is_refused_stores_nothing(http: httpx2.Client, uri: str) -> None:
    assert put(http, uri, 0, UNIT).status_code == 308
    two = UNIT + UNIT

    def streamed(length: int) -> Any:
        yield from (b"x" * 1000 for _ in range(length // 1000))
        yield b"x" * (length % 1000)

    wrong = {
        "a gap": (put(http, uri, two, two + UNIT), 503),
        "not a multiple": (put(http, uri, UNIT, two - 1), 400),
        "another size": (put(http, uri, UNIT, two, TOTAL + 1), 400),
        "beyond the size": (put(http, uri, UNIT, two, UNIT + 5), 400),
        "more than declared": (
            http.put(uri, content=b"x" * 4 * UNIT, headers={"Content-Range": f"bytes {UNIT}-{5 * UNIT - 1}/*"}),
            400,
        ),
        "malformed": (http.put(uri, content=b"x", headers={"Content-Range": "bytes 5-/7"}), 400),
        "backwards": (http.put(uri, content=b"x", headers={"Content-Range": f"bytes 9-3/{TOTAL}"}), 400),
        "another length": (
            http.put(uri, content=b"x" * UNIT, headers={"Content-Range": f"bytes {UNIT}-{3 * UNIT - 1}/{TOTAL}"}),
            400,
        ),
        "a longer body": (
            http.put(uri, content=streamed(two), headers={"Content-Range": f"bytes {UNIT}-{two - 1}/{TOTAL}"}),
            400,
        ),
        "a shorter body": (
            http.put(uri, content=streamed(UNIT), headers={"Content-Range": f"bytes {UNIT}-{3 * UNIT - 1}/{TOTAL}"}),
            400,
        ),
        "a whole that is too long": (http.put(uri, content=streamed(TOTAL + 1)), 400),
        "a probe with a body": (http.put(uri, content=b"x", headers={"Content-Range": "bytes */*"}), 400),
        "a probe of another size": (probe(http, uri, TOTAL + 1), 400),
    }
    assert {what: (answer.status_code, status) for what, (answer, status) in wrong.items()} == {
        what: (status, status) for what, (_, status) in wrong.items()
    }
    assert probe(http, uri).headers["range"] == f"bytes=0-{UNIT - 1}"
    assert put(http, uri, UNIT, TOTAL).status_code == 200


def test_the_precondition_is_of_the_end(gcs: FakeGcs, http: httpx2.Client, uri: str) -> None:
    gcs.put_object(BUCKET, "video", b"meanwhile")
    assert put(http, uri, 0, UNIT).status_code == 308
    assert put(http, uri, UNIT, TOTAL).status_code == 412
    assert probe(http, uri).status_code == 404
    assert gcs.objects(BUCKET)["video"].read() == b"meanwhile"
    assert not gcs.sessions()


def test_hashes_of_the_last_request_are_verified(gcs: FakeGcs, http: httpx2.Client, uri: str) -> None:
    assert put(http, uri, 0, UNIT).status_code == 308
    assert put(http, uri, UNIT, TOTAL, **{"x-goog-hash": "crc32c=AAAAAA=="}).status_code == 400
    assert not gcs.objects(BUCKET)


def test_sessions_end(gcs: FakeGcs, http: httpx2.Client, uri: str, bucket: storage.Bucket) -> None:
    assert put(http, uri, 0, UNIT).status_code == 308
    assert http.delete(uri).status_code == 499
    assert probe(http, uri).status_code == 404
    assert http.delete(uri).status_code == 404
    assert probe(http, uri + "0").status_code == 404
    old = bucket.blob("old").create_resumable_upload_session()
    gcs.advance(7 * 24 * 3600 + 1)
    assert probe(http, old).status_code == 410
    assert not gcs.sessions()


def test_the_origin_of_the_start_is_honoured(http: httpx2.Client, uri: str, bucket: storage.Bucket) -> None:
    answer = put(http, uri, 0, UNIT, Origin=ORIGIN)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert {"Range", "x-goog-generation"} <= set(answer.headers["access-control-expose-headers"].split(", "))
    other = put(http, uri, UNIT, 2 * UNIT, Origin="https://other.example")
    assert other.headers["access-control-allow-origin"] == ORIGIN
    without = bucket.blob("without").create_resumable_upload_session()
    assert "access-control-allow-origin" not in put(http, without, 0, UNIT, "*", Origin=ORIGIN).headers
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-range"}
    allowed = http.options(uri, headers=asks)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "PUT" in allowed.headers["access-control-allow-methods"].split(",")
    assert "Content-Range" in allowed.headers["access-control-allow-headers"].split(",")
    for name, value in (("Origin", "https://other.example"), ("Access-Control-Request-Method", "PATCH")):
        refused = http.options(uri, headers={**asks, name: value})
        assert refused.status_code == 200
        assert not [header for header in refused.headers if header.startswith("access-control")]


def test_google_resumable_media(gcs: FakeGcs, bucket: storage.Bucket, http: httpx2.Client) -> None:
    uri = bucket.blob("media").create_resumable_upload_session(size=TOTAL)
    upload = ResumableUpload(uri, UNIT)
    stream = io.BytesIO(WHOLE)
    upload._resumable_url, upload._stream, upload._total_bytes = uri, stream, TOTAL
    upload._content_type = "video/mp4"
    gcs.faults.add(method="PUT", nth=2, status=503)
    gcs.faults.add(method="PUT", nth=4, keep_bytes=0)
    with requests.Session() as transport:
        while not upload.finished:
            try:
                upload.transmit_next_chunk(transport)
            except InvalidResponse:
                upload.recover(transport)
            stream.seek(upload.bytes_uploaded)  # it does not go back itself where less was kept than sent
    assert gcs.objects(BUCKET)["media"].read() == WHOLE


STEPS = st.lists(
    st.tuples(
        st.integers(0, 4),  # first unit
        st.integers(0, 4),  # units sent
        st.one_of(st.none(), st.integers(0, 3)),  # units kept, where fewer are to be kept
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, tail=st.sampled_from([0, 1, 17]))
def test_any_order_of_chunks(
    gcs: FakeGcs, http: httpx2.Client, bucket: storage.Bucket, steps: list[tuple[int, int, int | None]], tail: int
) -> None:
    gcs.reset()
    total = 3 * UNIT + tail
    uri = bucket.blob("any").create_resumable_upload_session(size=total)
    stored = 0
    for first_unit, units, kept_units in [*steps, (-1, 4, None)]:
        first = stored if first_unit < 0 else first_unit * UNIT
        end = min(first + units * UNIT, total)
        if kept_units is not None:
            gcs.faults.add(method="PUT", keep_bytes=kept_units * UNIT)
        answer = put(http, uri, first, end, total) if first < end else probe(http, uri, total)
        if first >= end:
            status = 200 if stored == total and kept_units is None else 308
        elif first > stored:
            status = 503
        else:
            new = max(0, end - stored)
            stored += new if kept_units is None else min(new, kept_units * UNIT) // UNIT * UNIT
            status = 200 if end == total and kept_units is None else 308
        gcs.faults.clear()
        assert answer.status_code == status
        if status == 200:
            break
        assert probe(http, uri).headers.get("range") == (f"bytes=0-{stored - 1}" if stored else None)
    assert gcs.objects(BUCKET)["any"].read() == WHOLE[:total]
