"""What ffmpeg's failures mean to Echo: its exit status and last lines, mapped once to the error tree."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from echo_core.plugin_api import (
    EchoError,
    InsufficientStorageError,
    InvalidRequestError,
    ProviderError,
    UnavailableError,
)
from echo_transcode_ffmpeg.process import Outcome

_ADDRESS = re.compile(r"(\[[^\]@]+) @ 0x[0-9a-f]+\]")
_REFUSED_CODEC = re.compile(r"Codec \((\w+)\) not on whitelist")
_TRUNCATED = ("moov atom not found", "Invalid data found")
_MP4_BOXES = (b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip")
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
_NO_MEMORY = ("Cannot allocate memory", "Resource temporarily unavailable")
_TOO_LARGE = ("File too large",)
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS})
"""A decoder that stumbled over the file, or one that was stopped at a call it has no business to make."""
_UNREADABLE = (
    "Invalid data found when processing input",
    "not on whitelist",
    "Decoder not found",
    "does not contain",
    "Cannot determine format of input stream",  # not one picture could be decoded
)


def unreadable(message: str, code: str, remedy: str) -> InvalidRequestError:
    """An input that no retry will make readable (T2)."""
    return InvalidRequestError(message, code=code, remedy=remedy)


def with_lines(error: EchoError, lines: tuple[str, ...], path: Path) -> EchoError:
    """Attach ffmpeg's last lines, without addresses in memory and without the place of the file."""
    error.log_tail = tuple(tidy(line, path) for line in lines[-20:])
    return error


def tidy(line: str, path: Path) -> str:
    """One line of ffmpeg, fit for the owner of the video: says ``source`` instead of where the file lies."""
    text = _ADDRESS.sub(r"\1]", line).replace(f"file:{path}", "source").replace(str(path), "source")
    return text.replace(str(path.parent), "…")


def inspection_failed(outcome: Outcome, path: Path, head: bytes) -> EchoError:
    """The error for a probe that found nothing it could read; ``head``: the file's first bytes.

    ffmpeg takes anything named ``.mp4`` for an MP4 without its index; only what looks like one is called cut off.
    """
    text = "\n".join(outcome.errors)
    refused = _REFUSED_CODEC.search(text)
    if refused:
        error = unreadable(
            f"The file holds a stream of the kind {refused[1]}, which is not accepted.",
            "media_codec_unsupported",
            "Export the video as MP4 (H.264, AAC) and upload that.",
        )
    elif head[4:8] in _MP4_BOXES and any(mark in text for mark in _TRUNCATED):
        error = unreadable(
            "The file is cut off: the part that says where its pictures and sounds lie is missing.",
            "media_truncated",
            "Upload the whole file again; if it is a recording that was interrupted, repair it first.",
        )
    else:
        error = unreadable(
            "The file is not a video or sound file that can be read.",
            "media_unreadable",
            "Upload a video such as MP4, MOV, MKV or WebM; if it plays elsewhere, export it again as MP4.",
        )
    return with_lines(error, outcome.errors, path)


def lost_output(outcome: Outcome) -> bool:
    """Whether bytes could not be written. ffmpeg 5 says so and exits with 0 where only its last write failed."""
    return any(mark in line for line in outcome.errors for mark in (*_NO_SPACE, *_TOO_LARGE))


def run_failed(outcome: Outcome, path: Path, doing: str) -> EchoError:
    """The error for an ffmpeg that failed or lost output while ``doing`` (``encoding``, ``making the poster``)."""
    text = "\n".join(outcome.errors)
    error: EchoError
    if any(mark in text for mark in _NO_SPACE):
        error = InsufficientStorageError(f"The disk became full while {doing}.")
    elif outcome.returncode == -signal.SIGXCPU:
        error = ProviderError(f"The limit of processor time was reached while {doing}.", code="transcode_cpu_limit")
    elif any(mark in text for mark in _TOO_LARGE):
        error = ProviderError(
            f"What ffmpeg wrote grew far beyond the source while {doing}.",
            code="transcode_output_too_large",
            remedy="Export the file again as MP4 (H.264, AAC) and upload that.",
        )
    elif -outcome.returncode in _CRASHES:
        error = ProviderError(
            f"ffmpeg crashed while {doing}.",
            code="transcode_crashed",
            remedy="Export the file again as MP4 (H.264, AAC) and upload that; a newer ffmpeg may help too.",
        )
    elif outcome.returncode < 0 or any(mark in text for mark in _NO_MEMORY):
        error = UnavailableError(
            f"ffmpeg was ended by the system while {doing}.",
            code="transcode_killed",
            remedy="Give the worker more memory, or raise memory_limit_bytes, then try again.",
        )
    elif any(mark in text for mark in _UNREADABLE):
        error = unreadable(
            f"The file could not be decoded while {doing}.",
            "media_undecodable",
            "Check that the file plays to its end; export it again as MP4 (H.264, AAC) and upload that.",
        )
    else:
        last = tidy(outcome.errors[-1], path) if outcome.errors else f"exit status {outcome.returncode}"
        error = ProviderError(f"ffmpeg failed while {doing}: {last}", code="transcode_failed")
    return with_lines(error, outcome.errors, path)


def timed_out(doing: str, *, stalled: bool) -> EchoError:
    """The error for an ffmpeg that took too long, or stood still."""
    what = "made no progress any more" if stalled else "took longer than its limit"
    return UnavailableError(
        f"ffmpeg {what} while {doing}.",
        code="transcode_stalled" if stalled else "transcode_timeout",
        remedy="Try again when the machine is less busy; if it happens again, export the file again as MP4.",
    )
