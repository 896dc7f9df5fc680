"""An Echo that spans hosts: two APIs, two workers, PostgreSQL and Valkey, each on a host of its own.

What they share besides the network is one directory, as hosts share an NFS export.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import psycopg
from joserfc import jwt
from joserfc.jwk import OctKey

from echo_core.adapters.embedded.binaries import valkey_server
from tests.e2e.api import Api, is_ready
from tests.faults.cluster import SECRET, SETTINGS, Program, wait_for
from tests.integration.conftest import BUNDLED_BIN, NOBODY
from tests.scale.hosts import SUBNET, Host, Network

PUBLIC_URL = "http://video.example"
"""What a proxy in front would be called; tests choose the API themselves, as a proxy would."""
OWNER_PASSWORD = "owner-password"
VALKEY_PASSWORD = "valkey-password"
VALKEY_USERS = f"user default off\nuser echo on >{VALKEY_PASSWORD} ~echo:* ~arq:* +@all -@dangerous +info\n"
"""As managed servers have them: Echo may do what docs/scaling.md says that it needs, and nothing more."""
PORTS = {"api": 8000, "postgres": 5432, "valkey": 6379}
START_DEADLINE_S = 60.0
LEASE_S = 5.0
MANAGED = {
    "ECHO_WORKER__LEASE_S": str(LEASE_S),
    "ECHO_WORKER__NICE": "0",
    "ECHO_PLUGINS__TRANSCODE_FFMPEG__NICE": "0",
    "ECHO_HTTP__HOST": "0.0.0.0",  # noqa: S104 - all of a namespace's
    "ECHO_HTTP__PORT": str(PORTS["api"]),
    "ECHO_AI__TRANSCRIBE": "[]",  # clips of tests say nothing
    "ECHO_AI__DESCRIBE": "[]",
    "ECHO_HTTP__PUBLIC_URL": PUBLIC_URL,
    "ECHO_SECRET_KEY": "the same secret key on every host of this instance",
    "ECHO_DATABASE__CONNECT_TIMEOUT_S": "2",
    "ECHO_PLUGINS__TRANSCODE_FFMPEG__SANDBOX_NETWORK": "off",
}


class Installation:
    """See the module. Enter it to start everything, on a network that is entered too."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.shared = home / "shared"
        self.logs = home / "logs"
        for directory in (self.shared, self.logs):
            directory.mkdir(parents=True)
        self.postgres_home = Path(tempfile.mkdtemp(prefix="echo-scale-pg-"))
        self.users: dict[str, UUID] = {}
        self._leaving = ExitStack()
        self._database: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Installation:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.close()
        shutil.rmtree(self.postgres_home, ignore_errors=True)

    def _start(self) -> None:
        self.network = self._leaving.enter_context(Network())
        names = ("postgres", "valkey", "api1", "api2", "worker1", "worker2", "visitor")
        self.hosts = {name: self.network.add(name) for name in names}
        self._leaving.enter_context(self.hosts["visitor"].inside())
        self._start_postgres()
        configuration = self.home / "valkey.conf"
        configuration.write_text(
            f'bind {self.hosts["valkey"].address}\nport {PORTS["valkey"]}\ndir {self.home}\nsave ""\n{VALKEY_USERS}'
        )
        self._run("valkey", [str(valkey_server()), str(configuration)])
        echoctl = [sys.executable, "-m", "echo_core.entrypoints.cli"]
        subprocess.run([*echoctl, "migrate"], env=self.environment("api1"), check=True, capture_output=True)
        self.apis = [self._run(name, [*echoctl, "serve"]) for name in ("api1", "api2")]
        self.workers = [self._run(name, [*echoctl, "worker"]) for name in ("worker1", "worker2")]
        for name in ("api1", "api2"):
            wait_for(f"{name} is ready", lambda name=name: self._is_ready(name), START_DEADLINE_S)
        wait_for("both workers have checked in", lambda: len(self.sql("select name from echo.workers")) == 2)

    def _start_postgres(self) -> None:
        identity: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        os.chown(self.postgres_home, NOBODY, NOBODY)
        data = self.postgres_home / "data"
        password = self.postgres_home / "password"
        password.write_text(OWNER_PASSWORD)
        password.chmod(0o644)
        initdb = [str(BUNDLED_BIN / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8", "--locale=C"]
        initdb += ["--no-sync", "--auth=scram-sha-256", f"--pwfile={password}"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **identity)
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {SUBNET}.0/24 scram-sha-256\n")
        serve = [str(BUNDLED_BIN / "postgres"), "-D", str(data), "-p", str(PORTS["postgres"])]
        serve += ["-k", str(self.postgres_home), "-c", "fsync=off"]
        serve += ["-c", f"listen_addresses={self.hosts['postgres'].address}"]
        self._run("postgres", serve, identity)
        wait_for("PostgreSQL answers", self._postgres_answers, START_DEADLINE_S)
        with psycopg.connect(self.database_url.replace("/echo", "/postgres"), autocommit=True) as connection:
            connection.execute("create database echo template template0")

    def _postgres_answers(self) -> bool:
        try:
            psycopg.connect(self.database_url.replace("/echo", "/postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _is_ready(self, name: str) -> bool:
        return is_ready(self.url(name))

    def _run(self, name: str, argv: list[str], identity: dict[str, Any] | None = None) -> Program:
        program = Program(name, argv, self.environment(name), self.logs / f"{name}.log", identity or {})
        with self.hosts[name].inside():
            program.start()
        self._leaving.callback(program.end, signal.SIGKILL)
        return program

    # --- where things are -------------------------------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        return f"postgresql://postgres:{OWNER_PASSWORD}@{self.hosts['postgres'].address}:{PORTS['postgres']}/echo"

    def url(self, api: str) -> str:
        return f"http://{self.hosts[api].address}:{PORTS['api']}"

    def environment(self, host: str) -> dict[str, str]:
        """What a host's programs are configured with: a disk of its own, and the shared directory as its storage."""
        data_dir = self.home / host
        data_dir.mkdir(exist_ok=True)
        if not (data_dir / "objects").is_symlink():
            (data_dir / "objects").symlink_to(self.shared)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ECHO_")}
        return {
            **kept,
            **SETTINGS,
            **MANAGED,
            "ECHO_DATA_DIR": str(data_dir),
            "ECHO_DATABASE__URL": self.database_url,
            "ECHO_REDIS__URL": f"redis://echo:{VALKEY_PASSWORD}@{self.hosts['valkey'].address}:{PORTS['valkey']}/0",
        }

    # --- looking in -------------------------------------------------------------------------------------------------

    def sql(self, statement: str, *parameters: object) -> list[Any]:
        if self._database is None:
            self._database = psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)
            self._leaving.callback(self._database.close)
        cursor = self._database.execute(statement, parameters or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def log(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text(errors="replace")

    def step(self, job_id: str, name: str) -> dict[str, Any]:
        """One step's row."""
        columns = ("state", "worker", "attempt", "lease_token")
        rows = self.sql(f"select {', '.join(columns)} from echo.steps where job_id = %s and name = %s", job_id, name)  # noqa: S608
        return dict(zip(columns, rows[0], strict=True))

    def runner(self, job_id: str, name: str) -> int | None:
        """Which worker (0 or 1) has, or had, a step."""
        return self.number(self.step(job_id, name)["worker"])

    def number(self, worker: str) -> int | None:
        """Which worker calls itself so."""
        return next((n for n, program in enumerate(self.workers) if f"-{program.pid}-" in worker), None)

    def encoder(self, worker: Program) -> psutil.Process | None:
        """The ffmpeg that works for this worker."""
        for child in worker.children():
            try:
                if child.name().startswith("ffmpeg") and "libx264" in " ".join(child.cmdline()):
                    return child
            except psutil.Error:
                continue
        return None

    # --- users ------------------------------------------------------------------------------------------------------

    def user(self, name: str, *, at: str = "api1") -> Api:
        """A client of this user's that speaks to one of the APIs."""
        user_id = self.users.setdefault(name, uuid4())
        claims = {"iss": f"{PUBLIC_URL}/auth/v1", "aud": "authenticated", "role": "authenticated", "sub": str(user_id)}
        claims |= {"iat": int(time.time()) - 60, "exp": int(time.time()) + 86_400, "email": f"{name}@example.org"}
        api = Api(self.url(at), jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET)))
        self._leaving.callback(api.http.close)
        return api


def at(api: Api, url: str) -> str:
    """An address that Echo gave out, as a proxy would pass it to this API."""
    assert url.startswith(PUBLIC_URL), url
    return api.url + url.removeprefix(PUBLIC_URL)


__all__ = ["PUBLIC_URL", "Host", "Installation", "at"]
