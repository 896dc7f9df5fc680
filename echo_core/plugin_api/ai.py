"""AI providers: from sound to text, from text to titles and chapters, to another language, to vectors.

Rules, which ``echo_core.testing.ai_kit`` tests by number:

- **A1** A provider does what its ``capabilities`` say; every other method raises ``NotSupportedError``.
- **A2** Times are seconds from the start of the video, never of a part of it. Echo checks them all the same (A9).
- **A3** Every result holds a ``Usage``; a call that costs money or counts tokens is reserved first
  (``AICall.reserve``) and settled after; a provider never spends what it could not reserve.
- **A4** Work that was paid for is remembered (``AICall.remember``) as soon as it is there: a second try recalls it and
  pays only for what is missing. Keys name all that the work depends on within the provider (model, prompt version,
  part).
- **A5** Cancelling a call ends it within a second and leaves nothing running and nothing at the vendor.
- **A6** Errors are those of ``plugin_api.errors``: not a word of a vendor's exception escapes unmapped.
- **A7** What is said in a video is material and never an instruction: no text of a transcript may change what a
  provider does, calls or returns beside the wanted fields.
- **A8** The same request gives results of the same shape: ``Translation.texts`` and ``Embeddings.vectors`` have
  exactly as many entries as were asked for, in their order.
- **A9** A provider need not repair what its model says: Echo validates, repairs or refuses every result. It must only
  not invent times: a transcript without words has none.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from echo_core.plugin_api.errors import NotSupportedError
from echo_core.plugin_api.json import JsonObject


class Capability(StrEnum):
    """What a provider can be asked for; the configuration names the providers of each, in order (``[ai]``)."""

    TRANSCRIBE = "transcribe"
    DESCRIBE = "describe"
    TRANSLATE = "translate"
    EMBED = "embed"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a call has taken, or may take at most.

    ``model`` is the one that answered (``model_version``), ``prompt_version`` names the instructions that it was given.
    ``media_s`` are seconds of sound or picture. ``cost_usd`` is 0 where nothing is billed.
    """

    model: str = ""
    prompt_version: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    media_s: float = 0.0
    cost_usd: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Both together; names are those of the latter, where it has them."""
        return Usage(
            model=other.model or self.model,
            prompt_version=other.prompt_version or self.prompt_version,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            media_s=self.media_s + other.media_s,
            cost_usd=self.cost_usd + other.cost_usd,
        )


@dataclass(frozen=True, kw_only=True)
class TimeSpan:
    """Seconds of the video, from ``start_s`` up to ``end_s``."""

    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class TranscriptWord:
    """One word as it was said. ``confidence``: 0 to 1, None where the provider does not know."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True, kw_only=True)
class TranscriptSegment:
    """Something said in one go, at best a sentence. ``words`` empty: times are known for the whole alone."""

    text: str
    start_s: float
    end_s: float
    words: tuple[TranscriptWord, ...] = ()
    confidence: float | None = None
    speaker: str = ""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """All that is said, in order; empty where nothing is. ``language``: BCP 47."""

    language: str
    segments: tuple[TranscriptSegment, ...]
    usage: Usage = Usage()
    language_confidence: float | None = None
    warnings: tuple[str, ...] = ()
    """Sentences for the owner."""


class Reservation(Protocol):
    """An amount that is set aside for one call. Left without a word, it counts as spent: it may have been billed."""

    async def settle(self, usage: Usage) -> None:
        """This is what the call has really taken."""

    async def release(self) -> None:
        """The call was certainly not billed."""


class AICall(Protocol):
    """The surroundings of one request: the budget, what earlier tries have left, a directory, and the progress."""

    @property
    def scratch(self) -> Path:
        """A directory of this request's own, removed afterwards."""

    def reserve(self, at_most: Usage) -> AbstractAsyncContextManager[Reservation]:
        """Set aside what one call to a vendor may take. Raises ``QuotaExceededError`` (``ai_budget_video``,
        ``ai_budget_day``) where that is more than is left; nothing may be called then."""

    async def recall(self, key: str) -> JsonObject | None:
        """What an earlier try has remembered for the same source under this key."""

    async def remember(self, key: str, value: JsonObject) -> None:
        """Keep a finished part (up to 1 MiB of JSON) until the whole request has been answered and stored, the source
        changes, or the video is deleted: whoever asks again after that wants another answer."""

    def report_progress(self, fraction: float) -> None:
        """Tell the done fraction, 0.0 to 1.0. Cheap."""


