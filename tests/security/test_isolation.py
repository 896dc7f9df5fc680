"""What is Alice's is not there for Bob: over every route, by every credential, through one reused connection.

The cases come from the table of routes. A new route is tested without a line here, or these tests fail and say what
they need to know about it.
"""

from __future__ import annotations

import asyncio
import re
from base64 import urlsafe_b64decode
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from starlette.routing import BaseRoute, Mount, Route

from echo_core.adapters.postgres.transaction import BEGIN, begin_as_user, transaction
from echo_core.application.ports import VideoQuery
from echo_core.domain.ids import JobId, VideoId
from echo_core.domain.jobs import JobKind
from echo_core.entrypoints.http.api import ALL_OPERATIONS, KERNEL_OPERATIONS
from echo_core.entrypoints.http.operations import Operation, OperationEndpoint, PathEndpoint
from echo_core.entrypoints.http.requests import Body, Query
from tests.security.conftest import ALICE, BOB, Made, World

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

NAMES = {
    "getMediaPlaylist": "720p",
    "getStoryboardSheet": "sheet-000.jpg",
    "getPosterChoice": "poster-2.jpg",
    "getCaptionsPlaylist": "embedded-1",
    "getCaptionsFile": "embedded-1",
    "getCaptionsSrt": "auto-en",
    "getCaptions": "auto-en",
    "changeCaptions": "auto-en",
    "deleteCaptions": "auto-en",
}
"""What ``{name}`` means, by operation."""
IDS_IN_BODIES = {"completeUpload"}
"""Operations whose body names things that belong to somebody."""
OF_THE_CALLER = {"listVideos", "listMyVideos", "beginUpload", "createWsTicket", "search", "getMyAiUsage"}
"""Take no id: what they show or make is the caller's; each has a test of its own below, or at its name."""
OF_NOBODY = {"getInstance", "listPlugins", "getHealth", "getReadiness", "getMetrics", "getOpenApi", "getDocs"}
"""Say nothing of any user's things; the last test holds them to it."""
ELSEWHERE = {
    "/plugins/storage_local/objects/{key:path}": "signed URLs: test_signed_urls.py",
    "/plugins/storage_local/uploads/{upload_id}/{key:path}": "signed URLs: test_signed_urls.py",
}
FOR_ANYBODY = {"getWatchPage"}
"""Shows unlisted and public videos without a token: the tests of public videos at the end."""
WITH_IDS = [o for o in KERNEL_OPERATIONS if ("{" in o.path or o.id in IDS_IN_BODIES) and o.id not in FOR_ANYBODY]
VIEWED = [o for o in KERNEL_OPERATIONS if o.auth in {"viewer", "anybody"}]
HIDDEN_NAMES = re.compile(r"owner|tenant|backend|lease|generation|checksum|storage_?key|worker", re.IGNORECASE)


def by_id(operations: list[Operation]) -> Any:
    return pytest.mark.parametrize("operation", operations, ids=[operation.id for operation in operations])


def address(operation: Operation, made: Made) -> str:
    values = {
        "videoId": str(made.video_id),
        "jobId": str(made.job_id),
        "suggestionId": str(made.suggestion_id),
    }
    if operation.id in NAMES:
        values["name"] = NAMES[operation.id]
    names = set(re.findall(r"{(\w+)}", operation.path))
    unknown = names - set(values)
    assert not unknown, f"{operation.id}: say in this file what {unknown} of a video are called"
    return operation.path.format(**values)


def body(operation: Operation, made: Made) -> Any:
    if operation.id == "completeUpload":
        return {
            "videoId": str(made.video_id),
            "storagePath": made.begun["storagePath"],
            "originalFilename": f"{made.title}.mp4",
            "contentType": "video/mp4",
            "sizeBytes": made.size_bytes,
        }
    if operation.id == "retryJob":
        return {}
    return operation.body_example


async def call(world: World, operation: Operation, made: Made, **options: Any) -> httpx2.Response:
    if operation.body is not None:
        options["json"] = body(operation, made)
    return await world.client.request(operation.method, address(operation, made), **options)


def routes_of(routes: list[BaseRoute], prefix: str = "") -> list[tuple[str, BaseRoute]]:
    found: list[tuple[str, BaseRoute]] = []
    for route in routes:
        if isinstance(route, Mount):
            found += routes_of(list(route.routes), prefix + route.path)
        else:
            found.append((prefix + getattr(route, "path", repr(route)), route))
    return found


