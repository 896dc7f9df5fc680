"""A small server that speaks the public contract on the loopback interface, with faults to order."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from typer.testing import CliRunner

USER = "0190a6f2-0000-7000-8000-000000000001"
CHUNK = 256 * 1024


def jwt(subject: str = USER, mark: str = "a") -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256'})}.{part({'sub': subject})}.{mark}"


def step(name: str, state: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "attempt": 1, "percent": 0.0, "optional": False, "error": None, **more}


def job(state: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"state": state, "percent": 0.0, "etaSeconds": None, "queuePosition": None, "steps": list(steps), **more}


SUCCEEDED = job("succeeded", step("inspect", "succeeded", percent=100.0), percent=100.0)


@dataclass
class FakeVideo:
    id: str
    size: int
    title: str = ""
    stored: bytearray = field(default_factory=bytearray)
    job_id: str = ""
    session: int = 1
    checksum: str = ""
    """What the last completion told of it."""


class FakeEcho:
    """Everything that tests order (``faults``, ``jobs``, ``frames``) and look at (``log``, ``hellos``, ``videos``)."""

    def __init__(self) -> None:
        self.url = ""
        self.videos: dict[str, FakeVideo] = {}
        self.answers: dict[str, Any] = {}
        self.log: list[str] = []
        self.ranges: list[str] = []
        self.tokens: set[str] = {jwt()}
        self.faults: deque[int] = deque()
        self.away = 0
        """So many readings of a job are answered 503."""
        """Statuses that PUTs answer, one each, before anything is stored."""
        self.in_one_put = False
        """New uploads go in one signed PUT, for clients that can."""
        self.unknown_fields: set[str] = set()
        """Fields of bodies that this server, of the version before, does not know."""
        self.forgets = 0
        """So many completions find that the storage has forgotten the upload."""
        self.spoilt = "none"
        """A file of this checksum was stored with other bytes."""
        self.kept: deque[int] = deque()
        """How many bytes of a chunk are kept, one number for each PUT; all when empty."""
        self.jobs: deque[dict[str, Any]] = deque([SUCCEEDED])
        """What reading the job tells, one after another; the last stays."""
        self.frames: list[Any] = []
        """What every WebSocket sends after ``ready``; a callable is called at its turn."""
        self.hellos: list[dict[str, Any]] = []
        self.closes: deque[int] = deque()
        """Codes with which WebSockets are closed after their frames; they stay open when empty."""
        self.on_put: Any = None
        self.second_read = asyncio.Event()
        """The job was read again, so the answer of the first time is known to the client."""

    def finish_job(self) -> None:
        """From now on the job has succeeded."""
        self.jobs = deque([SUCCEEDED])

    # --- HTTP

    def app(self) -> Starlette:
        api = "/api/v1/videos"
        routes = [
            Route(f"{api}/signed-upload-url", self._begin, methods=["POST"]),
            Route(f"{api}/upload-complete", self._complete, methods=["POST"]),
            Route(f"{api}/jobs/{{id}}", self._job),
            Route(f"{api}/jobs/{{id}}/{{action}}", self._act, methods=["POST"]),
            Route(f"{api}/{{id}}/upload/resume", self._resume, methods=["POST"]),
            Route(f"{api}/{{id}}/details", self._details),
            Route(f"{api}/{{id}}/metadata", self._metadata, methods=["PUT"]),
            Route(f"{api}/{{id}}", self._delete, methods=["DELETE"]),
            Route(api, self._list),
            Route("/bytes/{id}/{session}", self._put, methods=["PUT"]),
            Route("/at-once/{id}/{session}", self._put_at_once, methods=["PUT"]),
            WebSocketRoute("/ws/jobs/status/{user}", self._ws),
        ]
        return Starlette(routes=routes)

    def _refused(self, request: Request) -> Response | None:
        self.log.append(f"{request.method} {request.url.path}")
        if request.headers.get("authorization", "").removeprefix("Bearer ") in self.tokens:
            return None
        return problem(401, "token_expired", "This token has expired.")

    def _unknown(self, body: dict[str, Any]) -> Response | None:
        errors = [{"pointer": f"/{name}", "message": "There is no such field."} for name in body]
        errors = [error for error in errors if error["pointer"][1:] in self.unknown_fields]
        return problem(422, "validation_failed", "There is no such field.", errors=errors) if errors else None

    async def _begin(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        key = request.headers["idempotency-key"]
        body = await request.json()
        if unknown := self._unknown(body):
            return unknown
        if key not in self.answers:
            video = FakeVideo(str(uuid.uuid4()), body["sizeBytes"], Path(body["filename"]).stem)
            self.videos[video.id] = video
            where = self._where(video)
            if self.in_one_put and "signed-put" in body["protocols"]:
                where["upload"] |= {"protocol": "signed-put", "chunkSizeBytes": None}
                where["uploadUrl"] = where["uploadUrl"].replace("/bytes/", "/at-once/")
            self.answers[key] = {"videoId": video.id, "storagePath": f"videos/{video.id}/source", **where}
        return JSONResponse(self.answers[key], 201)

    def _where(self, video: FakeVideo) -> dict[str, Any]:
        target = {"protocol": "google-resumable", "method": "PUT", "headers": {"X-Signed": "1"}}
        target |= {"chunkSizeBytes": CHUNK, "expiresAt": "2030-01-01T00:00:00Z"}
        return {"uploadUrl": f"{self.url}/bytes/{video.id}/{video.session}", "upload": target}

    async def _resume(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        video = self.videos.get(request.path_params["id"])
        if video is None:
            return problem(404, "not_found", "There is no such video.")
        if video.job_id:
            return problem(409, "upload_completed", "This upload is complete.")
        video.session += 1
        whole = len(video.stored) == video.size
        facts = {"videoId": video.id, "storagePath": f"videos/{video.id}/source", "complete": whole}
        facts |= {"offsetBytes": len(video.stored), "uploadUrl": None, "upload": None}
        return JSONResponse(facts if whole else {**facts, **self._where(video)})

    async def _put(self, request: Request) -> Response:
        span = request.headers["content-range"]
        self.ranges.append(span)
        body = await request.body()
        video = self.videos[request.path_params["id"]]
        assert "authorization" not in request.headers
        assert request.headers["x-signed"] == "1"
        if self.on_put is not None:
            self.on_put()
        if int(request.path_params["session"]) != video.session:
            return problem(410, "upload_gone", "This address is no longer good.")
        if self.faults:
            return problem(self.faults.popleft(), "boom", "Boom.")
        if match := re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", span):
            start, end = int(match[1]), int(match[2]) + 1
            assert len(body) == end - start
            if start > len(video.stored):
                return problem(503, "gap", "There is a gap.")
            kept = self.kept.popleft() if self.kept else len(body)
            video.stored[start:] = body[:kept]
        if len(video.stored) == video.size:
            return JSONResponse({})
        headers = {"Range": f"bytes=0-{len(video.stored) - 1}"} if video.stored else {}
        return Response(status_code=308, headers=headers)

    async def _put_at_once(self, request: Request) -> Response:
        assert "content-range" not in request.headers
        assert request.headers["x-signed"] == "1"
        self.ranges.append("all")
        body = await request.body()
        if self.faults:
            return problem(self.faults.popleft(), "boom", "Boom.")
        self.videos[request.path_params["id"]].stored[:] = body
        return Response(status_code=200)

    async def _complete(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        if unknown := self._unknown(body):
            return unknown
        video = self.videos[body["videoId"]]
        if self.forgets:
            self.forgets -= 1
            video.stored.clear()
            video.session += 1
            return problem(409, "upload_gone", "The storage has forgotten this upload.")
        if len(video.stored) != video.size:
            return problem(409, "upload_incomplete", "The file is not there yet.")
        video.checksum = body.get("checksum", "")
        if video.checksum == self.spoilt:
            return problem(409, "upload_checksum_mismatch", "The stored file has other bytes.")
        video.job_id = video.job_id or str(uuid.uuid4())
        return JSONResponse({"videoId": video.id, "jobId": video.job_id, "status": "processing"}, 202)

    async def _job(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        if self.away:
            self.away -= 1
            return problem(503, "database_unavailable", "The database does not answer.")
        wanted = request.path_params["id"]
        video = next((v for v in self.videos.values() if v.job_id == wanted), None)
        if video is None:
            return problem(404, "not_found", "There is no such job.")
        if self.log.count(f"GET {request.url.path}") > 1:
            self.second_read.set()
        return JSONResponse(self._job_of(video, self.jobs.popleft() if len(self.jobs) > 1 else self.jobs[0]))

    def _job_of(self, video: FakeVideo, facts: dict[str, Any]) -> dict[str, Any]:
        return {**facts, "jobId": video.job_id, "videoId": video.id}

    async def _act(self, request: Request) -> Response:
        assert request.headers["idempotency-key"]
        self.log.append(f"{request.path_params['action']} {(await request.body()).decode()}")
        return await self._job(request)

    async def _details(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        video = self.videos.get(request.path_params["id"])
        if video is None:
            return problem(404, "not_found", "There is no such video.")
        found = self._job_of(video, self.jobs[0]) if video.job_id else None
        play = f"/api/v1/stream/video/{video.id}/master.m3u8?token=t"
        return JSONResponse({"title": video.title, "status": "ready", "job": found, "playbackUrl": play})

    async def _metadata(self, request: Request) -> Response:
        self.videos[request.path_params["id"]].title = (await request.json())["title"]
        return JSONResponse({})

    async def _delete(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        self.videos.pop(request.path_params["id"])
        return Response(status_code=204)

    async def _list(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        after = int(request.query_params.get("cursor", "0"))
        end = after + int(request.query_params["limit"])
        rows = [
            {"videoId": v.id, "title": v.title, "status": "ready", "createdAt": "2026-01-01T00:00:00Z"}
            for v in self.videos.values()
        ]
        return JSONResponse({"items": rows[after:end], "nextCursor": str(end) if end < len(rows) else None})

    # --- WebSocket

    async def _ws(self, socket: WebSocket) -> None:
        await socket.accept()
        hello = await socket.receive_json()
        self.hellos.append(hello)
        if hello["token"] not in self.tokens:
            await socket.close(4401, "token_expired")
            return
        await socket.send_json({"type": "ready", "userId": socket.path_params["user"]})
        for frame in self.frames:
            if callable(frame):
                if asyncio.iscoroutine(waiting := frame()):
                    await waiting
            else:
                await socket.send_json(frame)
        if self.closes:
            await socket.close(self.closes.popleft())
            return
        try:
            await socket.receive_text()
        except WebSocketDisconnect:
            return


def problem(status: int, code: str, detail: str, **more: Any) -> Response:
    body = {
        **more,
        "type": "about:blank",
        "title": code,
        "status": status,
        "code": code,
        "detail": detail,
        "remedy": "Mend it.",
    }
    return JSONResponse({**body, "requestId": "r-1"}, status, media_type="application/problem+json")


@pytest.fixture
def echo() -> Iterator[FakeEcho]:
    """The server, in a thread of its own: commands run their own event loop."""
    fake = FakeEcho()
    listening = socket.create_server(("127.0.0.1", 0))
    fake.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    config = uvicorn.Config(fake.app(), log_config=None, lifespan="off", ws="websockets-sansio", loop="asyncio")
    server = uvicorn.Server(config)
    # Connections wait in the socket's backlog until the server has started.
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
    thread.start()
    yield fake
    server.should_exit = True
    server.force_exit = True
    thread.join(10)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Two and a half chunks."""
    path = tmp_path / "holiday.mp4"
    path.write_bytes(bytes(range(256)) * (CHUNK * 5 // 2 // 256))
    return path


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def echoctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line. The environment names no instance, and state goes to the test's own directory."""
    from echo_core.entrypoints.cli.app import app

    for name in ("ECHO_URL", "ECHO_TOKEN", "ECHO_CONFIG", "ECHO_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("ECHO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, fake: FakeEcho | None = None) -> Ran:
        argv = [str(a) for a in arguments]
        if fake is not None:
            argv += ["--url", fake.url, "--token", jwt()]
        result = CliRunner().invoke(app, argv, prog_name="echoctl")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run