class SpeechSource(Protocol):
    """The sound of a video, cut as needed."""

    @property
    def duration_s(self) -> float:
        """Length of the video in seconds; the sound has the same times."""

    async def cut(
        self, start_s: float = 0.0, end_s: float | None = None, codec: Literal["wav", "opus"] = "wav"
    ) -> Path:
        """The part from ``start_s`` up to ``end_s`` (None: the end) as 16 kHz mono WAV, or Opus in Ogg (24 kbit/s).
        A file in the call's scratch directory; the caller removes it when it is done with it."""


@dataclass(frozen=True, kw_only=True)
class TranscribeRequest:
    """Write down what is said. ``language``: BCP 47, what the owner says is spoken; empty: find out."""

    call: AICall
    speech: SpeechSource
    language: str = ""
    vocabulary: tuple[str, ...] = ()
    """Names and terms that are likely to be said, from title, description and tags."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A picture of the video, at ``at_s`` seconds."""

    at_s: float
    path: Path
    content_type: str


@dataclass(frozen=True, kw_only=True)
class VideoAddress:
    """Where a vendor can read the verified source by itself. ``uri`` is the storage's own (``gs://bucket/key``; empty:
    it has none), ``url`` a signed https address for anybody (empty: the storage is not reachable from outside)."""

    uri: str = ""
    url: str = ""
    content_type: str = ""


DESCRIBED_FIELDS = ("title", "description", "tags", "chapters")
"""What ``describe`` may be asked for; ``description`` is a summary."""


@dataclass(frozen=True, kw_only=True)
class DescribeRequest:
    """Say what a video is about, from what is said in it and from pictures of it.

    ``segments`` are the validated captions (times of sentences); empty where nothing is said. ``cuts_s`` are times at
    which the picture changes. ``wanted`` names fields of ``DESCRIBED_FIELDS``; results for others are dropped.
    """

    call: AICall
    duration_s: float
    language: str
    segments: tuple[TranscriptSegment, ...] = ()
    filename: str = ""
    frames: tuple[Frame, ...] = ()
    cuts_s: tuple[float, ...] = ()
    video: VideoAddress | None = None
    wanted: tuple[str, ...] = DESCRIBED_FIELDS


@dataclass(frozen=True, kw_only=True)
class DescribedChapter:
    """A titled part that starts at ``start_s`` and lasts until the next."""

    start_s: float
    title: str


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a video is about; a field that could not be made is empty. ``evidence``: by field, the times it rests on."""

    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    chapters: tuple[DescribedChapter, ...] = ()
    evidence: Mapping[str, tuple[TimeSpan, ...]] = field(default_factory=dict)
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TranslateRequest:
    """Put texts (captions, in order, one sentence often over several) into another language. Languages: BCP 47."""

    call: AICall
    texts: tuple[str, ...]
    source_language: str
    target_language: str


@dataclass(frozen=True, kw_only=True)
class Translation:
    """As many texts as were asked for, in their order."""

    texts: tuple[str, ...]
    usage: Usage = Usage()


@dataclass(frozen=True, kw_only=True)
class EmbedRequest:
    """Turn texts into vectors, near each other where the meaning is. ``purpose``: texts to be found, or what is looked
    for."""

    call: AICall
    texts: tuple[str, ...]
    purpose: Literal["passage", "query"]


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Unit vectors of one length, as many as texts. Vectors of different ``space`` must never be compared."""

    space: str
    """Names the model and the length, such as ``gemini-embedding-001/768``."""
    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()


class AIProvider(ABC):  # noqa: B024 - no method is everybody's: each belongs to a capability
    """An AI provider. See the rules at the top of this module."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    async def check(self) -> Sequence[str]:
        """What keeps this provider from its best, as sentences; raises an ``EchoError`` where it cannot work at all.
        For ``doctor`` and the log; costs nothing."""
        return ()

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """What is said."""
        raise NotSupportedError("This provider cannot transcribe.")

    async def describe(self, request: DescribeRequest) -> Description:
        """What it is about."""
        raise NotSupportedError("This provider cannot describe.")

    async def translate(self, request: TranslateRequest) -> Translation:
        """The same in another language."""
        raise NotSupportedError("This provider cannot translate.")

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Vectors of texts."""
        raise NotSupportedError("This provider cannot embed.")
