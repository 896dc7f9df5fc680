"""What ``echoctl storage copy`` shows while it goes on and at its end: a bar on a terminal, lines anywhere else.

Everything here goes to standard error; standard output is for results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from echo_core.application.storage_copy import CopiedObject, Outcome, StorageCopy
from echo_core.entrypoints.cli.output import plain
from echo_core.entrypoints.cli.views import duration_text, size_text

if TYPE_CHECKING:
    from echo_core.application.ports import StoredTotals

LINE_EVERY_S = 10.0


class CopyView(Protocol):
    """Shows how far a copy is."""

    def begin(self, totals: StoredTotals) -> None:
        """So much is to be looked at."""

    def told(self, copied: CopiedObject) -> None:
        """One object is done."""


class CopyLines:
    """For logs and pipes: a line now and then, and one for each failure."""

    def __init__(self, console: Console, now_s: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._now_s = now_s
        self._objects = 0
        self._size_bytes = 0
        self._copied_bytes = 0
        self._began_s = self._told_s = now_s()
        self._totals: StoredTotals | None = None

    def begin(self, totals: StoredTotals) -> None:
        """See ``CopyView``."""
        self._totals = totals
        self._began_s = self._told_s = self._now_s()
        self._say(f"{totals.objects} objects, {size_text(totals.size_bytes)}")

    def told(self, copied: CopiedObject) -> None:
        """See ``CopyView``."""
        self._objects += 1
        self._size_bytes += copied.size_bytes
        self._copied_bytes += copied.size_bytes if copied.outcome is Outcome.COPIED else 0
        if copied.outcome is Outcome.FAILED:
            self._say(failure_text(copied))
        now_s = self._now_s()
        if now_s - self._told_s >= LINE_EVERY_S and self._totals is not None:
            self._told_s = now_s
            self._say(self._progress_text(self._totals, now_s - self._began_s))

    def _progress_text(self, totals: StoredTotals, seconds: float) -> str:
        text = (
            f"{self._objects} of {totals.objects} objects, {size_text(self._size_bytes)} of "
            f"{size_text(totals.size_bytes)}"
        )
        if not self._copied_bytes:
            return text  # what was there already tells nothing about the rest
        bytes_per_s = self._copied_bytes / seconds
        left_s = max(0, totals.size_bytes - self._size_bytes) / bytes_per_s
        return f"{text}, {size_text(bytes_per_s)}/s, about {duration_text(left_s)} left"

    def _say(self, text: str) -> None:
        self._console.print(Text(plain(text)), soft_wrap=True)


class CopyBar:
    """For people: one bar, in bytes, with the number of objects, the rate and the time that remains."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress
        self._task = progress.add_task("", total=None, objects="")
        self._objects = 0
        self._total = 0

    def begin(self, totals: StoredTotals) -> None:
        """See ``CopyView``."""
        self._total = totals.objects
        self._progress.update(self._task, total=totals.size_bytes, objects=self._count())

    def told(self, copied: CopiedObject) -> None:
        """See ``CopyView``."""
        self._objects += 1
        self._progress.update(self._task, advance=copied.size_bytes, objects=self._count())
        if copied.outcome is Outcome.FAILED:
            self._console.print(Text(plain(failure_text(copied)), style="red"), soft_wrap=True)

    def _count(self) -> str:
        # More than there were, when videos are uploaded meanwhile.
        return f"{self._objects}/{max(self._total, self._objects)} objects"


@contextmanager
def open_copy_view(console: Console) -> Iterator[CopyView]:
    """The view that suits the console."""
    if not console.is_terminal:
        yield CopyLines(console)
        return
    columns = (
        TextColumn("{task.fields[objects]}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield CopyBar(console, progress)


def failure_text(copied: CopiedObject) -> str:
    """A failure in a line."""
    return f"failed {copied.key}: {copied.problem} {copied.remedy}".strip() + f" ({copied.code})"


def summary(result: StorageCopy, *, source: str, target: str, selected: str, dry_run: bool) -> Sequence[str]:
    """What happened, and what is to be done next."""
    counts, sizes_bytes = result.counts, result.sizes_bytes
    done = Outcome.MISSING if dry_run else Outcome.COPIED
    parts = [
        f"{counts[done]} {'to copy' if dry_run else 'copied'} ({size_text(sizes_bytes[done])})",
        f"{counts[Outcome.PRESENT]} there already",
        f"{counts[Outcome.GONE]} deleted meanwhile",
        f"{counts[Outcome.FAILED]} failed",
    ]
    lines = [f"{result.objects} objects, {size_text(result.size_bytes)}: {', '.join(parts)}."]
    if target == selected:
        verb = "would name" if dry_run else "name"
        lines.append(f"{result.repinned} rows {verb} the storage {target} from now on.")
    if result.totals.unfinished:
        lines.append(f"{result.totals.unfinished} unfinished uploads are not copied: they have no object yet.")
    if result.failures:
        lines.append("Run the same command again when the cause is gone: it goes on with what failed.")
    elif target != selected and not dry_run:
        lines.append(
            f'The instance still uses the storage {selected}. Let its jobs end, set storage.backend = "{target}", '
            "restart, and run the same command again."
        )
    return lines


def copy_as_json(result: StorageCopy) -> dict[str, object]:
    """The documented form."""
    outcomes = {outcome.value: result.counts[outcome] for outcome in Outcome}
    return {
        "objects": result.objects,
        "sizeBytes": result.size_bytes,
        **outcomes,
        "copiedBytes": result.sizes_bytes[Outcome.COPIED],
        "missingBytes": result.sizes_bytes[Outcome.MISSING],
        "repinned": result.repinned,
        "unfinishedUploads": result.totals.unfinished,
        "failures": [
            {
                "key": copied.key,
                "videoId": str(copied.video_id),
                "sizeBytes": copied.size_bytes,
                "code": copied.code,
                "message": copied.problem,
                "remedy": copied.remedy,
            }
            for copied in result.failures
        ],
    }
