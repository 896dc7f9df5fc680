"""Progress (T4) and the words for ffmpeg's failures."""

import itertools
import signal
from pathlib import Path

import pytest
from echo_transcode_ffmpeg.errors import run_failed, timed_out
from echo_transcode_ffmpeg.process import Outcome
from echo_transcode_ffmpeg.running import Progress
from hypothesis import given
from hypothesis import strategies as st

from echo_core.plugin_api import (
    EchoError,
    InsufficientStorageError,
    InvalidRequestError,
    ProviderError,
    UnavailableError,
)

PATH = Path("/private/place/film.mp4")


def failure(returncode: int, *lines: str) -> EchoError:
    return run_failed(
        Outcome(returncode=returncode, stdout=b"", errors=lines, error_count=len(lines)), PATH, "encoding"
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(-(10**7), 10**9))))
def test_progress_never_falls_and_never_hurries(steps: list[tuple[float, int]]) -> None:
    now = 0.0
    told: list[tuple[float, float]] = []
    progress = Progress(100.0, lambda fraction: told.append((now, fraction)), clock=lambda: now)
    for passed_s, out_time_us in steps:
        now += passed_s
        progress.line(f"out_time_us={out_time_us}")
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert all(0 <= fraction < 1 for fraction in fractions)
    assert all(later - earlier >= 0.1 for (earlier, _), (later, _) in itertools.pairwise(told))


def test_only_a_changed_position_counts_as_progress() -> None:
    progress = Progress(10.0, lambda fraction: None)
    assert progress.line("out_time_us=1000")
    assert not progress.line("out_time_us=1000")
    assert not progress.line("speed=1x")
    assert progress.line("out_time_us=2000")


@pytest.mark.parametrize(
    ("error", "kind", "code", "retryable"),
    [
        (
            failure(1, "av_interleaved_write_frame(): No space left on device"),
            InsufficientStorageError,
            "insufficient_storage",
            True,
        ),
        (failure(1, "Cannot allocate memory"), UnavailableError, "transcode_killed", True),
        (failure(-signal.SIGKILL), UnavailableError, "transcode_killed", True),
        (failure(-signal.SIGXCPU), ProviderError, "transcode_cpu_limit", False),
        (failure(-signal.SIGSEGV), ProviderError, "transcode_crashed", False),
        (failure(1, "file:a.mp4: File too large"), ProviderError, "transcode_output_too_large", False),
        (failure(1, "x: Invalid data found when processing input"), InvalidRequestError, "media_undecodable", False),
        (failure(1, "Conversion failed!"), ProviderError, "transcode_failed", False),
        (timed_out("encoding", stalled=True), UnavailableError, "transcode_stalled", True),
        (timed_out("encoding", stalled=False), UnavailableError, "transcode_timeout", True),
    ],
)
def test_failures_have_a_kind_and_a_code(error: EchoError, kind: type[EchoError], code: str, retryable: bool) -> None:
    assert (type(error), error.code, error.retryable) == (kind, code, retryable)


def test_the_place_of_the_file_and_addresses_stay_private() -> None:
    error = failure(1, f"[mov @ 0x55d0] file:{PATH}: odd", f"{PATH.parent}/x failed")
    text = error.message + "".join(error.log_tail)
    assert "/private" not in text
    assert "0x" not in text
