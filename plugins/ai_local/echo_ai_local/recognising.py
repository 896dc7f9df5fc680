"""Speech recognition with faster-whisper; runs in the child alone, which is the only one to import it."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.vad import VadOptions, get_speech_timestamps

from echo_ai_local.models import bundled_model, given_model

RATE = 16_000
CUT_FROM = 0.7
"""A slice that is not the last is cut at its longest silence after this part of it."""
# Whisper invents text where nobody speaks. It tells so itself: no speech is likely, and so are other words.
NO_SPEECH = 0.6
JOINING = "-\u2010'\u2019"
"""Hyphens and apostrophes, which join what follows them to the word before."""
ECHO_GAP_S = 0.1
UNSURE_LOGPROB = -0.8
REPEATING_RATIO = 2.4


class Recogniser:
    """A loaded model. ``settings`` are those of ``worker.py``."""

    def __init__(self, settings: dict[str, Any]) -> None:
        if settings["model"]:
            path = given_model(Path(settings["model"]), settings["model_sha256"])
        else:
            path = bundled_model(Path(settings["model_cache"]))
        self._beam_size: int = settings["beam_size"]
        self._model = WhisperModel(
            str(path), device="cpu", compute_type="int8", cpu_threads=settings["threads"], local_files_only=True
        )

    def detect(self, path: Path) -> dict[str, Any]:
        """Probabilities of languages by code, and the seconds of speech that they rest on."""
        sound = _read(path)
        spoken = _speech(sound)
        seconds = sum(end - start for start, end in spoken) / RATE
        if not spoken:
            return {"speech_s": 0.0, "languages": {}}
        speech = np.concatenate([sound[start:end] for start, end in spoken])[: 30 * RATE]
        _, _, all_languages = self._model.detect_language(audio=speech)
        likely = sorted(all_languages, key=lambda found: -found[1])[:8]
        return {"speech_s": seconds, "languages": {code: round(float(share), 4) for code, share in likely}}

    def transcribe(self, request: dict[str, Any], tell: Callable[[float], None]) -> dict[str, Any]:
        """Segments of the sound in ``path``, in its own seconds, up to ``end_s``.

        That is its end where ``last``, else a silence near it.
        """
        sound = _read(Path(request["path"]))
        spoken = _speech(sound)
        if not request["last"]:
            sound = sound[: _cut(spoken, len(sound))]
        length_s = len(sound) / RATE
        result: dict[str, Any] = {"end_s": length_s, "segments": []}
        if not any(start < len(sound) for start, _ in spoken):
            return result
        segments, _ = self._model.transcribe(
            sound,
            language=request["language"],
            beam_size=self._beam_size,
            word_timestamps=True,
            vad_filter=True,
            vad_parameters=_VAD,
            condition_on_previous_text=False,  # otherwise one slip is repeated for minutes
            hotwords=request["vocabulary"] or None,
            no_speech_threshold=NO_SPEECH,
            hallucination_silence_threshold=2.0,
        )
        before: list[Any] | None = None
        for segment in segments:
            tell(min(1.0, segment.end / length_s))
            if segment.no_speech_prob > NO_SPEECH and segment.avg_logprob < UNSURE_LOGPROB:
                continue
            if segment.compression_ratio > REPEATING_RATIO or not segment.text.strip():
                continue
            words = _joined([[w.word, float(w.start), float(w.end), float(w.probability)] for w in segment.words or ()])
            text, start_s = segment.text.strip(), float(segment.start)
            if words and _is_echo(words[0], before):
                # The next window of 30 s began within the word with which the last one ended.
                text, words = text.partition(" ")[2], words[1:]
                start_s = words[0][1] if words else start_s
            if not text:
                continue
            before = words[-1] if words else None
            result["segments"].append([text, round(start_s, 3), round(float(segment.end), 3), words])
        return result


def _joined(words: list[list[Any]]) -> list[list[Any]]:
    """Words with what belongs to them: a model hears ``ill`` and ``-disposed``."""
    found: list[list[Any]] = []
    for text, start_s, end_s, sure in words:
        if found and text[:1] in JOINING and len(text) > 1:
            last = found[-1]
            found[-1] = [last[0] + text, last[1], round(end_s, 3), round(min(last[3], sure), 3)]
        else:
            found.append([text, round(start_s, 3), round(end_s, 3), round(sure, 3)])
    return found


def _is_echo(word: list[Any], before: list[Any] | None) -> bool:
    """Whether a window began with the end of the word before it: the same word, with nothing between."""
    if before is None or word[1] - before[2] > ECHO_GAP_S:
        return False
    return _letters(word[0]) == _letters(before[0]) != ""


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


_VAD = VadOptions(threshold=0.5, min_speech_duration_ms=200, min_silence_duration_ms=700, speech_pad_ms=300)


def _read(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    with wave.open(str(path), "rb") as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise ValueError("the sound is not 16 kHz mono of 16 bits")
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return samples.astype(np.float32) / 32768.0


def _speech(sound: np.ndarray[Any, np.dtype[np.float32]]) -> list[tuple[int, int]]:
    """Where somebody speaks, in samples. By the minute: the detector holds a window of all that it is given."""
    found: list[tuple[int, int]] = []
    for offset in range(0, len(sound), 60 * RATE):
        part = sound[offset : offset + 60 * RATE]
        found += [(offset + s["start"], offset + s["end"]) for s in get_speech_timestamps(part, _VAD)]
    return found


def _cut(spoken: list[tuple[int, int]], length: int) -> int:
    """The middle of the longest silence in the last part; where there is none, the end."""
    edges = [0, *(edge for span in spoken for edge in span), length]
    gaps = [(max(start, int(length * CUT_FROM)), end) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    start, end = max(gaps, key=lambda gap: gap[1] - gap[0])
    return (start + end) // 2 if end - start > RATE // 5 else length
