"""Uploads, artefacts, idempotency keys and local users."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from echo_core.adapters.postgres.transaction import BEGIN_AS_SERVICE, transaction
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork
from echo_core.adapters.sealing import AnswerSeal
from echo_core.application.ports import StoredResponse
from echo_core.domain.errors import InvalidInputError, UnknownEntityError
from echo_core.domain.uploads import Upload, UploadState
from echo_core.plugin_api.steps import Resource
from echo_core.plugin_api.transcoder import Segment

pytestmark = pytest.mark.integration

MINE, NEXT = UUID(int=1), UUID(int=2)
"""Tokens of reservations."""


def upload_of(video, **changes) -> Upload:
    values = {
        "video_id": video.id,
        "owner_id": video.owner_id,
        "state": UploadState.OPEN,
        "storage_key": f"videos/{video.id}/source/a.mp4",
        "filename": "a.mp4",
        "content_type": "video/mp4",
        "size_bytes": None,
        "backend": "local",
        "backend_state": '{"token":"x"}',
        "expires_at": video.created_at,
        "created_at": video.created_at,
    }
    return Upload(**{**values, **changes})


async def test_an_upload_comes_back_as_it_was_saved(api, alice, bob, stored):
    video, _ = await stored(alice, job=False)
    upload = upload_of(video)
    completed = replace(
        upload, state=UploadState.COMPLETED, completed_at=video.created_at, generation="7", checksum="c", size_bytes=9
    )
    async with api.for_user(alice) as uow:
        await uow.uploads.add(upload)
        assert await uow.uploads.get(video.id) == upload
        await uow.uploads.save(completed)
        assert await uow.uploads.get(video.id, for_update=True) == completed
    async with api.for_user(bob) as uow:
        with pytest.raises(UnknownEntityError):
            await uow.uploads.get(video.id)
        with pytest.raises(UnknownEntityError):
            await uow.uploads.save(upload)


async def test_an_upload_for_somebody_elses_video_is_refused(api, alice, bob, stored):
    video, _ = await stored(alice, job=False)
    with pytest.raises(sa.exc.IntegrityError):
        async with api.for_user(bob) as uow:
            await uow.uploads.add(upload_of(replace(video, owner_id=bob.id)))


async def test_only_open_uploads_past_their_expiry_are_listed(api, worker, alice, stored):
    async with worker.for_worker() as uow:
        now = await uow.jobs.now()
    lifetimes = [
        (UploadState.OPEN, timedelta(hours=-1)),
        (UploadState.OPEN, timedelta(hours=-2)),
        (UploadState.OPEN, timedelta(hours=1)),
        (UploadState.COMPLETED, timedelta(hours=-1)),
    ]
    uploads = []
    for state, lifetime in lifetimes:
        video, _ = await stored(alice, job=False)
        uploads.append(upload_of(video, state=state, expires_at=now + lifetime))
        async with api.for_user(alice) as uow:
            await uow.uploads.add(uploads[-1])
    async with worker.for_worker() as uow:
        assert await uow.uploads.list_expired(10) == [uploads[1], uploads[0]]
        assert await uow.uploads.list_expired(1) == [uploads[1]]


async def test_segments_are_loaded_only_on_request(worker, api, alice, bob, stored, new_artefact):
    video, _ = await stored(alice, job=False)
    segments = tuple(Segment(duration_s=4.004, offset_bytes=i << 33, length_bytes=i) for i in range(1000))
    made = new_artefact(video, segments=segments, init_length_bytes=700)
    poster = new_artefact(video, kind="poster", name="poster", storage_key="k", facts={})
    async with worker.for_worker() as uow:
        assert await uow.artefacts.put([made, poster]) == []
    async with api.for_user(alice) as uow:
        assert await uow.artefacts.list_for_video(video.id) == [poster, replace(made, segments=())]
        assert await uow.artefacts.list_for_video(video.id, segments=True) == [poster, made]
        assert await uow.artefacts.find(video.id, "rendition", "720p") == made
        assert await uow.artefacts.find(video.id, "rendition", "1080p") is None
    async with api.for_user(bob) as uow:
        assert await uow.artefacts.list_for_video(video.id) == []
        assert not await uow.artefacts.has_rendition(video.id)


async def test_put_replaces_and_tells_the_keys_that_nothing_refers_to_any_more(worker, alice, stored, new_artefact):
    video, _ = await stored(alice, job=False)
    first = [new_artefact(video, name=name, storage_key=f"1/{name}") for name in ("a", "b", "c")]
    second = [new_artefact(video, name="a", storage_key="2/a", lease_token=2), replace(first[1], size_bytes=5)]
    async with worker.for_worker() as uow:
        await uow.artefacts.put(first)
        assert await uow.artefacts.put(second) == ["1/a"]
        assert await uow.artefacts.list_for_video(video.id) == [*second, first[2]]
        assert await uow.artefacts.put([]) == []
        assert await uow.artefacts.remove_of_step(video.id, "ladder", except_token=2) == ["1/b", "1/c"]
        assert await uow.artefacts.remove_of_step(video.id, "poster", except_token=2) == []
        assert await uow.artefacts.list_for_video(video.id) == [second[0]]


@pytest.mark.parametrize(
    ("width", "kind", "facts", "watchable"),
    [
        (1280, "rendition", {"type": "video"}, True),
        (1280, "rendition", {"type": "audio"}, False),
        (None, "rendition", {"type": "audio"}, True),
        (1280, "poster", {"type": "video"}, False),
    ],
)
async def test_what_makes_a_video_watchable(worker, alice, stored, new_artefact, width, kind, facts, watchable):
    video, _ = await stored(alice, job=False, width=width)
    async with worker.for_worker() as uow:
        await uow.artefacts.put([new_artefact(video, kind=kind, facts=facts)])
        assert await uow.artefacts.has_rendition(video.id) is watchable


async def test_a_key_stands_for_its_answer_and_for_its_owner_alone(api, alice, bob):
    answer = StoredResponse(
        request_hash="h", status=201, body=b"\x00{}", content_type="a/b", location="/x", headers={"etag": '"é"'}
    )
    async with api.for_user(alice) as uow:
        assert await uow.idempotency.reserve("k", "h", MINE) is None
    async with api.for_user(alice) as uow:
        assert await uow.idempotency.reserve("k", "h", NEXT) == StoredResponse(request_hash="h")
        await uow.idempotency.complete("k", MINE, answer)
        await uow.idempotency.complete("k", MINE, replace(answer, status=202))  # the first one counts
        await uow.idempotency.release("k", MINE)  # an answer stays
        assert not await uow.idempotency.renew("k", MINE)
        assert await uow.idempotency.reserve("k", "other", NEXT) == answer
    async with api.for_user(bob) as uow:
        assert await uow.idempotency.reserve("k", "h", MINE) is None
        await uow.idempotency.release("k", MINE)
        assert await uow.idempotency.reserve("k", "h2", MINE) is None


async def rows_of_keys(worker_engine):
    async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
        return (await tx.execute(sa.text("select * from echo.idempotency_keys"))).all()


async def test_answers_are_sealed_at_rest(api, worker_engine, alice):
    secret = b'{"uploadUrl": "https://storage.example/o?upload_id=bearer-secret"}'
    answer = StoredResponse(request_hash="h", status=201, body=secret, location="/videos/secret-place")
    async with api.for_user(alice) as uow:
        await uow.idempotency.reserve("k", "h", MINE)
        await uow.idempotency.complete("k", MINE, answer)
    (row,) = await rows_of_keys(worker_engine)
    assert b"secret" not in bytes(row.body)
    assert "secret" not in repr(row._mapping)
    async with api.for_user(alice) as uow:
        assert await uow.idempotency.reserve("k", "h", NEXT) == answer
    # A process of the version before compares the hash, so it refuses the key rather than hand out the seal.
    assert row.request_hash != "h"


async def test_answers_that_the_version_before_kept_are_given_as_they_are(api, worker_engine, alice):
    async with api.for_user(alice) as uow:
        await uow.idempotency.reserve("k", "h", MINE)
    async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
        kept = "update echo.idempotency_keys set status = 201, body = :body, location = '/x', content_type = 'a/b'"
        await tx.execute(sa.text(kept), {"body": b"\x01 anything"})
    async with api.for_user(alice) as uow:
        assert await uow.idempotency.reserve("k", "h", NEXT) == StoredResponse(
            request_hash="h", status=201, body=b"\x01 anything", location="/x", content_type="a/b"
        )


async def test_answer_that_was_copied_to_another_key_or_sealed_under_another_secret_is_refused(
    api, api_engine, worker_engine, alice
):
    async with api.for_user(alice) as uow:
        await uow.idempotency.reserve("k", "h", MINE)
        await uow.idempotency.complete("k", MINE, StoredResponse(request_hash="h", status=200, body=b"{}"))
    other_secret = PostgresUserUnitsOfWork(api_engine, nobody, AnswerSeal(bytes(32)))
    with pytest.raises(InvalidInputError) as refused:
        async with other_secret.for_user(alice) as uow:
            await uow.idempotency.reserve("k", "h", NEXT)
    assert refused.value.code == "idempotency_key_reused"
    async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
        await tx.execute(sa.text("update echo.idempotency_keys set key = 'l'"))
    with pytest.raises(InvalidInputError):
        async with api.for_user(alice) as uow:
            await uow.idempotency.reserve("l", "h", NEXT)


async def nobody(*_):
    """Nothing to tell."""


@pytest.mark.parametrize(
    ("age", "answered", "taken_over"),
    [("59 seconds", False, False), ("61 seconds", False, True), ("23 hours", True, False), ("25 hours", True, True)],
)
async def test_dead_reservations_and_old_answers_are_taken_over(api, worker_engine, alice, age, answered, taken_over):
    async with api.for_user(alice) as uow:
        await uow.idempotency.reserve("k", "h", MINE)
        if answered:
            await uow.idempotency.complete("k", MINE, StoredResponse(request_hash="h", status=200))
    await grow_old(worker_engine, age)
    async with api.for_user(alice) as uow:
        assert (await uow.idempotency.reserve("k", "h", NEXT) is None) is taken_over


async def grow_old(worker_engine, age: str) -> None:
    async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
        statement = sa.text("update echo.idempotency_keys set created_at = created_at - cast(:age as text)::interval")
        await tx.execute(statement, {"age": age})


async def test_a_request_whose_reservation_was_taken_over_changes_nothing_of_its_successors(api, worker_engine, alice):
    async def reserve(token):
        async with api.for_user(alice) as uow:
            return await uow.idempotency.reserve("k", "h", token)

    late, answer = StoredResponse(request_hash="h", status=200), StoredResponse(request_hash="h", status=201)
    assert await reserve(MINE) is None
    await grow_old(worker_engine, "61 seconds")
    assert await reserve(NEXT) is None
    async with api.for_user(alice) as uow:
        await uow.idempotency.release("k", MINE)
    async with api.for_user(alice) as uow:
        await uow.idempotency.complete("k", MINE, late)
        assert not await uow.idempotency.renew("k", MINE)
    assert await reserve(UUID(int=3)) == StoredResponse(request_hash="h")
    async with api.for_user(alice) as uow:
        await uow.idempotency.complete("k", NEXT, answer)
    assert await reserve(UUID(int=3)) == answer


async def test_a_reservation_that_is_renewed_is_not_taken_over(api, worker_engine, alice):
    async with api.for_user(alice) as uow:
        await uow.idempotency.reserve("k", "h", MINE)
    for _ in range(2):
        await grow_old(worker_engine, "45 seconds")
        async with api.for_user(alice) as uow:
            assert await uow.idempotency.renew("k", MINE)
    async with api.for_user(alice) as uow:
        assert await uow.idempotency.reserve("k", "h", NEXT) == StoredResponse(request_hash="h")


async def test_one_of_many_requests_at_once_gets_the_key(api, alice):
    async def ask():
        async with api.for_user(alice) as uow:
            return await uow.idempotency.reserve("k", "h", uuid4())

    answers = await asyncio.gather(*(ask() for _ in range(10)))
    assert sorted(answers, key=bool) == [None, *[StoredResponse(request_hash="h")] * 9]


async def test_a_worker_has_no_keys(worker):
    with pytest.raises(RuntimeError, match="belong to callers"):
        async with worker.for_worker() as uow:
            await uow.idempotency.reserve("k", "h", MINE)


async def test_a_local_user_is_created_once_whatever_the_case(worker):
    async def get(email):
        async with worker.for_worker() as uow:
            return await uow.local_users.get_or_add(email)

    users = await asyncio.gather(*(get(email) for email in ["Ann@Example.org", "ann@example.org"] * 5))
    assert {user.email for user in users} == {"ann@example.org"}
    assert len({user.id for user in users}) == 1
    assert (await get("bob@example.org")).id != users[0].id


async def test_callers_cannot_create_local_users(api, alice):
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        async with api.for_user(alice) as uow:
            await uow.local_users.get_or_add("ann@example.org")


async def test_queue_statistics_count_everybody(api, worker, alice, bob, stored):
    for owner in (alice, bob):
        await stored(owner)
    async with worker.for_worker() as uow:
        before, step_id = await uow.jobs.claim_candidate(Resource.LIGHT)
        await uow.jobs.save(before, before.claimed(step_id, worker="w", now=await uow.jobs.now(), lease_s=9))
    light, cpu, net, ai = await api.queue_statistics()
    assert (light.resource, light.queued, light.running) == ("light", 1, 1)
    assert light.oldest_age_s > 0
    assert (cpu.resource, cpu.queued, cpu.oldest_age_s, cpu.running) == ("cpu", 0, 0.0, 0)
    assert (net.resource, ai.resource) == ("net", "ai")
