"""The ASGI application: log, faults, and the way to each call."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request

from tests.fakes.gemini import files_api, generating
from tests.fakes.gemini.errors import Refusal, bad_key, out_for_today, rate_limited
from tests.fakes.gemini.faults import ANSWERS, FILES, Fault
from tests.fakes.gemini.world import API_KEY, PROJECT, TOKEN, LoggedRequest, Spoken, World

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

LOOK_S = 0.01
KEPT_BODY_BYTES = 200_000
HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>That's an error.</body></html>"
_MODEL = re.compile(r"^/(?P<v>v1|v1beta|v1alpha)/models/(?P<model>[^/:]+)(?::(?P<verb>\w+))?$")
_VERTEX = re.compile(
    r"^/v1(?:beta1)?/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/publishers/google/models/"
    r"(?P<model>[^/:]+)(?::(?P<verb>\w+))?$"
)
# The client asks Vertex AI for a model by its name alone.
_VERTEX_MODEL = re.compile(r"^/v1(?:beta1)?/publishers/google/models/(?P<model>[^/:]+)$")
_FILES = re.compile(r"^/v1(?:beta)?/(?P<name>files(?:/[^/:]+)?)(?P<verb>:register)?$")
_UPLOAD = re.compile(r"^/upload/(?P<v>v1(?:beta)?)/files$")
Answer = tuple[int, dict[str, str], bytes]


class App:
    """One fake's application. It needs uvicorn: faults close its connections."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        connection: Any = getattr(send, "__self__", None)  # uvicorn's request and response cycle
        path = scope["raw_path"].decode("latin-1")
        logged = LoggedRequest(request.method, path, dict(request.headers))
        fault = None
        if not path.startswith("/__"):
            self._world.log.append(logged)
            fault = self._world.faults.due(f"{request.method} {path}")
            logged.fault = fault.mode if fault else ""
        try:
            data = await request.body()
        except ClientDisconnect:
            return
        logged.received = len(data)
        body = _parsed(data, request.headers.get("content-type", ""))
        if len(data) <= KEPT_BODY_BYTES:
            logged.body = body
        answer = await self._answer(request, path, body, data, fault, connection)
        if answer is None:
            connection.transport.close()
            while not connection.disconnected:
                await asyncio.sleep(LOOK_S)
            return
        status, headers, content = answer
        logged.status = status
        headers = {"content-length": str(len(content)), **headers}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content})

    async def _answer(
        self, request: Request, path: str, body: Any, data: bytes, fault: Fault | None, connection: Any
    ) -> Answer | None:
        """None: the connection is to be closed."""
        mode = fault.mode if fault else ""
        if mode == "drop":
            return None
        if mode == "hang":
            released = self._world.faults.released
            while not released.is_set() and not connection.disconnected:
                await asyncio.sleep(LOOK_S)
            return None
        if mode == "slow" and fault is not None:
            await asyncio.sleep(fault.delay_s)
        if mode == "html":
            return 502, {"content-type": "text/html"}, HTML
        try:
            _refuse(fault)
            if path.startswith("/__"):
                answer = self._control(request.method, path, body)
            else:
                answer = self._handled(request, path, body, data, mode)
        except Refusal as refusal:
            return refusal.code, {"content-type": "application/json"}, refusal.as_json()
        return None if mode == "drop_response" else answer

    def _handled(self, request: Request, path: str, body: Any, data: bytes, mode: str) -> Answer:
        world, method, headers = self._world, request.method, request.headers
        answer_mode = mode if mode in ANSWERS else ""
        if (method, path) == ("POST", "/token"):
            return _json({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
        if found := _VERTEX.match(path) or _VERTEX_MODEL.match(path):
            if headers.get("authorization") != f"Bearer {TOKEN}":
                raise Refusal(401, "Request had invalid authentication credentials.")
            if found.groupdict().get("project", PROJECT) != PROJECT:
                raise Refusal(403, "Permission denied on resource project.")
            return self._model(method, found["model"], found.groupdict().get("verb"), body, answer_mode)
        if (found := _UPLOAD.match(path)) and (upload_id := request.query_params.get("upload_id")):
            status, stored = files_api.go_on(world, upload_id, headers, data, mode if mode in FILES else "")
            shown = {} if mode == "no_upload_status" else {"x-goog-upload-status": status}
            return _json({"file": stored.resource()} if stored else {}, **shown)
        _authenticate(request, bearer_will_do=path.endswith("files:register"))
        if found:
            url = files_api.begin(world, found["v"], headers, body)
            return _json({}, **{"x-goog-upload-url": url, "x-goog-upload-status": "active"})
        if found := _FILES.match(path):
            return self._files(request, found["name"], bool(found["verb"]), body)
        if found := _MODEL.match(path):
            return self._model(method, found["model"], found["verb"], body, answer_mode)
        raise Refusal(501, f"The fake knows no {method} {path}")

    def _files(self, request: Request, name: str, registers: bool, body: Any) -> Answer:
        world = self._world
        match (request.method, name, registers):
            case ("POST", "files", True):
                return _json(files_api.register(world, request.headers, body))
            case ("GET", "files", False):
                return _json(files_api.listing(world, request.query_params))
            case ("GET", _, False):
                return _json(files_api.look(world, name))
            case ("DELETE", _, False) if name != "files":
                del world.files[world.file(name).name]
                return _json({})
        raise Refusal(501, f"The fake knows no {request.method} {name}")

    def _model(self, method: str, model: str, verb: str | None, body: Any, mode: str) -> Answer:
        world = self._world
        match (method, verb):
            case ("GET", None):
                return _json(generating.model_resource(world, model))
            case ("POST", "generateContent"):
                return _json(generating.generate(world, model, body, mode))
            case ("POST", "streamGenerateContent"):
                return 200, {"content-type": "text/event-stream"}, generating.stream(world, model, body, mode)
            case ("POST", "countTokens"):
                return _json(generating.count_tokens(world, model, body))
            case ("POST", "batchEmbedContents"):
                vectors = generating.embed(world, model, body["requests"])
                return _json({"embeddings": [{"values": vector} for vector in vectors]})
            case ("POST", "embedContent"):
                return _json({"embedding": {"values": generating.embed(world, model, [body])[0]}})
            case ("POST", "predict"):
                return _json(generating.predict(world, model, body))
        raise Refusal(501, f"The fake knows no {method} of a model: {verb}")

    def _control(self, method: str, path: str, body: Any) -> Answer:
        """Requests that are not the service's own; they are not logged."""
        world = self._world
        match (method, path):
            case ("GET", "/__log"):
                return _json([asdict(entry) for entry in world.log])
            case ("GET", "/__files"):
                return _json([stored.resource() for stored in world.files.values()])
            case ("POST", "/__faults"):
                try:
                    for fault in body.get("faults", [body]):
                        world.faults.add(**fault)
                except TypeError as wrong:
                    raise Refusal(400, f"Not a fault: {wrong}") from None
                return _json({"pending": len(world.faults.pending())})
            case ("POST", "/__script"):
                world.script = [Spoken(**line) for line in body["lines"]]
                return _json({"lines": len(world.script)})
            case ("POST", "/__clock"):
                world.age += timedelta(seconds=float(body["advanceS"]))
                return _json({})
            case ("POST", "/__reset"):
                world.reset()
                return _json({})
        raise Refusal(501, f"The fake knows no {method} {path}")


def _authenticate(request: Request, *, bearer_will_do: bool) -> None:
    key = request.headers.get("x-goog-api-key") or request.query_params.get("key")
    if bearer_will_do and request.headers.get("authorization"):
        return
    if not key:
        raise Refusal(403, "Method doesn't allow unregistered callers.")
    if key != API_KEY:
        raise bad_key()


def _refuse(fault: Fault | None) -> None:
    match fault.mode if fault else "":
        case "rate_limited":
            assert fault is not None
            raise rate_limited(fault.delay_s)
        case "daily_quota":
            raise out_for_today()
        case "unavailable":
            raise Refusal(503, "The model is overloaded. Please try again later.")
        case "bad_key":
            raise bad_key()
        case "denied":
            raise Refusal(403, "Your project has been denied access. Please contact support.")
        case "file_forbidden":
            raise Refusal(403, "You do not have permission to access the File or it may not exist.")


def _parsed(data: bytes, content_type: str) -> Any:
    if not data or not ("json" in content_type or data[:1] == b"{"):
        return {}
    try:
        return json.loads(data)
    except ValueError:
        return {}


def _json(content: Any, **headers: str) -> Answer:
    return 200, {"content-type": "application/json; charset=UTF-8", **headers}, json.dumps(content).encode()
