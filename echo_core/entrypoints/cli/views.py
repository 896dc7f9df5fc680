"""What uploads and jobs show while they go on: bars on a terminal, a line for each change anywhere else.

Everything here goes to standard error; standard output is for results.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from echo_core.entrypoints.cli.output import plain

if TYPE_CHECKING:
    from echo_core.entrypoints.cli.contract import Job, Step

STYLES = {"succeeded": "green", "failed": "bold red", "running": "cyan", "cancelled": "yellow", "skipped": "dim"}
QUARTER = 25


class View(Protocol):
    """Shows one file at a time."""

    def begin(self, path: Path, size_bytes: int) -> None:
        """A file is next."""

    def sent(self, offset_bytes: int) -> None:
        """How many of its bytes have been handed over."""

    def job(self, job: Job, *, live: bool) -> None:
        """Its job as it is now."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def end(self) -> None:
        """Nothing more of this file."""


class LineView:
    """For logs and pipes: every quarter of an upload and every change of a state is one line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name = ""
        self._size_bytes = 1
        self._quarter = 0
        self._told: dict[str, str] = {}

    def begin(self, path: Path, size_bytes: int) -> None:
        """See ``View``."""
        self._name, self._size_bytes, self._quarter, self._told = path.name, size_bytes, 0, {}
        self.note(f"uploading {size_text(size_bytes)}")

    def sent(self, offset_bytes: int) -> None:
        """See ``View``."""
        quarter = 100 * offset_bytes // max(1, self._size_bytes) // QUARTER
        if quarter > self._quarter:
            self._quarter = quarter
            self.note(f"uploaded {quarter * QUARTER} %")

    def job(self, job: Job, *, live: bool) -> None:
        """See ``View``."""
        if job.queue_position is not None and not job.finished:
            self._once("queue", queue_text(job.queue_position))
        for step in job.steps:
            if step.state not in {"pending", "queued"}:
                self._once(step.name, f"{step.name} {step_state(step)}")
        self._once("job", f"job {job.state}")

    def note(self, text: str) -> None:
        """See ``View``."""
        self._console.print(Text(plain(f"{self._name}: {text}" if self._name else text)), soft_wrap=True)

    def end(self) -> None:
        """See ``View``."""
        self._name = ""

    def _once(self, key: str, text: str) -> None:
        if self._told.get(key) != text:
            self._told[key] = text
            self.note(text)


class TerminalView:
    """For people: a bar with speed and remaining time, then a table of steps that moves."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def begin(self, path: Path, size_bytes: int) -> None:
        """See ``View``."""
        self._task = self._progress.add_task(plain(path.name), total=size_bytes)
        self._live.update(self._progress, refresh=True)

    def sent(self, offset_bytes: int) -> None:
        """See ``View``."""
        if self._task is not None:
            self._progress.update(self._task, completed=offset_bytes)

    def job(self, job: Job, *, live: bool) -> None:
        """See ``View``."""
        self._live.update(Group(self._progress, job_table(job, live=live)))

    def note(self, text: str) -> None:
        """See ``View``."""
        self._console.print(Text(plain(text), style="dim"))

    def end(self) -> None:
        """See ``View``."""
        # What is on the screen stays there: it is printed above whatever comes next.
        self._live.console.print(self._live.get_renderable())
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._live.update(Text(""), refresh=True)


@contextmanager
def open_view(console: Console) -> Iterator[View]:
    """The view that suits the console."""
    if not console.is_terminal:
        yield LineView(console)
        return
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        yield TerminalView(console, live)


def job_table(job: Job, *, live: bool | None = None) -> RenderableType:
    """A job with its steps. ``live`` None: it is not being watched."""
    table = Table(box=None, padding=(0, 1), show_header=True, header_style="dim")
    for heading in ("Step", "State", "", "%", "Attempt", ""):
        table.add_column(heading, justify="right" if heading in {"%", "Attempt"} else "left")
    for step in job.steps:
        table.add_row(
            plain(step.name),
            Text(step.state, style=STYLES.get(step.state, "")),
            ProgressBar(total=100.0, completed=100.0 if step.state == "succeeded" else step.percent, width=24),
            f"{step.percent:.0f}" if step.state in {"running", "succeeded"} else "",
            str(step.attempt) if step.attempt > 1 else "",
            Text(_remark(step), style="red" if step.state == "failed" else "dim"),
        )
    return Group(_headline(job, live), table)


def _headline(job: Job, live: bool | None) -> Text:
    parts = [(f"{job.percent:.0f} %", "bold")]
    if job.eta_seconds is not None and not job.finished:
        parts.append((f"about {duration_text(job.eta_seconds)} left", ""))
    if job.queue_position is not None and not job.finished:
        parts.append((queue_text(job.queue_position), "yellow"))
    if live is not None and not job.finished:
        parts.append(("live", "green") if live else ("asking every second", "yellow"))
    text = Text.assemble("Job ", (job.state, STYLES.get(job.state, "")))
    for part, style in parts:
        text.append("  ·  ").append(part, style=style)
    return text


def queue_text(position: int) -> str:
    """A place in the queue, in words."""
    return f"waiting, {position} before it" if position else "waiting, next in line"


def _remark(step: Step) -> str:
    if step.error is not None and step.state != "succeeded":
        again = "; will be tried again" if step.state in {"queued", "running"} else ""
        remedy = f" {step.error.remedy}" if step.error.remedy and step.state == "failed" else ""
        return plain(f"{step.error.message}{again}{remedy}")
    if step.skipped_reason:
        return plain(step.skipped_reason)
    return plain("; ".join(step.warnings))


def step_state(step: Step) -> str:
    """The state in words, with what there is to say about it."""
    attempt = f" (attempt {step.attempt})" if step.attempt > 1 else ""
    remark = _remark(step)
    return f"{step.state}{attempt}" + (f": {remark}" if remark else "")


def duration_text(seconds: float) -> str:
    """``0:07``, ``12:34``, ``1:02:03``."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def size_text(size_bytes: float) -> str:
    """``12.3 MB``: decimal units, as disks and file managers count."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"
