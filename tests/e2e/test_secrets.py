"""No secret of a real instance shows: in logs, errors, metrics, command lines, or environments of what it runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import psutil
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from echo_core.adapters.addresses import addresses
from echo_core.adapters.settings_sources import load_settings
from tests.e2e.api import Api
from tests.e2e.conftest import Clips, Instance, start_instance, stop_instance, wait_for

pytestmark = pytest.mark.e2e

SECRET_KEY = "recognisable-instance-secret-0123456789abcdef"
JWT_SECRET = "recognisable-signing-secret-0123456789abcdef"
API_KEY = "recognisable-api-key-of-a-plugin"
PLUGIN = '''
from pydantic import BaseModel, SecretStr
from starlette.routing import Route

from echo_core.plugin_api import EventHandler, EventHandlerSpec, RoutesSpec, hookimpl


class Config(BaseModel):
    api_key: SecretStr


async def break_down(request):
    """As a client library does that quotes the request which failed."""
    raise RuntimeError(f"cannot reach {request.url}: {dict(request.headers)}")


class Handler(EventHandler):
    def __init__(self, api_key):
        self.api_key = api_key

    async def handle(self, event):
        raise ValueError(f"401 for https://leaky:{self.api_key}@provider.example/?key={self.api_key}")


class Opened:
    def __init__(self, context):
        self.context = context

    async def __aenter__(self):
        return Handler(self.context.config_as(Config).api_key.get_secret_value())

    async def __aexit__(self, *error):
        return None


@hookimpl
def echo_register_routes():
    return [RoutesSpec(routes=[Route("/break", break_down)])]


@hookimpl
def echo_register_event_handlers():
    return [EventHandlerSpec(name="leaky", open=Opened, config_model=Config)]
'''


@dataclass
class Watch:
    """What must not show, and all that was said."""

    secrets: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def ask(self, http: httpx2.Client, method: str, url: str, **arguments: object) -> httpx2.Response:
        response = http.request(method, url, **arguments)  # type: ignore[arg-type]
        if response.status_code >= 400:
            self.said[f"{len(self.said)} {method} {response.status_code} {urlsplit(url).path}"] = (
                response.text + json.dumps(dict(response.headers))
            )
        return response

    def look_at(self, where: str, text: str) -> None:
        self.said[where] = self.said.get(where, "") + text

    def found(self) -> list[str]:
        return [
            f"{name} in {where}: …{text[max(0, text.index(secret) - 300) : text.index(secret) + 60]}"
            for where, text in self.said.items()
            for name, secret in self.secrets.items()
            if secret in text
        ]


@pytest.fixture
def leaky_instance(tmp_path: Path) -> Iterator[Instance]:
    """An instance whose secrets can be told from anything else, with a plugin that puts them into exceptions."""
    plugins = tmp_path / "plugins"
    about = plugins / "leaky-1.0.dist-info"
    about.mkdir(parents=True)
    (plugins / "leaky.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[echo.plugins]\nleaky = leaky\n")
    running = start_instance(
        tmp_path / "echo",
        PYTHONPATH=os.pathsep.join(filter(None, [str(plugins), os.environ.get("PYTHONPATH")])),
        ECHO_SECRET_KEY=SECRET_KEY,
        ECHO_AUTH__HS256_SECRET=JWT_SECRET,
        ECHO_PLUGINS__LEAKY__API_KEY=API_KEY,
        ECHO_LOG__LEVEL="debug",
    )
    yield running
    stop_instance(running)


def secrets_of(instance: Instance) -> dict[str, str]:
    settings = load_settings(environ=instance.environment, cwd=Path("/nonexistent"))
    where = addresses(settings, SECRET_KEY.encode())
    urls = {"owner": where.owner_url, "api": where.api_url, "worker": where.worker_url, "redis": where.redis_url}
    passwords = {f"password of {name}": urlsplit(url).password or "" for name, url in urls.items()}
    assert all(len(password) >= 16 for password in passwords.values())
    return {"secret_key": SECRET_KEY, "hs256_secret": JWT_SECRET, "api_key of a plugin": API_KEY, **passwords}


def watch_and_fail(watch: Watch, instance: Instance, api: Api, video_id: str) -> None:
    """Everything that goes wrong for callers, with real secrets in it."""
    http = api.http
    other = Api(instance.url, instance.token("other@example.org"))
    instance.apis.append(other)
    watch.secrets["bearer token"] = api.token.rpartition(".")[2]
    watch.secrets["bearer token of another"] = other.token.rpartition(".")[2]
    details = api.details(video_id)
    source = str(details["sourceUrl"])
    master = source.replace("?", "/master.m3u8?")
    watch.secrets["playback token"] = parse_qs(urlsplit(source).query)["token"][0]
    signed = httpx2.get(source).headers["location"]
    begun = api.call(
        "POST",
        "/api/v1/videos/signed-upload-url",
        expect=201,
        json={"filename": "x.mp4", "contentType": "video/mp4", "sizeBytes": 9},
    )
    upload = str(begun["uploadUrl"])
    for name, url in (("read", signed), ("upload", upload)):
        watch.secrets[f"signature of a {name} URL"] = parse_qs(urlsplit(url).query)["signature"][0]
    ticket = str(api.call("POST", "/api/v1/ws-tickets", expect=201)["ticket"])
    watch.secrets["ticket"] = ticket

    assert watch.ask(http, "GET", signed.replace("expires=", "expires=9")).status_code == 403
    assert watch.ask(http, "PUT", upload.replace("uploads/", "uploads/x"), content=b"x").status_code == 403
    assert watch.ask(http, "PUT", upload, content=b"too long for this").status_code >= 400
    anonymous = httpx2.Client(base_url=instance.url)
    with anonymous:
        somebody_elses = master.replace(video_id, str(begun["videoId"]))
        assert watch.ask(anonymous, "GET", somebody_elses).status_code == 401
        assert watch.ask(anonymous, "GET", master).status_code in {200, 409}
        for bad in (api.token[:-3], f"{api.token}.x", f"x{api.token}"):
            headers = {"Authorization": f"Bearer {bad}"}
            assert watch.ask(anonymous, "GET", "/api/v1/videos", headers=headers).status_code == 401
        for path in (f"/api/v1/videos?token={api.token}", f"/api/v1/videos/{api.token}/details"):
            watch.ask(anonymous, "GET", path)
    watch.ask(http, "POST", "/api/v1/videos/upload-complete", json={"token": api.token, "uploadUrl": upload})
    watch.ask(http, "POST", "/api/v1/videos/upload-complete", content=b'{"' + api.token.encode())
    assert watch.ask(other.http, "GET", f"/api/v1/videos/{video_id}/details?token={api.token}").status_code == 404
    assert watch.ask(http, "GET", f"/plugins/leaky/break?token={watch.secrets['playback token']}").status_code == 500
    sockets = f"{instance.url.replace('http', 'ws', 1)}/ws/jobs/status/{api.user_id}"
    for address, message in (
        (f"{sockets}?ticket={ticket}", None),
        (f"{sockets}?ticket={ticket}", None),
        (sockets, {"type": "auth", "token": other.token}),
        (sockets, {"type": "auth", "token": api.token[:-4]}),
        (sockets, {"type": "nonsense", "token": api.token}),
    ):
        with contextlib.suppress(WebSocketException), connect(address) as socket:
            if message is not None:
                socket.send(json.dumps(message))
            watch.look_at("frames of WebSockets", str(socket.recv(timeout=5)))


def look_at_processes(watch: Watch, instance: Instance) -> set[str]:
    """Command lines of all processes, environments of the programs that handle what users send; their names."""
    names = set()
    for process in instance.family():
        with contextlib.suppress(psutil.Error, OSError):
            line = " ".join(process.cmdline())
            names.add(process.name())
            watch.look_at("command lines", line + "\n")
            if process.name().startswith("ff"):
                watch.look_at("environments", f"{process.name()} {line}: {json.dumps(process.environ())}\n")
    return names


def test_no_secret_shows_anywhere(leaky_instance: Instance, clips: Clips, tmp_path: Path) -> None:
    instance = leaky_instance
    watch = Watch(secrets=secrets_of(instance))
    api = instance.api()
    video_id, job_id = api.upload(clips.make("long.mp4", seconds=30, size="1280x720"))
    seen: set[str] = set()

    def encodes() -> bool:
        seen.update(look_at_processes(watch, instance))
        return "ffmpeg" in seen and "environments" in watch.said

    wait_for("ffmpeg is seen at work", encodes)
    watch_and_fail(watch, instance, api, video_id)

    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(b"no film at all" * 100)
    _, failing = api.upload(garbage)
    assert api.wait_for_job(failing)["state"] == "failed"
    watch.look_at("a failed job", json.dumps(api.job(failing)))
    api.call("POST", f"/api/v1/videos/jobs/{job_id}/cancel", expect=202)

    for words, path, method in (
        (("valkey",), "/api/v1/ws-tickets", "POST"),
        (("postgres", "-D"), "/api/v1/videos", "GET"),
    ):
        server = instance.find(*words)
        assert server is not None
        server.send_signal(signal.SIGSTOP)
        server.send_signal(signal.SIGKILL)
        for _ in range(3):
            watch.ask(api.http, method, path)
        watch.look_at("readiness", httpx2.get(f"{instance.url}/readyz").text)
        wait_for("it is back", lambda: httpx2.get(f"{instance.url}/readyz").status_code == 200)
    watch.look_at("metrics", httpx2.get(f"{instance.url}/metrics").text)
    watch.look_at("plugins", api.http.get("/api/v1/plugins").text)
    for command in ("plugins", "doctor"):
        done = instance.echoctl(command, check=False)
        watch.look_at(f"echoctl {command}", done.stdout + done.stderr)

    for log in (instance.data_dir / "logs").glob("*.log"):
        watch.look_at(log.name, log.read_text(errors="replace"))
    watch.look_at("console", "".join(instance.output))
    assert "request.failed" in watch.said["api.log"]
    assert "cannot reach" in watch.said["api.log"]
    assert "401 for https" in watch.said["api.log"] + watch.said["worker.log"]
    found = watch.found()
    assert not found, "\n\n".join(found)
