"""The fake of Gemini, driven by google-genai's own client and by bare HTTP."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from tests.fakes.gemini.server import FakeGemini

ROOT = Path(__file__).parents[3]
MODEL = "gemini-3.8-flash"
SCHEMA = {"type": "object", "properties": {"segments": {"type": "array"}}}
AS_JSON = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=SCHEMA)


@pytest.fixture(scope="module")
def serving() -> Iterator[FakeGemini]:
    with FakeGemini.serve() as gemini:
        yield gemini


@pytest.fixture
def gemini(serving: FakeGemini) -> FakeGemini:
    serving.reset()
    return serving


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as client:
        yield client


@pytest.fixture
def client(gemini: FakeGemini, http: httpx2.AsyncClient) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=gemini.url, api_version="v1beta", timeout=10_000, httpx_async_client=http)
    client = genai.Client(api_key=gemini.api_key, http_options=options)
    yield client
    client.close()


@pytest.fixture
def vertex(gemini: FakeGemini, http: httpx2.AsyncClient) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=gemini.url, api_version="v1beta1", timeout=10_000, httpx_async_client=http)
    client = genai.Client(
        vertexai=True,
        project=gemini.project,
        location="europe-west4",
        credentials=Credentials(token=gemini.token),
        http_options=options,
    )
    yield client
    client.close()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.ogg"
    path.write_bytes(b'{"start_s": 600, "end_s": 700}\n' + bytes(9 * 1024 * 1024))
    return path


async def uploaded(client: genai.Client, path: Path) -> types.File:
    file = await client.aio.files.upload(file=path, config={"name": "mine", "mime_type": "audio/ogg"})
    for _ in range(2):
        file = await client.aio.files.get(name=file.name or "")
    return file


async def test_files_are_uploaded_in_parts_and_used_once_active(gemini, client, sound) -> None:
    file = await client.aio.files.upload(file=sound, config={"mime_type": "audio/ogg", "display_name": "slice"})
    assert (file.state, file.display_name) == (types.FileState.PROCESSING, "slice")
    assert [one.received > 1_000_000 for one in gemini.calls("POST /upload/")] == [False, True, True]
    assert gemini.files[file.name].data == sound.read_bytes()
    with pytest.raises(errors.ClientError, match="not in an ACTIVE state"):
        await client.aio.models.generate_content(model=MODEL, contents=[file])
    while file.state != types.FileState.ACTIVE:
        file = await client.aio.files.get(name=file.name)
    assert (await client.aio.models.count_tokens(model=MODEL, contents=[file])).total_tokens == 3200
    assert [one.name async for one in await client.aio.files.list()] == [file.name]
    await client.aio.files.delete(name=file.name)
    for refused in (client.aio.files.get(name=file.name), client.aio.files.delete(name=file.name)):
        with pytest.raises(errors.ClientError) as caught:
            await refused
        assert (caught.value.code, caught.value.status) == (403, "PERMISSION_DENIED")


async def test_what_is_heard_is_the_script_of_that_part(gemini, client, sound) -> None:
    gemini.speak([(10.0, 12.0, "Before."), (630.0, 634.0, "In it."), (699.0, 702.0, "Over its end.")])
    file = await uploaded(client, sound)
    answer = await client.aio.models.generate_content(model=MODEL, contents=[file, "Write."], config=AS_JSON)
    assert json.loads(answer.text) == {"segments": [{"start": "00:30.0", "end": "00:34.0", "text": "In it."}]}
    usage = answer.usage_metadata
    assert usage.prompt_token_count == 3202
    assert usage.total_token_count == 3202 + usage.candidates_token_count + usage.thoughts_token_count
    assert answer.model_version == f"{MODEL}-001"
    again = await client.aio.models.generate_content(model=MODEL, contents=[file, "Write."], config=AS_JSON)
    assert again.text == answer.text


async def test_film_tokens_follow_the_offsets(client) -> None:
    part = types.Part(
        file_data=types.FileData(file_uri="https://films.example/a.mp4", mime_type="video/mp4"),
        video_metadata=types.VideoMetadata(start_offset="100s", end_offset="160s"),
    )
    counted = await client.aio.models.count_tokens(model=MODEL, contents=[types.Content(role="user", parts=[part])])
    assert counted.total_tokens == 60 * 102


async def test_streams(client) -> None:
    parts = [one.text async for one in await client.aio.models.generate_content_stream(model=MODEL, contents="Hello")]
    assert len(parts) == 2
    assert "".join(parts) == "The fake has read: Hello"


async def test_vertex_twin(gemini, vertex) -> None:
    assert (await vertex.aio.models.get(model=MODEL)).name
    assert "Hello" in (await vertex.aio.models.generate_content(model=MODEL, contents="Hello")).text
    config = types.EmbedContentConfig(output_dimensionality=16)
    for texts in (["one"], ["one", "two"]):
        made = await vertex.aio.models.embed_content(model="gemini-embedding-001", contents=texts, config=config)
        assert [len(one.values) for one in made.embeddings] == [16] * len(texts)
    assert gemini.calls("/projects/echo-test/locations/europe-west4/publishers/google/models/")


async def test_objects_of_a_bucket_are_registered(client) -> None:
    made = await client.aio.files.register_files(auth=Credentials(token="any"), uris=["gs://films/a.mp4"])
    assert made.files[0].state == types.FileState.ACTIVE


async def test_both_cases_are_taken(gemini, http) -> None:
    inline = base64.b64encode(b'{"start_s": 0, "end_s": 10}\n').decode()
    bodies = [
        {"contents": [{"parts": [{"inline_data": {"mime_type": "audio/ogg", "data": inline}}]}]},
        {"contents": [{"parts": [{"inlineData": {"mimeType": "audio/ogg", "data": inline}}]}]},
    ]
    counted = []
    for body in bodies:
        url = f"{gemini.url}/v1beta/models/{MODEL}:countTokens"
        answer = await http.post(url, json=body, headers={"x-goog-api-key": gemini.api_key})
        counted.append(answer.json()["totalTokens"])
    assert counted == [320, 320]


@pytest.mark.parametrize(
    ("mode", "code", "word"),
    [
        ("rate_limited", 429, "retryDelay"),
        ("daily_quota", 429, "PerDay"),
        ("unavailable", 503, "overloaded"),
        ("html", 502, "<!DOCTYPE html>"),
        ("bad_key", 400, "API_KEY_INVALID"),
        ("denied", 403, "denied access"),
        ("file_forbidden", 403, "may not exist"),
    ],
)
async def test_refusals(gemini, client, mode, code, word) -> None:
    gemini.faults.add(mode, ":generateContent", delay_s=27)
    with pytest.raises(errors.APIError) as caught:
        await client.aio.models.generate_content(model=MODEL, contents="Hello")
    assert caught.value.code == code
    assert word in str(caught.value.details)
    assert (await client.aio.models.generate_content(model=MODEL, contents="Hello")).text


@pytest.mark.parametrize(
    ("mode", "finish", "is_json"),
    [
        ("safety", "SAFETY", False),
        ("recitation", "RECITATION", False),
        ("max_tokens", "MAX_TOKENS", False),
        ("fenced", "STOP", False),
        ("wrong_shape", "STOP", True),
        ("bad_times", "STOP", True),
    ],
)
async def test_answers_of_no_use_are_200(gemini, client, sound, mode, finish, is_json) -> None:
    file = await uploaded(client, sound)
    gemini.faults.add(mode, ":generateContent")
    answer = await client.aio.models.generate_content(model=MODEL, contents=[file], config=AS_JSON)
    assert answer.candidates[0].finish_reason.name == finish
    assert (answer.parsed is not None) == is_json


async def test_a_blocked_prompt_has_no_candidates(gemini, client) -> None:
    gemini.faults.add("blocked_prompt", ":generateContent")
    answer = await client.aio.models.generate_content(model=MODEL, contents="Hello")
    assert not answer.candidates
    assert answer.prompt_feedback.block_reason.name == "PROHIBITED_CONTENT"


@pytest.mark.parametrize("mode", ["drop", "drop_response"])
async def test_connections_break(gemini, client, mode) -> None:
    gemini.faults.add(mode, ":generateContent")
    with pytest.raises(httpx2.TransportError):
        await client.aio.models.generate_content(model=MODEL, contents="Hello")


async def test_files_that_fail_or_never_end(gemini, client, sound) -> None:
    for mode, state in (("file_failed", types.FileState.FAILED), ("file_processing", types.FileState.PROCESSING)):
        gemini.reset()
        gemini.faults.add(mode, "POST /upload/", times=9)
        assert (await uploaded(client, sound)).state == state


async def test_what_it_does_not_know_is_501(gemini, client, http) -> None:
    key = {"x-goog-api-key": gemini.api_key}
    for path in ("/v1beta/cachedContents", f"/v1beta/models/{MODEL}:dream", "/v1beta/operations/1"):
        assert (await http.post(gemini.url + path, json={}, headers=key)).status_code == 501
    assert (await http.get(f"{gemini.url}/v1beta/models/{MODEL}")).status_code == 403
    assert [one.status for one in gemini.log] == [501, 501, 501, 403]


def test_as_a_program_it_is_controlled_by_http() -> None:
    argv = [sys.executable, "-m", "tests.fakes.gemini"]
    with httpx2.Client() as http, subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        said = json.loads(running.stdout.readline())
        url, key = said["url"], {"x-goog-api-key": said["apiKey"]}
        try:
            fault = {"mode": "unavailable", "match": "GET"}
            assert (http.post(f"{url}/__faults", json=fault)).json() == {"pending": 1}
            assert (http.post(f"{url}/__faults", json={"mode": "odd"})).status_code == 400
            statuses = [(http.get(f"{url}/v1beta/models/{MODEL}", headers=key)).status_code for _ in range(2)]
            assert statuses == [503, 200]
            log = (http.get(f"{url}/__log")).json()
            assert [(one["status"], one["fault"]) for one in log] == [(503, "unavailable"), (200, "")]
            http.post(f"{url}/__reset", json={})
            assert (http.get(f"{url}/__log")).json() == []
        finally:
            running.terminate()
    assert running.returncode == 0
