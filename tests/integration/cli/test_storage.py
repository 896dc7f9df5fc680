"""``echoctl storage`` beside a real instance: moving to another storage, and back."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echo_core.entrypoints.cli.round_trip import CLIP
from tests.fakes.gcs.server import FakeGcs

pytestmark = pytest.mark.integration

PLUGIN = {"PYTHONPATH": str(Path(__file__).parent / "plugin")}
SECOND = {**PLUGIN, "ECHO_PLUGINS__SECOND_STORAGE__FOLDER": "second"}
SWITCHED = {**SECOND, "ECHO_STORAGE__BACKEND": "second"}
THERE = ("storage", "copy", "--from", "local", "--to", "second")


@pytest.fixture
def uploaded(instance: Any, tmp_path: Path) -> str:
    clip = shutil.copy(CLIP, tmp_path / "clip.mp4")
    ran = instance.echoctl("upload", clip, "--watch", "--json")
    assert ran.returncode == 0, ran.stderr
    video_id: str = json.loads(ran.stdout)["files"][0]["videoId"]
    return video_id


def copied(ran: Any, code: int = 0) -> Any:
    assert ran.returncode == code, ran.stderr
    return json.loads(ran.stdout)


def test_a_house_is_moved_from_the_command_line(instance: Any, uploaded: str) -> None:
    planned = copied(instance.echoctl(*THERE, "--dry-run", "--json", **SECOND))
    assert planned["missing"] == planned["objects"] > 5
    assert planned["missingBytes"] == planned["sizeBytes"] > 0
    assert (planned["copied"], planned["failures"]) == (0, [])

    first = instance.echoctl(*THERE, "--parallel", "2", **SECOND)
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    assert f"{planned['objects']} copied" in first.stderr
    assert 'set storage.backend = "second"' in first.stderr

    again = copied(instance.echoctl(*THERE, "--json", **SECOND))
    assert (again["present"], again["copied"], again["repinned"]) == (planned["objects"], 0, 0)

    # The instance of these tests goes on with its own storage; commands that see the switch stand for a restarted one.
    audited = json.loads(instance.echoctl("storage", "audit", "--older-than", "0s", "--json", **SWITCHED).stdout)
    assert audited["findings"] == []
    pins = copied(instance.echoctl(*THERE, "--json", **SWITCHED))
    assert (pins["present"], pins["repinned"]) == (planned["objects"], planned["objects"])

    back = copied(instance.echoctl("storage", "copy", "--from", "second", "--to", "local", "--json", **SECOND))
    assert (back["present"], back["repinned"]) == (planned["objects"], planned["objects"])
    playlist = json.loads(instance.echoctl("jobs", "show", uploaded, "--json").stdout)
    assert playlist["state"] == "succeeded"


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[FakeGcs, dict[str, str]]]:
    """A bucket, and what the configuration says of it."""
    with FakeGcs.serve(tmp_path) as gcs:
        gcs.create_bucket("echo-moving")
        key = tmp_path / "key.json"
        key.write_text(json.dumps(gcs.service_account_info()))
        yield (
            gcs,
            {
                "ECHO_PLUGINS__STORAGE_GCS__BUCKET": "echo-moving",
                "ECHO_PLUGINS__STORAGE_GCS__CREDENTIALS_FILE": str(key),
                "ECHO_PLUGINS__STORAGE_GCS__ENDPOINT": gcs.url,
                "ECHO_PLUGINS__STORAGE_GCS__IAM_ENDPOINT": gcs.url,
            },
        )


def test_a_house_is_moved_into_a_bucket_and_back(
    instance: Any, uploaded: str, bucket: tuple[FakeGcs, dict[str, str]]
) -> None:
    gcs, configured = bucket
    switched = {**configured, "ECHO_STORAGE__BACKEND": "gcs"}
    there = ("storage", "copy", "--from", "local", "--to", "gcs", "--json")
    first = copied(instance.echoctl(*there, **configured))
    assert first["copied"] == first["objects"] == len(gcs.objects("echo-moving"))
    assert [name for name in gcs.objects("echo-moving") if uploaded in name]
    second = copied(instance.echoctl(*there, **switched))
    assert (second["present"], second["repinned"]) == (first["objects"], first["objects"])
    audited = instance.echoctl("storage", "audit", "--older-than", "0s", "--json", **switched)
    assert json.loads(audited.stdout)["findings"] == []
    lost = next(name for name in gcs.objects("echo-moving") if uploaded in name and "/poster/" in name)
    gcs.delete_object("echo-moving", lost)
    third = copied(instance.echoctl(*there, **switched))
    assert (third["copied"], third["repinned"]) == (1, 1)
    elsewhere = {**configured, **SECOND, "ECHO_PLUGINS__SECOND_STORAGE__FOLDER": "from-bucket"}
    fetched = copied(instance.echoctl("storage", "copy", "--from", "gcs", "--to", "second", "--json", **elsewhere))
    assert (fetched["copied"], fetched["failed"]) == (first["objects"], 0)
    back = ("storage", "copy", "--from", "gcs", "--to", "local", "--json")
    fourth = copied(instance.echoctl(*back, **configured))
    assert (fourth["present"], fourth["repinned"]) == (first["objects"], first["objects"])


def test_a_failure_is_1_and_is_told(instance: Any, uploaded: str) -> None:
    instance.echoctl(*THERE, **SECOND)
    second = instance.home / "data" / "second"
    folder = next(p.parent for p in second.rglob("data") if {uploaded, "poster"} <= set(p.parts))
    meta = next(path for path in folder.iterdir() if path.name != "data")
    meta.chmod(0o600)
    facts = json.loads(meta.read_text())
    meta.write_text(json.dumps({**facts, "checksum": "crc32c:00000000"}))
    ran = instance.echoctl(*THERE, "--json", **SECOND)
    failed = copied(ran, code=1)
    assert [(f["key"], f["code"], f["videoId"]) for f in failed["failures"]] == [
        (facts["key"], "object_exists", uploaded)
    ]
    assert f"failed {facts['key']}" in ran.stderr
    audited = json.loads(instance.echoctl("storage", "audit", "--json", **SWITCHED).stdout)
    assert [(f["kind"], f["key"]) for f in audited["findings"]] == [("damaged", facts["key"])]
    assert "--from local --to second" in audited["findings"][0]["remedy"]


def test_ctrl_c_is_130_and_the_same_command_goes_on(instance: Any, uploaded: str) -> None:
    third = {**SECOND, "ECHO_PLUGINS__SECOND_STORAGE__FOLDER": "third"}
    first = instance.start(*THERE, **third, ECHO_PLUGINS__SECOND_STORAGE__STUCK_AFTER="3")
    first.until(lambda line: " objects, " in line)
    scratch = instance.home / "data" / "scratch"
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(30) == 130
    assert not [line for line in first.lines if "Traceback" in line]
    assert not [path for path in scratch.iterdir() if f"-{first.process.pid}-" in path.name]
    rest = copied(instance.echoctl(*THERE, "--json", **third))
    assert rest["failures"] == []
    assert rest["present"] + rest["copied"] == rest["objects"]


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "exit_code"),
    [
        (("--from", "local", "--to", "secund"), SECOND, "unknown_storage", 2),
        (("--from", "local", "--to", "local"), SECOND, "same_storage", 2),
        (("--from", "local", "--to", "second"), PLUGIN, "configuration_invalid", 1),
    ],
    ids=["unknown", "same", "unconfigured"],
)
def test_storages_that_cannot_be_used_are_named(
    instance: Any, arguments: tuple[str, ...], environment: dict[str, str], code: str, exit_code: int
) -> None:
    ran = instance.echoctl("storage", "copy", *arguments, "--json", **environment)
    assert ran.returncode == exit_code
    error = json.loads(ran.stdout)["error"]
    assert error["code"] == code
    expected = {
        "unknown_storage": "did you mean second?",
        "same_storage": "the same",
        "configuration_invalid": "plugins.second_storage.folder",
    }
    assert expected[code] in error["message"]
    assert "Traceback" not in ran.stderr
