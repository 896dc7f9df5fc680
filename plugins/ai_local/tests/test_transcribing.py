"""Real speech through the real model, in its own process."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import jiwer
import pytest
from echo_ai_local.config import LocalAIConfig
from echo_ai_local.models import BUNDLED, SHA256
from echo_ai_local.provider import LocalAIProvider

from echo_core.plugin_api import InvalidRequestError, TranscribeRequest, UnavailableError
from tests.fakes.speech import clips, joined

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not clips(), reason="needs pocketsphinx-testdata: make system-packages"),
]


def plain(text: str) -> str:
    words = jiwer.Compose([jiwer.ToLowerCase(), jiwer.SubstituteRegexes({"mr\\.": "mister", "-": " "})])(text)
    return str(jiwer.RemovePunctuation()(words))


def peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


async def test_writes_down_what_people_say(provider, call, speech, record_property) -> None:
    transcript = await provider.transcribe(TranscribeRequest(call=call, speech=speech(joined(clips()))))
    said = plain(" ".join(segment.text for segment in transcript.segments))
    rate = jiwer.wer(plain(" ".join(clip.text for clip in clips())), said)
    record_property("word_error_rate", rate)
    assert transcript.language == "en"
    assert rate <= 0.03, said
    for segment in transcript.segments:
        # "ill-disposed" is one word, however the model hears its second half.
        assert [word.text for word in segment.words] == segment.text.split()
    assert peak_mb(provider.child.pid) <= 700


async def test_a_retry_listens_only_to_what_is_missing(provider, call, speech) -> None:
    pcm = joined(clips()) * 3
    after_first: list[float] = []

    def kill_within_the_second_slice() -> None:
        if any(key.startswith("slice/") for key in call.kept):
            after_first.append(call.progress[-1])
        if len(after_first) == 2:  # the first is told by the parent, the second by the child
            os.kill(provider.child.pid, signal.SIGKILL)

    call.on_progress = kill_within_the_second_slice
    with pytest.raises(UnavailableError) as failed:
        await provider.transcribe(TranscribeRequest(call=call, speech=speech(pcm), language="en"))
    assert failed.value.code == "ai_local_killed"
    assert failed.value.retryable
    call.on_progress = lambda: None
    again = speech(pcm)
    transcript = await provider.transcribe(TranscribeRequest(call=call, speech=again, language="en"))
    assert 0.0 not in again.cuts
    assert transcript.segments[-1].end_s <= again.duration_s


async def test_cancelling_ends_the_process(provider, call, speech) -> None:
    task = asyncio.create_task(
        provider.transcribe(TranscribeRequest(call=call, speech=speech(joined(clips())), language="en"))
    )
    while provider.child.pid is None:  # noqa: ASYNC110 - nothing tells of the start of a process
        await asyncio.sleep(0.01)
    pid = provider.child.pid
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("sound", ["silence", "noise", "tone"])
async def test_invents_no_text(provider, call, speech, sound) -> None:
    chance = random.Random(7)  # noqa: S311 - noise is no secret
    pcm = {
        "silence": b"\0\0" * 16_000 * 40,
        "noise": b"".join(chance.randint(-2000, 2000).to_bytes(2, "little", signed=True) for _ in range(16_000 * 40)),
        "tone": b"".join((4000 if n // 18 % 2 else -4000).to_bytes(2, "little", signed=True) for n in range(640_000)),
    }[sound]
    for language in ("", "en"):
        transcript = await provider.transcribe(TranscribeRequest(call=call, speech=speech(pcm), language=language))
        assert transcript.segments == ()


async def test_refuses_another_model(tmp_path, call, speech) -> None:
    folder = tmp_path / "models" / BUNDLED
    folder.mkdir(parents=True)
    for name in SHA256:
        (folder / name).write_bytes(b"not it")
    provider = LocalAIProvider(LocalAIConfig(), tmp_path)
    with pytest.raises(InvalidRequestError, match="not the model that it should be"):
        await provider.transcribe(TranscribeRequest(call=call, speech=speech(b"\0\0" * 16_000 * 3), language="en"))
    await provider.aclose()