async def test_every_route_has_a_case_of_isolation(world: World) -> None:
    known = {o.id for o in WITH_IDS} | OF_THE_CALLER | OF_NOBODY | FOR_ANYBODY
    assert {o.id for o in ALL_OPERATIONS} == known, "say in this file what a new operation shows, and of whom"
    for path, route in routes_of(list(world.app.routes)):
        operation = getattr(route, "endpoint", None) if isinstance(route, Route) else None
        assert isinstance(operation, OperationEndpoint | PathEndpoint) or path in ELSEWHERE, path


@by_id(WITH_IDS)
async def test_somebody_elses_is_not_found_and_not_changed(world: World, operation: Operation) -> None:
    made = await world.make(ALICE)
    details = f"/api/v1/videos/{made.video_id}/details"
    before = (await world.client.get(details, headers=world.bearer(ALICE))).json()
    foreign = await call(world, operation, made, headers=world.bearer(BOB))
    never = await call(world, operation, _nowhere(made), headers=world.bearer(BOB))
    nobody = await call(world, operation, made)
    assert (foreign.status_code, foreign.json()["code"]) == (404, "not_found")
    assert _without_request(foreign) == _without_request(never)  # nothing tells that it exists
    assert nobody.status_code == 401
    after = (await world.client.get(details, headers=world.bearer(ALICE))).json()
    assert _without_tokens(after) == _without_tokens(before)
    mine = await call(world, operation, made, headers=world.bearer(ALICE))
    # 409: there is such a thing, in another state.
    assert mine.status_code < 400 or mine.status_code == 409, mine.text


def _nowhere(made: Made) -> Made:
    ids = {"video_id": UUID("01900000-0000-7000-8000-0000000000ff"), "job_id": UUID(int=made.job_id.int ^ 1)}
    path = made.begun["storagePath"].replace(str(made.video_id), str(ids["video_id"]))
    return Made(**{**vars_of(made), **ids, "begun": {**made.begun, "storagePath": path}})


def vars_of(made: Made) -> dict[str, Any]:
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


def _without_request(response: httpx2.Response) -> Any:
    return {name: value for name, value in response.json().items() if name not in {"requestId", "instance"}}


def _without_tokens(document: Any) -> str:
    return re.sub(r"token=[\w-]+", "token=", str(document))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(world: World) -> tuple[Made, Made, Made]:
    """Two of Alice's and one of Bob's, for tests that change nothing."""
    return await world.make(ALICE), await world.make(ALICE), await world.make(BOB)


@by_id(VIEWED)
async def test_a_playback_token_opens_its_own_video_of_its_own_owner(
    world: World, three: tuple[Made, Made, Made], operation: Operation
) -> None:
    first, second, bobs = three
    assert (await call(world, operation, first, params={"token": first.playback_token})).status_code in {200, 302}
    refused = {
        "of another video": second.playback_token,
        "of somebody else's video": bobs.playback_token,
        "a bearer token": world.bearer(ALICE)["Authorization"].removeprefix("Bearer "),
        "nothing": "x",
    }
    for what, token in refused.items():
        answer = await call(world, operation, first, params={"token": token})
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid"), what
    # Bob's own token of Alice's video, as if he had made the server mint one: it is his eyes that see nothing.
    strange = world.tokens.mint_playback(BOB.id, first.video_id)
    assert (await call(world, operation, first, params={"token": strange})).status_code == 404
    # A good header does not help a bad token, nor the other way round.
    assert (
        await call(world, operation, first, params={"token": bobs.playback_token}, headers=world.bearer(ALICE))
    ).status_code == 401
    twice = f"{address(operation, first)}?token={first.playback_token}&token={bobs.playback_token}"
    assert (await world.client.get(twice)).status_code in {401, 422}


@by_id([o for o in KERNEL_OPERATIONS if o.auth == "user"])
async def test_a_playback_token_is_no_bearer_token(
    world: World, three: tuple[Made, Made, Made], operation: Operation
) -> None:
    made = three[0]
    headers = {"Authorization": f"Bearer {made.playback_token}"}
    assert (await call(world, operation, made, headers=headers)).status_code == 401
    assert (await call(world, operation, made, params={"token": made.playback_token})).status_code == 401


