"""``up`` as a process: what it starts, keeps alive, says, and leaves behind (nothing)."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from echo_core.adapters.embedded.datadir import find_instance
from echo_core.adapters.embedded.errors import AlreadyRunningError, PortTakenError, StartFailedError

StartUp = Callable[..., Any]
Sql = Callable[[str, str], object]


def test_up_runs_everything_and_sigterm_leaves_nothing(
    start_up: StartUp, sql: Sql, ping: Callable[[str], bool]
) -> None:
    up = start_up()
    instance = up.ready()
    assert instance.pid == up.process.pid
    assert f"Echo runs at {instance.public_url}" in up.output
    assert sql(instance.database_url, "SELECT count(*) FROM kept") == 0  # the migration ran
    assert ping(instance.redis_url)
    with urllib.request.urlopen(f"{instance.public_url}/healthz") as answer:  # noqa: S310 - our own address
        assert answer.status == 200
    for name in ("api", "worker"):
        up.said(f"| {name} uses {instance.database_url} and {instance.redis_url}")
    assert (up.data_dir / "run" / "instance.json").stat().st_mode & 0o777 == 0o600

    assert up.end() == 0
    assert find_instance(up.data_dir) is None
    assert f"api uses {instance.database_url}" in (up.data_dir / "logs" / "api.log").read_text()


def test_killed_postgres_returns_with_its_data(start_up: StartUp, sql: Sql) -> None:
    up = start_up()
    instance = up.ready()
    sql(instance.database_url, "INSERT INTO kept VALUES ('before')")
    up.child("bin/postgres").kill()
    up.said("postgres ended (signal SIGKILL): restart 1")
    up.said("postgres runs again")
    assert sql(instance.database_url, "SELECT word FROM kept") == "before"
    assert up.end() == 0


def test_killed_valkey_returns_on_its_port(start_up: StartUp, ping: Callable[[str], bool]) -> None:
    up = start_up()
    instance = up.ready()
    up.child("valkey-server").kill()
    up.said("valkey ended (signal SIGKILL): restart 1")
    up.said("valkey runs again")
    assert ping(instance.redis_url)
    assert up.end() == 0


@pytest.mark.parametrize("program", ["api", "worker"])
def test_killed_program_is_started_again(start_up: StartUp, program: str) -> None:
    up = start_up()
    up.ready()
    for times in (1, 2):
        killed = up.child("standin.py", program)
        killed.kill()
        up.said(f"{program} ended (signal SIGKILL): restart {times}")
        up.said(f"{program} runs again", times)
        assert up.child("standin.py", program).pid != killed.pid
    assert up.end() == 0


def test_killed_up_takes_its_children_along_and_the_next_one_starts(start_up: StartUp, sql: Sql) -> None:
    first = start_up()
    instance = first.ready()
    sql(instance.database_url, "INSERT INTO kept VALUES ('before')")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL  # and waits until no child is left
    assert find_instance(first.data_dir) is None

    second = start_up()
    again = second.ready()
    assert again.database_url == instance.database_url
    assert sql(again.database_url, "SELECT word FROM kept") == "before"
    assert second.end() == 0


def test_up_killed_while_starting_leaves_nothing_that_hinders_the_next(start_up: StartUp) -> None:
    first = start_up()
    first.said("starting postgres")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = start_up()
    second.ready()
    assert second.end() == 0


def test_second_up_is_refused_and_names_the_first(start_up: StartUp) -> None:
    first = start_up()
    instance = first.ready()
    second = start_up()
    assert second.wait() == 1
    assert second.output.count(AlreadyRunningError.default_code) == 1
    assert f"process {instance.pid} at {instance.public_url}" in second.output
    assert find_instance(first.data_dir) == instance
    assert first.end() == 0


def test_second_up_is_refused_while_the_first_starts(start_up: StartUp) -> None:
    first = start_up()
    first.said("starting postgres")
    second = start_up()
    assert second.wait() == 1
    assert second.output.count(AlreadyRunningError.default_code) == 1
    assert f"process {first.process.pid}" in second.output
    assert first.end() == 0


def test_taken_port_is_named_before_anything_starts(start_up: StartUp, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        up = start_up()
        assert up.wait() == 1
        assert up.output.count(PortTakenError.default_code) == 1
    assert f"127.0.0.1:{free_port}" in up.output
    assert f"process {os.getpid()}" in up.output
    assert "starting postgres" not in up.output


def test_api_that_cannot_start_ends_up_with_its_reason(start_up: StartUp) -> None:
    up = start_up(api="failing")
    assert up.wait() == 1
    assert up.output.count(StartFailedError.default_code) == 1
    assert "no configuration" in up.output.split("The api did not start")[1]


def test_worker_that_cannot_start_is_tried_again(start_up: StartUp) -> None:
    up = start_up(worker="failing")
    up.said("worker ended (exit code 1): restart 2")
    up.said("| no configuration", 2)
    assert up.end() == 0


def test_second_signal_hurries(start_up: StartUp) -> None:
    up = start_up(worker="deaf")
    up.ready()
    up.said("deaf uses")
    up.descendants()
    up.process.send_signal(signal.SIGINT)
    up.said("stopping; once more to hurry")
    up.process.send_signal(signal.SIGINT)
    assert up.wait() == 0
    assert "hurrying" in up.output


def test_signal_while_starting_stops_cleanly(start_up: StartUp) -> None:
    up = start_up()
    up.said("starting postgres")
    assert up.end(signal.SIGINT) == 0
    assert "Echo runs at" not in up.output
