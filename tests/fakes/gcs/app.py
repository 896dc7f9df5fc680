"""The ASGI application: log, faults, and the way to each API."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers

from tests.fakes.gcs import accounts, control, cors, json_api, sessions, xml_api
from tests.fakes.gcs.call import Answer, Body, Call, LoggedRequest
from tests.fakes.gcs.errors import Disconnected, Refusal

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tests.fakes.gcs.world import World

NOT_BUCKETS = {"storage", "upload", "download", "batch", "v1", "oauth2", "computeMetadata", "token", "resumable", ""}
HANG_LOOK_S = 0.02
CLOSE_LOOK_S = 0.001


class App:
    """One fake's application. It needs uvicorn: faults close its connections."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        raw_path, raw_query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        headers = Headers(scope=scope)
        logged = LoggedRequest(scope["method"], raw_path, raw_query, dict(headers.items()))
        call = Call(self._world, scope["method"], raw_path, raw_query, headers, Body(receive, logged))
        if not raw_path.startswith("/__"):
            self._world.log.append(logged)
            call.fault = self._world.faults.due(call.method, f"{raw_path}?{raw_query}" if raw_query else raw_path)
            logged.fault = call.fault is not None
        connection: Any = getattr(send, "__self__", None)  # uvicorn's request and response cycle
        try:
            answer = await self._answer(call, connection)
        except Disconnected:
            return
        if answer is None or (call.fault and call.fault.drop_response):
            if answer is not None and answer.file is not None:
                answer.file.close()
            await _close(connection)
            return
        logged.status = answer.status
        await _send(call, answer, logged, send, connection)

    async def _answer(self, call: Call, connection: Any) -> Answer | None:
        """None: the connection is to be closed."""
        fault = call.fault
        if fault and fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault and fault.hang:
            released = self._world.faults.released
            while not released.is_set() and not connection.disconnected:
                await asyncio.sleep(HANG_LOOK_S)
            return None
        if fault and fault.drop:
            return None
        try:
            answer = _faulty(call) if fault and fault.status else await self._handled(call)
        except Refusal as refusal:
            answer = _refused(call, refusal)
        if call.method != "OPTIONS":
            answer.headers += cors.headers_for(call, self._bucket(call), sessions.find_session(call))
        return answer

    def _bucket(self, call: Call) -> Any:
        session = sessions.find_session(call)
        return self._world.buckets.get(session.draft.bucket if session else call.segments[0])

    async def _handled(self, call: Call) -> Answer:
        path, first = call.raw_path, call.segments[0]
        if path.startswith("/__"):
            return await control.handle(call)
        if (call.method, path) == ("POST", "/token"):
            return await accounts.token(call)
        if (call.method, path) == ("GET", "/oauth2/v1/certs"):
            return await accounts.certs(call)
        if path.startswith("/computeMetadata/v1/") or (call.method == "GET" and path == "/"):
            return await accounts.metadata(call)
        if call.method == "POST" and path.startswith("/v1/projects/-/serviceAccounts/") and path.endswith(":signBlob"):
            return await accounts.sign_blob(call)
        is_session = "upload_id" in call.query
        if call.method == "OPTIONS" and (is_session or first in self._world.buckets):
            return cors.preflight(call, self._bucket(call))
        if is_session and (path.startswith("/upload/storage/v1/b/") or first not in NOT_BUCKETS):
            return await sessions.handle(call)
        if path.startswith(("/storage/v1/", "/upload/storage/v1/", "/download/storage/v1/")):
            return await json_api.handle(call)
        known = first in self._world.buckets or "X-Goog-Signature" in call.query
        if first not in NOT_BUCKETS and known and len(call.segments) > 1:
            return await xml_api.handle(call)
        raise Refusal(501, f"The fake knows no {call.method} {path}")


def _is_xml(call: Call) -> bool:
    return call.segments[0] not in NOT_BUCKETS and not call.raw_path.startswith("/__")


def _refused(call: Call, refusal: Refusal) -> Answer:
    headers = list(refusal.headers.items())
    if refusal.status == 304:
        return Answer(304, headers)
    if _is_xml(call):
        return Answer(refusal.status, [("Content-Type", "application/xml; charset=UTF-8"), *headers], refusal.as_xml())
    return Answer(refusal.status, [("Content-Type", "application/json; charset=UTF-8"), *headers], refusal.as_json())


def _faulty(call: Call) -> Answer:
    fault = call.fault
    assert fault is not None
    assert fault.status is not None
    answer = _refused(call, Refusal(fault.status, "The fake was told to fail."))
    if fault.body is not None:
        answer.body = json.dumps(fault.body).encode()
        answer.headers = [("Content-Type", "application/json; charset=UTF-8")]
    if fault.retry_after is not None:
        answer.headers.append(("Retry-After", str(fault.retry_after)))
    return answer


async def _send(call: Call, answer: Answer, logged: LoggedRequest, send: Send, connection: Any) -> None:
    headers = list(answer.headers)
    if not any(name.lower() == "content-length" for name, _ in headers) and answer.status not in {204, 304}:
        headers.append(("Content-Length", str(len(answer.body))))
    raw = [(name.lower().encode("latin-1"), value.encode("utf-8")) for name, value in headers]
    try:
        body = b"" if call.method == "HEAD" else answer.body
        if answer.file is None:
            logged.sent = len(body)
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        if answer.file is None:
            await send({"type": "http.response.body", "body": body})
            return
        stop = answer.file.truncate
        while block := answer.file.read(logged.sent):
            if stop is not None:
                block = block[: stop - logged.sent]
            logged.sent += len(block)
            if block:
                await send({"type": "http.response.body", "body": block, "more_body": True})
            if connection.disconnected:
                return
            if stop is not None and logged.sent >= stop:
                await _close(connection)
                return
        await send({"type": "http.response.body", "body": b""})
    finally:
        if answer.file is not None:
            answer.file.close()


async def _close(connection: Any) -> None:
    """Close without (the rest of) an answer, and wait until uvicorn knows."""
    connection.transport.close()
    while not connection.disconnected:  # soon, unless the client has yet to read what was sent
        await asyncio.sleep(CLOSE_LOOK_S)
