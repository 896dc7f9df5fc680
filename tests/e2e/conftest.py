"""A whole Echo for the end-to-end tests, started the way a user starts it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.e2e.api import Api, is_ready
from tests.fakes.gcs.pubsub import PUSH_EMAIL
from tests.fakes.gcs.server import FakeGcs
from tests.fakes.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, running_provider

HERE = Path(__file__).parent
START_DEADLINE_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: str, found: Callable[[], bool], deadline_s: float = 60.0) -> None:
    """Look until ``found`` is true; a deadline, not a delay."""
    end = time.monotonic() + deadline_s
    while not found():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {deadline_s:.0f} s")
        time.sleep(0.05)


@dataclass
class Instance:
    """One ``echoctl up``."""

    process: subprocess.Popen[str]
    data_dir: Path
    url: str
    environment: dict[str, str]
    output: list[str] = field(default_factory=list)
    apis: list[Api] = field(default_factory=list)

    def echoctl(self, *arguments: str, timeout_s: float = 180, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would in another terminal."""
        done = subprocess.run(
            [sys.executable, "-m", "echo_core.entrypoints.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"echoctl {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done

    def token(self, email: str = "someone@example.org") -> str:
        return self.echoctl("token", "--email", email).stdout.strip()

    def api(self, email: str = "someone@example.org") -> Api:
        api = Api(self.url, self.token(email))
        self.apis.append(api)
        return api

    def family(self) -> list[psutil.Process]:
        """Every process that this instance started, itself included."""
        with contextlib.suppress(psutil.NoSuchProcess):
            me = psutil.Process(self.process.pid)
            return [me, *me.children(recursive=True)]
        return []

    def find(self, *words: str) -> psutil.Process | None:
        """The process whose command line has all these words."""
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if all(word in line for word in words):
                    return process
        return None

    def logs(self) -> str:
        logs = sorted((self.data_dir / "logs").glob("*.log"))
        parts = ["".join(self.output)[-4000:]]
        parts += [f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}" for log in logs]
        return "\n".join(parts)


def start_instance(data_dir: Path, **settings: str) -> Instance:
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ECHO_")} | {
        "ECHO_DATA_DIR": str(data_dir),
        "ECHO_HTTP__PORT": str(port),
        "ECHO_HTTP__CORS_ORIGINS": "*",
        "ECHO_AI__TRANSCRIBE": "[]",  # clips of tests say nothing
        "ECHO_AI__DESCRIBE": "[]",
        "XDG_STATE_HOME": str(data_dir / "state"),
        "NO_COLOR": "1",
        **settings,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "echo_core.entrypoints.cli", "up"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    instance = Instance(process, data_dir, f"http://127.0.0.1:{port}", environment)

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            instance.output.extend(process.stdout)

    threading.Thread(target=read, daemon=True).start()

    def ready() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"echoctl up ended with {process.returncode}:\n{instance.logs()}")
        return is_ready(instance.url) and any("Echo runs at" in line for line in instance.output)

    try:
        wait_for("echoctl up is ready", ready, START_DEADLINE_S)
    except AssertionError as error:
        stop_instance(instance)
        raise AssertionError(f"{error}\n{instance.logs()}") from None
    return instance


def stop_instance(instance: Instance) -> None:
    for api in instance.apis:
        api.http.close()
    family = instance.family()
    if instance.process.poll() is None:
        instance.process.send_signal(signal.SIGTERM)
        try:
            instance.process.wait(60)
        except subprocess.TimeoutExpired:
            instance.process.kill()
            instance.process.wait(10)
    _, alive = psutil.wait_procs(family, timeout=10)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    assert not alive, f"left running: {alive}\n{instance.logs()}"


@pytest.fixture(scope="session")
def google() -> Iterator[OpenIdProvider]:
    """What stands in for Google at the shared instance."""
    with running_provider() as provider:
        yield provider


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory, google: OpenIdProvider) -> Iterator[Instance]:
    """One Echo that the tests which break nothing share."""
    running = start_instance(
        tmp_path_factory.mktemp("echo"),
        ECHO_PLUGINS__IDENTITY_LOCAL__GOOGLE__CLIENT_ID=CLIENT_ID,
        ECHO_PLUGINS__IDENTITY_LOCAL__GOOGLE__CLIENT_SECRET=CLIENT_SECRET,
        ECHO_PLUGINS__IDENTITY_LOCAL__GOOGLE__ISSUER=google.issuer,
        ECHO_WORKER__CPU_SLOTS="2",
        ECHO_PLUGINS__IDENTITY_LOCAL__ACCOUNT_TRIES_PER_MINUTE="1000",  # tests sign in faster than people
    )
    yield running
    stop_instance(running)


BUCKET = "echo-e2e"
PUSH_AUDIENCE = "https://echo.example"


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    """What stands in for Google Cloud Storage: a bucket as it comes, without any CORS."""
    with FakeGcs.serve(tmp_path_factory.mktemp("gcs")) as running:
        running.create_bucket(BUCKET)
        yield running


def gcs_settings(gcs: FakeGcs, directory: Path) -> dict[str, str]:
    """The environment of an instance that keeps its videos in the bucket."""
    key = directory / "service-account.json"
    key.write_text(json.dumps(gcs.service_account_info()))
    return {
        "ECHO_STORAGE__BACKEND": "gcs",
        "ECHO_PLUGINS__STORAGE_GCS__BUCKET": BUCKET,
        "ECHO_PLUGINS__STORAGE_GCS__CREDENTIALS_FILE": str(key),
        "ECHO_PLUGINS__STORAGE_GCS__ENDPOINT": gcs.url,
        "ECHO_PLUGINS__STORAGE_GCS__IAM_ENDPOINT": gcs.url,
    }


@pytest.fixture(scope="session")
def gcs_instance(tmp_path_factory: pytest.TempPathFactory, gcs: FakeGcs, pages: str) -> Iterator[Instance]:
    """An Echo that keeps its videos in the bucket, set up as the documentation says."""
    directory = tmp_path_factory.mktemp("echo-gcs")
    running = start_instance(
        directory / "data",
        **gcs_settings(gcs, directory),
        ECHO_HTTP__CORS_ORIGINS=json.dumps([pages]),
        ECHO_WORKER__CPU_SLOTS="2",
        ECHO_PLUGINS__STORAGE_GCS__NOTIFICATIONS__AUDIENCE=PUSH_AUDIENCE,
        ECHO_PLUGINS__STORAGE_GCS__NOTIFICATIONS__SERVICE_ACCOUNT=PUSH_EMAIL,
        ECHO_PLUGINS__STORAGE_GCS__NOTIFICATIONS__CERTS_URL=f"{gcs.url}/oauth2/v1/certs",
    )
    try:
        running.echoctl("gcs", "setup", "--apply")
        yield running
    finally:
        stop_instance(running)


@pytest.fixture
def fragile_instance(tmp_path: Path) -> Iterator[Instance]:
    """An Echo of the test's own, to be mistreated."""
    running = start_instance(tmp_path / "echo")
    yield running
    stop_instance(running)


class Clips:
    """Real clips, made once with ffmpeg."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def make(self, name: str, *, seconds: float = 8, size: str = "640x360", codec: str = "libx264") -> Path:
        path = self.directory / name
        if not path.exists():
            video = ["-c:v", codec, "-pix_fmt", "yuv420p", "-g", "50"]
            if codec == "libx264":
                video += ["-preset", "veryfast", "-profile:v", "high"]
            subprocess.run(
                [
                    "ffmpeg", "-nostdin", "-v", "error", "-y",
                    "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}",
                    "-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={seconds}",
                    *video, "-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart", str(path),
                ],
                check=True,
            )  # fmt: skip
        return path


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return Clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def pages(clips: Clips) -> Iterator[str]:
    """The address of this directory's pages: another origin than Echo's, as a front end of somebody's own has."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return

        def translate_path(self, path: str) -> str:
            if path.startswith("/clips/"):
                return str(clips.directory / Path(path).name)
            return super().translate_path(path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(HERE)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


Browse = Callable[..., dict[str, object]]


@pytest.fixture(scope="session")
def browse() -> Browse:
    """Open a page in a real Chromium and return its ``window.outcome``."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    node = shutil.which("node")
    assert chromium, "Chromium is missing: run 'make system-packages'"
    assert node, "Node.js is missing: run 'make system-packages'"

    def open_page(url: str, *, deadline_s: float = 60, screenshot: Path | None = None) -> dict[str, object]:
        done = subprocess.run(
            [node, str(HERE / "browser.mjs"), chromium, url, str(int(deadline_s * 1000)), str(screenshot or "")],
            capture_output=True,
            text=True,
            timeout=deadline_s + 60,
            check=False,
        )
        assert done.stdout, done.stderr
        said = json.loads(done.stdout)
        outcome: dict[str, object] = said["outcome"]
        assert "error" not in outcome, f"{said}\n{done.stderr}"
        return outcome

    return open_page


PLAYBACK_URL = re.compile(r"https?://\S+master\.m3u8\S*")