@pytest.mark.parametrize("path", ["/api/v1/videos", "/api/v1/users/me/videos"])
async def test_lists_and_search_show_the_callers_own(world: World, path: str) -> None:
    made = await world.make(ALICE, "Narwhal")
    bobs = await world.make(BOB, "Beluga")
    alice, bob = world.bearer(ALICE), world.bearer(BOB)
    first = (await world.client.get(path, params={"limit": 1}, headers=alice)).json()
    assert first["items"][0]["videoId"] == str(made.video_id)
    questions: list[dict[str, Any]] = [{}, {"q": "Narwhal"}, {"q": "narwhal.mp4"}, {"status": "processing"}]
    questions += [{"q": text} for text in ("%", "_", "%' or '1'='1", "') or true --", str(made.video_id), ALICE.email)]
    if first["nextCursor"]:
        questions.append({"cursor": first["nextCursor"]})
    for question in questions:
        answer = await world.client.get(path, params={**question, "limit": 100}, headers=bob)
        shown = {item["videoId"] for item in answer.json()["items"]}
        assert str(made.video_id) not in shown, question
        assert "Narwhal" not in answer.text
    assert str(bobs.video_id) in {i["videoId"] for i in (await world.client.get(path, headers=bob)).json()["items"]}


async def test_an_idempotency_key_is_its_users_own(world: World) -> None:
    key = {"Idempotency-Key": "the same"}
    announced = {"filename": "a.mp4", "contentType": "video/mp4"}
    url = "/api/v1/videos/signed-upload-url"
    answers = [
        (await world.client.post(url, json=announced, headers=world.bearer(user) | key)).json()
        for user in (ALICE, BOB, ALICE)
    ]
    assert answers[0] == answers[2]
    assert answers[0]["videoId"] != answers[1]["videoId"]
    assert answers[0]["uploadUrl"] != answers[1]["uploadUrl"]


async def test_an_upload_is_completed_with_the_path_of_its_own_video_only(world: World) -> None:
    alices = await world.make(ALICE)
    announced = {"filename": "a.mp4", "contentType": "video/mp4", "sizeBytes": alices.size_bytes}
    bob = world.bearer(BOB)
    begun = (await world.client.post("/api/v1/videos/signed-upload-url", json=announced, headers=bob)).json()
    complete = {
        "videoId": begun["videoId"],
        "originalFilename": "a.mp4",
        "contentType": "video/mp4",
        "sizeBytes": alices.size_bytes,
    }
    for path in (*alices.keys, "videos/../" + alices.keys[0], begun["storagePath"] + "/../../../" + alices.keys[0]):
        answer = await world.client.post(
            "/api/v1/videos/upload-complete", json={**complete, "storagePath": path}, headers=bob
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "storage_path_mismatch"), path


@by_id([o for o in KERNEL_OPERATIONS if o.body is not None])
async def test_a_body_can_set_nothing_beyond_its_own_fields(world: World, operation: Operation) -> None:
    made = await world.make(ALICE)
    more = ("ownerId", "owner_id", "owner", "userId", "status", "state", "deletedAt", "deleted_at", "id", "version")
    more += ("role", "storageKey", "backendState", "playable", "editedFields", "createdAt", "__proto__", "jobId")
    for name in more:
        sent = {**body(operation, made), name: str(BOB.id)}
        answer = await world.client.request(
            operation.method, address(operation, made), json=sent, headers=world.bearer(ALICE)
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), name
    async with world.api.for_user(ALICE) as uow:
        video = await uow.videos.get(VideoId(made.video_id))
        job = await uow.jobs.find_for_video(VideoId(made.video_id), JobKind.PROCESS)
    assert (video.owner_id, video.deleted_at, video.version) == (ALICE.id, None, 1)
    assert job is not None


async def test_every_body_and_query_is_closed() -> None:
    for operation in ALL_OPERATIONS:
        for model, base in ((operation.body, Body), (operation.query, Query)):
            if model is not None:
                assert issubclass(model, base), operation.id
                assert model.model_config["extra"] == "forbid", operation.id


def names_in(document: Any) -> set[str]:
    if isinstance(document, dict):
        return set(document) | {name for value in document.values() for name in names_in(value)}
    return {name for value in document for name in names_in(value)} if isinstance(document, list) else set()


async def test_answers_tell_nothing_of_who_and_where(world: World) -> None:
    made = await world.make(ALICE)
    headers = world.bearer(ALICE)
    for operation in KERNEL_OPERATIONS:
        if operation.method != "GET" or operation.id in {"getOpenApi", "getDocs", "getMetrics"}:
            continue
        answer = await call(world, operation, made, headers=headers)
        assert str(ALICE.id) not in answer.text
        if answer.headers.get("content-type", "").startswith("application/json"):
            assert not [name for name in names_in(answer.json()) if HIDDEN_NAMES.search(name)], operation.id


