"""The JSON API: buckets and objects."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

from tests.fakes.gcs import downloads, uploads
from tests.fakes.gcs.call import Answer, json_answer
from tests.fakes.gcs.content import file_into
from tests.fakes.gcs.errors import Refusal
from tests.fakes.gcs.objects import BUCKET_FIELDS, SETTABLE, Draft, StoredObject, check_preconditions, preconditions

if TYPE_CHECKING:
    from tests.fakes.gcs.call import Call

PAGE = 1000
MOST_SOURCES = 32
_NOT_FAKED = {"matchGlob", "versions", "softDeleted", "includeFoldersAsPrefixes", "filter"}


async def handle(call: Call) -> Answer:
    """A request below /storage/v1, /upload/storage/v1 or /download/storage/v1."""
    call.email = call.world.accounts.bearer(call.headers.get("authorization"))
    match [call.method, *call.segments]:
        case ["POST", "upload", "storage", "v1", "b", _, "o"]:
            return await uploads.upload(call)
        case ["POST", "storage", "v1", "b"]:
            return await _create_bucket(call)
        case ["GET", "storage", "v1", "b", bucket]:
            call.require("storage.buckets.get", bucket)
            return json_answer(call.world.bucket(bucket).resource(call.base))
        case ["PATCH" | "PUT", "storage", "v1", "b", bucket]:
            return await _patch_bucket(call, bucket)
        case ["DELETE", "storage", "v1", "b", bucket]:
            return _delete_bucket(call, bucket)
        case ["GET", "storage", "v1", "b", bucket, "iam", "testPermissions"]:
            call.world.bucket(bucket)
            asked = [value for name, value in call.pairs if name == "permissions"]
            granted = [name for name in asked if call.world.granted(name)]
            answer: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
            return json_answer({**answer, "permissions": granted} if granted else answer)
        case ["GET", "storage", "v1", "b", bucket, "o"]:
            return _list(call, bucket)
        case ["GET", "storage" | "download", "v1" | "storage", *rest]:
            return _get(call, rest[1:] if call.segments[0] == "download" else rest)
        case ["PATCH" | "PUT", "storage", "v1", "b", bucket, "o", key]:
            return await _patch(call, bucket, key)
        case ["DELETE", "storage", "v1", "b", bucket, "o", key]:
            call.require("storage.objects.delete", bucket, key)
            stored = call.world.find(bucket, key, call.query.get("generation"))
            check_preconditions(preconditions(call.query), stored)
            call.world.delete(stored)
            return Answer(204)
        case ["POST", "storage", "v1", "b", bucket, "o", key, "compose"]:
            return await _compose(call, bucket, key)
        case ["POST", "storage", "v1", "b", bucket, "o", key, "rewriteTo" | "copyTo" as how, "b", to, "o", name]:
            return await _copy(call, call_source=(bucket, key), target=(to, name), rewrite=how == "rewriteTo")
    raise Refusal(501, f"The fake knows no {call.method} {call.raw_path}")


async def _create_bucket(call: Call) -> Answer:
    fields = await call.body.json()
    name = str(fields.get("name", ""))
    call.require("storage.buckets.create", name)
    if not name:
        raise Refusal(400, "Required parameter: name", reason="required")
    bucket = call.world.create_bucket(name, {field: fields[field] for field in BUCKET_FIELDS if field in fields})
    return json_answer(bucket.resource(call.base))


async def _patch_bucket(call: Call, name: str) -> Answer:
    call.require("storage.buckets.update", name)
    bucket = call.world.bucket(name)
    match = call.query.get("ifMetagenerationMatch")
    if match is not None and match != str(bucket.metageneration):
        raise Refusal(412, "At least one of the pre-conditions you specified did not hold.")
    fields = await call.body.json()
    bucket.fields |= {field: fields[field] for field in BUCKET_FIELDS if field in fields}
    bucket.metageneration += 1
    return json_answer(bucket.resource(call.base))


def _delete_bucket(call: Call, name: str) -> Answer:
    call.require("storage.buckets.delete", name)
    if call.world.bucket(name).objects:
        raise Refusal(409, "The bucket you tried to delete is not empty.")
    del call.world.buckets[name]
    return Answer(204)


def _list(call: Call, name: str) -> Answer:
    call.require("storage.objects.list", name)
    query = call.query
    if unknown := _NOT_FAKED & query.keys():
        raise Refusal(501, f"The fake does not list by {sorted(unknown)}")
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    start, end = query.get("startOffset", ""), query.get("endOffset", "")
    try:
        most = min(int(query.get("maxResults") or PAGE), PAGE)
        after = base64.urlsafe_b64decode(query.get("pageToken", "")).decode()
    except ValueError:
        raise Refusal(400, "Invalid argument.") from None
    items: list[StoredObject] = []
    prefixes: list[str] = []
    last, more = "", False
    objects = call.world.bucket(name).objects
    for key in sorted(objects, key=str.encode):
        if not key.startswith(prefix) or key.encode() < start.encode() or (end and key.encode() >= end.encode()):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = key[: cut + len(delimiter)] if cut >= 0 else key
        if entry.encode() <= after.encode() or entry == last:
            continue
        if len(items) + len(prefixes) >= most:
            more = True
            break
        last = entry
        if cut >= 0:
            prefixes.append(entry)
        else:
            items.append(objects[key])
    answer: dict[str, Any] = {"kind": "storage#objects"}
    if items:
        answer["items"] = [stored.resource(call.base) for stored in items]
    if prefixes:
        answer["prefixes"] = prefixes
    if more:
        answer["nextPageToken"] = base64.urlsafe_b64encode(last.encode()).decode()
    return json_answer(answer)


def _get(call: Call, rest: list[str]) -> Answer:
    match rest:
        case ["b", bucket, "o", key]:
            pass
        case _:
            raise Refusal(501, f"The fake knows no {call.method} {call.raw_path}")
    call.require("storage.objects.get", bucket, key)
    stored = call.world.find(bucket, key, call.query.get("generation"))
    check_preconditions(preconditions(call.query), stored, reads=True)
    if call.query.get("alt") == "media":
        return downloads.media(call, stored, xml=False)
    return json_answer(stored.resource(call.base), headers=[("ETag", stored.etag)])


async def _patch(call: Call, bucket: str, key: str) -> Answer:
    call.require("storage.objects.update", bucket, key)
    stored = call.world.find(bucket, key, call.query.get("generation"))
    check_preconditions(preconditions(call.query), stored)
    asked = await call.body.json()
    changes = {name: value for name, value in asked.items() if name in SETTABLE}
    if isinstance(changes.get("metadata"), dict) and call.method == "PATCH":
        changes["metadata"] = {**(stored.fields.get("metadata") or {}), **changes["metadata"]}
        changes["metadata"] = {name: value for name, value in changes["metadata"].items() if value is not None}
    kept = stored.fields if call.method == "PATCH" else {}
    stored.fields = {name: value for name, value in {**kept, **changes}.items() if value is not None}
    stored.metageneration += 1
    stored.updated = call.world.clock.stamp()
    return json_answer(stored.resource(call.base), headers=[("ETag", stored.etag)])


async def _compose(call: Call, bucket: str, key: str) -> Answer:
    asked = await call.body.json()
    call.require("storage.objects.create", bucket, key)
    call.require("storage.objects.get", bucket, key)
    names = asked.get("sourceObjects") or []
    if not 1 <= len(names) <= MOST_SOURCES:
        raise Refusal(400, f"The number of source components provided must be from 1 to {MOST_SOURCES}.")
    sources = []
    for source in names:
        generation = source.get("generation")
        stored = call.world.find(bucket, source["name"], None if generation is None else str(generation))
        wanted = (source.get("objectPreconditions") or {}).get("ifGenerationMatch")
        if wanted is not None:
            check_preconditions({"ifGenerationMatch": str(wanted)}, stored)
        sources.append(stored)
    draft = Draft(bucket, key, call.email, asked.get("destination") or {}, preconditions(call.query))
    draft.fields.setdefault("contentType", sources[0].fields.get("contentType"))
    draft.components = sum(stored.components or 1 for stored in sources)
    sink = call.world.new_sink()
    for stored in sources:
        await asyncio.to_thread(file_into, sink, stored.path)
    placed = call.world.place(draft, sink, corrupt=bool(call.fault and call.fault.corrupt))
    return json_answer(placed.resource(call.base))


async def _copy(call: Call, call_source: tuple[str, str], target: tuple[str, str], *, rewrite: bool) -> Answer:
    """One call, or with maxBytesRewrittenPerCall as many as it takes; the copy shows with the last."""
    call.require("storage.objects.get", *call_source)
    call.require("storage.objects.create", *target)
    source = call.world.find(*call_source, call.query.get("sourceGeneration"))
    if_source = {
        "ifGeneration" + name.removeprefix("ifSourceGeneration"): value
        for name, value in call.query.items()
        if name.startswith("ifSourceGeneration")
    }
    check_preconditions(if_source, source)
    fields = {**source.fields, **await call.body.json()}
    token = call.query.get("rewriteToken", "")
    if token and token not in call.world.rewrites:
        raise Refusal(400, "Invalid rewrite token.")
    done = call.world.rewrites.pop(token, 0) + int(call.query.get("maxBytesRewrittenPerCall") or source.size)
    if rewrite and done < source.size:
        token = call.world.secret(*target)
        call.world.rewrites[token] = done
        return json_answer(_rewritten(source, done) | {"rewriteToken": token})
    draft = Draft(*target, call.email, fields, preconditions(call.query), components=source.components)
    sink = call.world.new_sink()
    await asyncio.to_thread(file_into, sink, source.path)
    placed = call.world.place(draft, sink, corrupt=bool(call.fault and call.fault.corrupt))
    resource = placed.resource(call.base)
    return json_answer(_rewritten(source, source.size) | {"resource": resource} if rewrite else resource)


def _rewritten(source: StoredObject, done: int) -> dict[str, Any]:
    sizes = {"totalBytesRewritten": str(done), "objectSize": str(source.size)}
    return {"kind": "storage#rewriteResponse", **sizes, "done": done >= source.size}
