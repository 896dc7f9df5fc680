"""What ``echoctl storage copy`` shows."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from echo_core.application.ports import StoredTotals
from echo_core.application.storage_copy import CopiedObject, Outcome, StorageCopy
from echo_core.domain.ids import new_video_id
from echo_core.entrypoints.cli.copying import CopyBar, CopyLines, copy_as_json, open_copy_view, summary

TOTALS = StoredTotals(objects=3, size_bytes=3000, unfinished=2)


def copied(outcome: Outcome = Outcome.COPIED, *, key: str = "videos/x/a", **more: Any) -> CopiedObject:
    return CopiedObject(key=key, video_id=new_video_id(), size_bytes=1000, outcome=outcome, **more)


def failed() -> CopiedObject:
    return copied(Outcome.FAILED, key="videos/x/b\x1b[2J", code="no", problem="It broke.", remedy="Mend it.")


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=120, color_system=None), out


def test_without_a_terminal_there_is_a_line_now_and_then_with_rate_and_time() -> None:
    now_s = 100.0
    made, out = console(terminal=False)
    view = CopyLines(made, lambda: now_s)
    view.begin(TOTALS)
    view.told(copied())
    now_s = 110.0
    view.told(copied(Outcome.PRESENT))
    view.told(failed())
    lines = out.getvalue().splitlines()
    assert lines == [
        "3 objects, 3.0 kB",
        "2 of 3 objects, 2.0 kB of 3.0 kB, 100 bytes/s, about 0:10 left",
        "failed videos/x/b [2J: It broke. Mend it. (no)",
    ]


def test_on_a_terminal_there_is_a_bar_and_failures_stay() -> None:
    made, out = console(terminal=True)
    with open_copy_view(made) as view:
        assert isinstance(view, CopyBar)
        view.begin(TOTALS)
        view.told(copied())
        view.told(failed())
    assert "2/3 objects" in out.getvalue()
    assert "failed videos/x/b [2J: It broke. Mend it. (no)" in out.getvalue()


def result(*objects: CopiedObject) -> StorageCopy:
    made = StorageCopy(totals=TOTALS)
    for one in objects:
        made.add(one)
    return made


def told(*objects: CopiedObject, selected: str = "local", dry_run: bool = False) -> str:
    return "\n".join(summary(result(*objects), source="local", target="gcs", selected=selected, dry_run=dry_run))


def test_the_summary_says_what_happened_and_what_comes_next() -> None:
    text = told(copied(), copied(Outcome.PRESENT))
    assert "2 objects, 2.0 kB: 1 copied (1.0 kB), 1 there already, 0 deleted meanwhile, 0 failed." in text
    assert "2 unfinished uploads are not copied" in text
    assert 'set storage.backend = "gcs"' in text
    assert "same command again" in told(copied(), failed())
    assert "storage.backend" not in told(copied(), failed())
    switched = told(copied(repinned=True), selected="gcs")
    assert "1 rows name the storage gcs from now on." in switched
    assert "storage.backend" not in switched
    assert "1 to copy (1.0 kB)" in told(copied(Outcome.MISSING), dry_run=True)


def test_json_counts_every_outcome() -> None:
    document = copy_as_json(result(copied(), copied(Outcome.GONE), failed()))
    assert {name: document[name] for name in ("copied", "present", "missing", "gone", "failed")} == {
        "copied": 1,
        "present": 0,
        "missing": 0,
        "gone": 1,
        "failed": 1,
    }
    assert (document["objects"], document["sizeBytes"], document["copiedBytes"]) == (3, 3000, 1000)
    assert document["unfinishedUploads"] == 2
    (failure,) = document["failures"]  # type: ignore[misc]
    assert (failure["code"], failure["remedy"]) == ("no", "Mend it.")