@by_id([o for o in KERNEL_OPERATIONS if o.id in OF_NOBODY])
async def test_what_is_for_everybody_names_nobody(
    world: World, three: tuple[Made, Made, Made], operation: Operation
) -> None:
    made = three[0]
    answer = await world.client.request(operation.method, operation.path, headers=world.bearer(BOB))
    for private in (str(ALICE.id), ALICE.email, str(made.video_id), str(made.job_id), made.title + ".mp4"):
        assert private not in answer.text


VIDEOS_SEEN = sa.text("select distinct owner_id from echo.videos")


async def owners(world: World, user: Any) -> set[Any]:
    async with transaction(world.api_engine, begin_as_user(user)) as tx:
        return {row.owner_id for row in await tx.execute(VIDEOS_SEEN)}


async def assert_the_connection_is_nobodys(world: World) -> None:
    """The pool has one connection, so this is the one that was used before."""
    async with world.api_engine.connect() as connection:
        seen = await connection.execute(
            sa.text("select current_user, coalesce(current_setting('request.jwt.claims', true), '')")
        )
        assert seen.one() == ("echo_api", "")
    with pytest.raises(DBAPIError, match="permission denied"):
        async with transaction(world.api_engine, BEGIN) as tx:
            await tx.execute(VIDEOS_SEEN)
    assert await owners(world, BOB) <= {BOB.id}


async def test_the_next_user_of_a_connection_sees_nothing_of_the_last(world: World) -> None:
    await world.make(ALICE)
    await world.make(BOB)
    assert await owners(world, ALICE) == {ALICE.id}
    await assert_the_connection_is_nobodys(world)
    await world.api.list_videos(ALICE, VideoQuery(limit=10))
    await assert_the_connection_is_nobodys(world)


async def test_nor_after_an_error_inside_the_lasts_transaction(world: World) -> None:
    await world.make(ALICE)

    async def fail(statement: str) -> None:
        async with transaction(world.api_engine, begin_as_user(ALICE)) as tx:
            await tx.execute(VIDEOS_SEEN)
            await tx.execute(sa.text(statement))
            raise RuntimeError("half way")

    for statement in ("select 1 / 0", "select set_config('role', 'service_role', true)", "set role authenticated"):
        with pytest.raises(Exception, match=r"division|permission|half way"):
            await fail(statement)
        await assert_the_connection_is_nobodys(world)


async def test_nor_after_the_lasts_request_was_cancelled_anywhere(world: World) -> None:
    made = await world.make(ALICE)
    alice = world.bearer(ALICE)
    addresses = ["/api/v1/videos?q=film", f"/api/v1/videos/{made.video_id}/details"]
    for number in range(40):
        request = asyncio.create_task(world.client.get(addresses[number % 2], headers=alice))
        for _ in range(number):
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        assert await owners(world, BOB) <= {BOB.id}
    await assert_the_connection_is_nobodys(world)


async def test_nor_after_a_statement_was_cancelled_while_it_ran(world: World) -> None:
    async def sleep() -> None:
        async with transaction(world.api_engine, begin_as_user(ALICE)) as tx:
            started.set()
            await tx.execute(sa.text("select pg_sleep(30)"))

    started = asyncio.Event()
    running = asyncio.create_task(sleep())
    await started.wait()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await assert_the_connection_is_nobodys(world)


async def test_addresses_of_parts_cannot_name_another_video(world: World) -> None:
    mine, theirs = await world.make(BOB), await world.make(ALICE)
    base = f"/api/v1/stream/video/{mine.video_id}"
    parts = (f"../../{theirs.video_id}/encode/1/720p", f"..%2f..%2f{theirs.video_id}%2fencode%2f1%2f720p", *theirs.keys)
    for part in parts:
        for path in (f"renditions/{part}.m3u8", f"renditions/{quote(part, safe='')}.m3u8", f"storyboard/{part}"):
            answer = await world.client.get(f"{base}/{path}", headers=world.bearer(BOB))
            assert answer.status_code == 404, path


OUTLOOKS = {
    "queue_outlook": "select * from echo.queue_outlook(array[cast(:job_id as uuid)])",
    "queue_position": "select echo.queue_position(:step_id)",
}


