"""Pipeline steps: units of work on a video, run by workers, at least once, fenced by a lease.

A step says what it consumes and produces by product names (``source``, ``media``, ``renditions`` …). It runs when
every product that it consumes exists; ``after`` only orders it behind other steps, however those ended. A step whose
input can no longer come to exist is skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from uuid import UUID

from echo_core.plugin_api.json import JsonObject
from echo_core.plugin_api.storage import StorageBackend
from echo_core.plugin_api.transcoder import Segment, Transcoder


class Resource(StrEnum):
    """What a step mainly uses; each class has slots of its own, so that a quick step never waits behind an encode, nor
    a publication behind speech recognition. ``AI``: it asks an AI provider, be that a service or a local model."""

    LIGHT = "light"
    CPU = "cpu"
    NET = "net"
    AI = "ai"


@dataclass(frozen=True, kw_only=True)
class ArtefactFile:
    """A file that a step made and that shall be kept. ``name`` is its last path part and unique within the step.

    ``segments`` (with ``init_length_bytes``) make it streamable by byte ranges; ``facts`` are what readers need to
    know (codecs, size of the picture).
    """

    kind: str
    name: str
    path: Path
    content_type: str
    facts: JsonObject = field(default_factory=dict)
    init_length_bytes: int = 0
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FurtherStep:
    """A step that another one adds to its own job, once it knows how many there must be.

    ``spec`` names a ``StepSpec`` with ``further=True``; ``number`` tells the steps of one spec apart. Both make its
    name, ``piece.003``. ``share`` is its part, 0 to 1, of the work that the spec's ``weight`` stands for.
    """

    spec: str
    number: int = 0
    consumes: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    share: float = 1.0

    @property
    def name(self) -> str:
        """Unique within the job."""
        return f"{self.spec}.{self.number:03d}"


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step leaves: ``output`` goes to the steps that consume its products, ``artefacts`` to storage.

    ``skipped_reason`` says that there was nothing to do (the products then do not exist). ``warnings`` are sentences
    for the owner. ``further`` steps are added to the job; those of the same names, from an earlier run, are replaced.
    ``discards``: kinds of artefacts, of whichever step of the job, that nobody needs any more.
    """

    output: JsonObject = field(default_factory=dict)
    artefacts: Sequence[ArtefactFile] = ()
    skipped_reason: str = ""
    warnings: Sequence[str] = ()
    further: Sequence[FurtherStep] = ()
    discards: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class StoredArtefact:
    """An artefact of the video as it is kept: ``key`` and ``generation`` read it from the storage;
    an empty ``generation`` pins nothing: the object was copied here from another storage."""

    kind: str
    name: str
    step: str
    key: str
    generation: str
    size_bytes: int
    facts: JsonObject = field(default_factory=dict)
    init_length_bytes: int = 0
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepVideo:
    """The video that a step works on. ``source_generation`` pins the bytes that were verified. Where it is empty, they
    were copied here from another storage, and only ``source_checksum`` tells them."""

    id: UUID
    owner_id: UUID
    title: str
    filename: str
    content_type: str
    size_bytes: int
    source_key: str
    source_generation: str
    source_checksum: str


@dataclass(frozen=True, kw_only=True)
class StepOutlook:
    """What is known of a step before it starts, for ``StepSpec.needs``.

    ``source_bytes`` is what ``fetch_source`` would take of the scratch disk: nothing where the storage can link.
    """

    video: StepVideo
    inputs: Mapping[str, JsonObject]
    source_bytes: int
    transcoder: Transcoder


class StepContext(Protocol):
    """What a running step may use. All of it is good only until ``run`` returns."""

    @property
    def video(self) -> StepVideo:
        """The video."""

    @property
    def attempt(self) -> int:
        """1 for the first try."""

    @property
    def number(self) -> int:
        """Which one it is of several steps of its spec (``FurtherStep.number``)."""

    @property
    def inputs(self) -> Mapping[str, JsonObject]:
        """The outputs of earlier steps, by product name: all that exist now, at least the consumed ones."""

    @property
    def scratch(self) -> Path:
        """An empty directory of this attempt's own, removed afterwards."""

    @property
    def storage(self) -> StorageBackend:
        """The instance's storage."""

    @property
    def transcoder(self) -> Transcoder:
        """The instance's transcoder."""

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """Carries the ids and the correlation id of this step."""

    async def fetch_source(self) -> Path:
        """The verified source as a local read-only file in a directory of its own. Fetched once."""

    def report_progress(self, fraction: float) -> None:
        """Tell the done fraction, 0.0 to 1.0. Cheap: call it as often as you like."""

    async def publish(self, artefacts: Sequence[ArtefactFile]) -> None:
        """Store and record artefacts now, before the step ends, so that a viewer can use them already."""

    async def stored(self, kind: str) -> Sequence[StoredArtefact]:
        """The video's artefacts of this kind, ordered by name."""

    async def slots(self, resource: Resource) -> int:
        """How many steps of this class all living workers together can run at once."""


class StepHandler(Protocol):
    """The work of a step. Must be repeatable: it may run again after a crash."""

    async def run(self, context: StepContext) -> StepResult:
        """Do the work. Raise an ``EchoError`` to fail (``retryable`` ones are tried again); let ``CancelledError``
        pass: it means cancel, shutdown or a lost lease."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Waits between attempts: exponential from ``first_delay_s``, at most ``max_delay_s``, with full jitter."""

    max_attempts: int = 3
    first_delay_s: float = 2.0
    max_delay_s: float = 300.0