@pytest.mark.parametrize("statement", OUTLOOKS.values(), ids=OUTLOOKS.keys())
async def test_functions_that_look_at_everybodys_queue_answer_for_the_callers_jobs(
    world: World, statement: str
) -> None:
    made = await world.make(ALICE)
    async with world.api.for_user(ALICE) as uow:
        step_id = (await uow.jobs.get(JobId(made.job_id))).steps[0].id
    wanted = sa.text(statement)
    names = {"job_id": made.job_id, "step_id": step_id}
    answers = {}
    for user in (ALICE, BOB):
        async with transaction(world.api_engine, begin_as_user(user)) as tx:
            rows = await tx.execute(wanted, {name: names[name] for name in wanted.compile().params})
            answers[user.id] = [row for row in rows.all() if row[0] is not None]
    assert answers[ALICE.id]
    assert answers[BOB.id] == []


# --- public videos -------------------------------------------------------------------------------------------------


async def _set_visibility(world: World, made: Made, visibility: str) -> None:
    path = f"/api/v1/videos/{made.video_id}/metadata"
    answer = await world.client.put(path, json={"visibility": visibility}, headers=world.bearer(made.owner))
    assert answer.status_code == 200, answer.text


def _watch(made: Made) -> str:
    return f"/api/v1/watch/{made.video_id}"


@pytest.mark.parametrize("visibility", ["unlisted", "public"])
async def test_a_public_video_is_watched_by_anybody_and_changed_by_its_owner_alone(
    world: World, visibility: str
) -> None:
    made = await world.make(ALICE)
    await _set_visibility(world, made, visibility)
    shown = (await world.client.get(_watch(made))).json()
    token = parse_qs(urlsplit(shown["playbackUrl"]).query)["token"][0]
    for operation in VIEWED:
        answer = await call(world, operation, made, params={"token": token})
        wanted = {404} if operation.id == "getSource" else {200, 302}
        assert answer.status_code in wanted, (operation.id, answer.text)
    for operation in WITH_IDS:
        nobody = await call(world, operation, made)
        assert nobody.status_code == (302 if operation.id == "getPoster" else 401), operation.id
        if operation not in VIEWED:
            stranger = await call(world, operation, made, headers=world.bearer(BOB))
            assert (stranger.status_code, stranger.json()["code"]) == (404, "not_found"), operation.id
            as_bearer = await call(world, operation, made, headers={"Authorization": f"Bearer {token}"})
            assert as_bearer.status_code == 401, operation.id
    listed = (await world.client.get("/api/v1/videos", headers=world.bearer(BOB))).json()["items"]
    assert str(made.video_id) not in {video["videoId"] for video in listed}


async def test_what_anybody_sees_names_neither_owner_nor_file(world: World) -> None:
    made = await world.make(ALICE, title="holiday")
    await _set_visibility(world, made, "public")
    answer = await world.client.get(_watch(made))
    token = parse_qs(urlsplit(answer.json()["playbackUrl"]).query)["token"][0]
    assert ALICE.id.bytes not in urlsafe_b64decode(token + "=")
    assert str(ALICE.id) not in answer.text
    assert "holiday.mp4" not in answer.text
    assert not [name for name in names_in(answer.json()) if HIDDEN_NAMES.search(name)]


async def test_a_video_that_becomes_private_stops_for_everybody_at_once(world: World) -> None:
    made, never = await world.make(ALICE), await world.make(BOB)
    await _set_visibility(world, made, "public")
    shown = (await world.client.get(_watch(made))).json()
    token = parse_qs(urlsplit(shown["playbackUrl"]).query)["token"][0]
    await _set_visibility(world, made, "private")
    for operation in VIEWED:
        assert (await call(world, operation, made, params={"token": token})).status_code == 404, operation.id
        assert (await call(world, operation, made)).status_code == 401, operation.id
    gone, private = await world.client.get(_watch(made)), await world.client.get(_watch(never))
    missing = await world.client.get(_watch(_nowhere(made)))
    assert _without_request(gone) == _without_request(private) == _without_request(missing)
    assert (await world.client.get(shown["playbackUrl"], headers=world.bearer(ALICE))).status_code == 404
    assert (await call(world, VIEWED[0], made, headers=world.bearer(ALICE))).status_code == 200


async def test_a_public_video_that_was_deleted_is_nothing(world: World) -> None:
    made = await world.make(ALICE)
    await _set_visibility(world, made, "public")
    assert (await world.client.get(_watch(made))).status_code == 200
    await world.client.delete(f"/api/v1/videos/{made.video_id}", headers=world.bearer(ALICE))
    assert (await world.client.get(_watch(made))).status_code == 404
    poster = f"/api/v1/stream/video/{made.video_id}/poster.jpg"
    assert (await world.client.get(poster)).status_code == 401
