"""What the application needs from the outside, as protocols; adapters stand behind them.

A unit of work is one short transaction: enter, read and change, leave. A clean exit commits; an exception rolls back.
After the commit, and only then, its events go to the bus and its doorbells ring; neither can fail the caller. No
storage, transcoder or other provider is called inside one.

Longer than a module should be: what an adapter must offer is read in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from echo_core.domain.ai_calls import AICallRecord, AIDay, AITotals, Budgets, NewAICall, RememberedPart
from echo_core.domain.artefacts import Artefact
from echo_core.domain.caption_tracks import CaptionTrack
from echo_core.domain.ids import AICallId, JobId, StepId, SuggestionId, UserId, VideoId
from echo_core.domain.jobs import Job, JobKind
from echo_core.domain.progress import Place, Rates
from echo_core.domain.searches import FoundVideo, Passage, QuestionVector, SearchQuery
from echo_core.domain.stored_objects import StoredObject, checksums_differ
from echo_core.domain.suggestions import Suggestion
from echo_core.domain.uploads import StorageUse, Upload
from echo_core.domain.users import User
from echo_core.domain.videos import Video, VideoPage, VideoStatus
from echo_core.plugin_api.ai import Usage
from echo_core.plugin_api.events import Event
from echo_core.plugin_api.json import JsonObject
from echo_core.plugin_api.steps import Resource
from echo_core.plugin_api.storage import ObjectInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEvent:
    """A state change to be written; the repository gives it the next number of its owner."""

    type: str
    owner_id: UserId
    video_id: VideoId
    job_id: JobId | None = None
    step: str | None = None
    state: str | None = None
    facts: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a running job is. Never stored; the newest replaces all before it."""

    owner_id: UserId
    video_id: VideoId
    job_id: JobId
    step: str
    step_percent: float
    percent: float
    eta_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoQuery:
    """Which videos to list, newest first. ``text`` matches title and file name; ``before`` is exclusive."""

    limit: int
    before: VideoId | None = None
    status: VideoStatus | None = None
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A step that was claimed, with its job as it is after the claim."""

    job: Job
    step_id: StepId
    lease_token: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """The state of one lease: renewed or lost; ``cancel_requested`` asks the run to stop."""

    step_id: StepId
    owned: bool
    cancel_requested: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseRef:
    """One running step of this worker; ``progress`` is its done fraction."""

    step_id: StepId
    lease_token: int
    progress: float


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueStatistics:
    """One resource class: how many steps wait, for how long the oldest has, how many run."""

    resource: Resource
    queued: int
    oldest_age_s: float
    running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UnsweptStep:
    """An ended step whose runs up to ``lease_token`` may have left objects that no row names."""

    step_id: StepId
    video_id: VideoId
    name: str
    lease_token: int


class VideoRepository(Protocol):
    """Videos of the caller; in a worker's unit of work, of everybody. Tombstoned videos are found only with
    ``deleted=True``."""

    async def add(self, video: Video) -> None:
        """Store a new video."""

    async def get(self, video_id: VideoId, *, for_update: bool = False, deleted: bool = False) -> Video:
        """Raises ``UnknownEntityError``."""

    async def save(self, video: Video) -> None:
        """Store what changed. ``updated_at`` becomes the database's now. Raises ``UnknownEntityError``."""

    async def remove(self, video_id: VideoId) -> None:
        """Delete the row and everything that hangs on it."""


class UploadRepository(Protocol):
    """Uploads, one for each video."""

    async def add(self, upload: Upload) -> None:
        """Store a new upload."""

    async def get(self, video_id: VideoId, *, for_update: bool = False) -> Upload:
        """Raises ``UnknownEntityError``."""

    async def save(self, upload: Upload) -> None:
        """Store what changed."""

    async def use_of(self, owner_id: UserId, *, with_bytes: bool) -> StorageUse:
        """What an owner's videos take; without ``with_bytes`` only how many uploads are unfinished.

        From here to the end of the transaction no other transaction gets an answer for this owner: what it decides
        by this one holds.
        """

    async def claim_due(self, backend: str, *, for_s: float) -> Upload | None:
        """The open upload of this backend whose object was to be looked for before all others' (worker only).

        It is the caller's for so long, then due again. What others have locked is passed over.
        """

    async def put_off(self, video_id: VideoId) -> None:
        """Nothing was found: the next look comes after a quarter of the upload's age, 2 minutes to an hour (worker
        only). Not if it is due again already, by a hint, or settled."""

    async def list_expired(self, limit: int) -> Sequence[Upload]:
        """Open and quarantined uploads past their expiry by the database's clock (worker only)."""


class JobRepository(Protocol):
    """Jobs with their steps. Whoever changes one locks its row first; ``now`` is the database's clock."""

    async def now(self) -> datetime:
        """``clock_timestamp()``: aware, UTC."""

    async def add(self, job: Job) -> None:
        """Store a new job. Raises ``ConflictError`` if the video has one of that kind."""

    async def get(self, job_id: JobId, *, for_update: bool = False) -> Job:
        """Raises ``UnknownEntityError``."""

    async def find_for_video(self, video_id: VideoId, kind: JobKind, *, for_update: bool = False) -> Job | None:
        """The video's job of that kind."""

    async def get_of_step(self, step_id: StepId, *, for_update: bool = False) -> Job:
        """The job that a step belongs to. Raises ``UnknownEntityError``."""

    async def save(self, before: Job, after: Job) -> None:
        """Store the difference. Steps are written under the lease token of ``before``: raises ``LeaseLostError`` if a
        row has another by now."""

    async def list_unfinished(self, limit: int) -> Sequence[Job]:
        """The caller's processing jobs that go on, newest first."""

    async def outlook(self, job_ids: Sequence[JobId]) -> Mapping[StepId, Place]:
        """The unfinished steps of these jobs (the caller's alone) and what comes before each, everybody's counted."""

    async def learned_rates(self) -> Rates:
        """What steps have taken of late, everybody's: medians of recent successes."""

    # Worker only:

    async def claim_candidate(
        self, resource: Resource, names: Sequence[str] | None = None
    ) -> tuple[Job, StepId] | None:
        """Lock (``FOR UPDATE SKIP LOCKED``) the next queued step whose time has come, and its job.

        Order: owners with fewer running steps of this class first, then those that were served longest ago, then by
        ``run_at``. Only steps of these ``names``; None: of any.
        """

    async def has_ready(self, resource: Resource, names: Sequence[str] | None = None) -> bool:
        """Whether the time of any queued step (of these names) has come, locked or not."""

    async def renew(self, leases: Sequence[LeaseRef], *, lease_s: float, extend: bool) -> Sequence[Heartbeat]:
        """Store progress, tell what became of leases and, with ``extend``, renew them from the database's now."""

    async def list_expired(self, limit: int) -> Sequence[tuple[Job, StepId]]:
        """Running steps whose lease has run out, locked (``SKIP LOCKED``) with their jobs."""

    async def list_unrung(self, older_than: timedelta, limit: int) -> Sequence[tuple[StepId, Resource]]:
        """Queued steps whose time has come and whose doorbell was never rung or not for ``older_than``; marks them as
        rung now."""

    async def claim_unswept(self, older_than: timedelta, limit: int) -> Sequence[UnsweptStep]:
        """Ended steps whose storage has not been swept up to their last run, and that nobody took on for
        ``older_than``: they are the caller's to sweep now. Those that were never tried come first."""

    async def mark_swept(self, step_id: StepId, lease_token: int) -> None:
        """Nothing unnamed is left in storage of the step's runs up to this token. No such step is no error."""

    async def try_lock_reconciler(self) -> bool:
        """Take the transaction-scoped advisory lock of the reconciler; False: another worker has it."""


class ArtefactRepository(Protocol):
    """Artefacts of videos."""

    async def list_for_video(self, video_id: VideoId, *, segments: bool = False) -> Sequence[Artefact]:
        """All, ordered by kind and name; segment tables only on request (they are long)."""

    async def find(self, video_id: VideoId, kind: str, name: str) -> Artefact | None:
        """One, with its segments."""

    async def put(self, artefacts: Sequence[Artefact]) -> Sequence[str]:
        """Store; those of the same (video, kind, name) are replaced. Returns the storage keys that were replaced."""

    async def remove_of_step(self, video_id: VideoId, step: str, *, except_token: int) -> Sequence[str]:
        """Remove rows that other runs of the step left; returns their storage keys."""

    async def remove(self, video_id: VideoId, keys: Sequence[str]) -> None:
        """Forget the rows of these storage keys."""

    async def remove_kinds(self, video_id: VideoId, kinds: Sequence[str]) -> Set[str]:
        """Forget all of these kinds; returns the names of the steps that had made them."""

    async def has_rendition(self, video_id: VideoId) -> bool:
        """Whether a video rendition (or, without any picture, a sound rendition) exists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRow(StoredObject):
    """An object that the database names. ``step`` made it; None: the uploaded source."""

    key: str
    size_bytes: int
    step: str | None
    content_type: str
    checksum: str
    backend: str
    generation: str

    def differs_from(self, stored: ObjectInfo) -> bool:
        """Whether an object of this key is certainly not the one that is named."""
        return stored.size_bytes != self.size_bytes or checksums_differ(self.checksum, stored.checksum)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInventory:
    """Everything that a video should have in storage; ``running``: a step of it runs, or its upload goes on (or is
    quarantined)."""

    id: VideoId
    deleted: bool
    running: bool
    rows: Sequence[StoredRow]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTotals:
    """How much all rows name, those of tombstoned videos left out; ``unfinished`` uploads have no object yet."""

    objects: int
    size_bytes: int
    unfinished: int


class InventoryRepository(Protocol):
    """What should be in storage (worker's role only)."""

    async def list_page(self, after: VideoId | None, limit: int) -> Sequence[VideoInventory]:
        """The next videos in the order of their ids, tombstoned ones included."""

    async def find(self, video_id: VideoId) -> VideoInventory | None:
        """One video."""

    async def totals(self) -> StoredTotals:
        """All of it."""

    async def repin(self, video_id: VideoId, row: StoredRow, *, backend: str, generation: str) -> bool:
        """Say that this storage keeps the object of a row now. False: the row is gone, or not the same any more."""


class EventRepository(Protocol):
    """Committed state changes, numbered without gaps for each owner."""

    async def add(self, events: Sequence[NewEvent]) -> Sequence[Event]:
        """Write them, numbered in this order. Call last in a unit of work: it serialises all writers of one owner."""

    async def list_after(self, owner_id: UserId, sequence: int, limit: int) -> Sequence[Event]:
        """Those with a greater number, in order."""

    async def bounds(self, owner_id: UserId) -> tuple[int, int]:
        """(oldest number still held, newest number); ``(1, 0)`` when there was never any."""

    async def prune(self, older_than: timedelta) -> int:
        """Forget events of that age, and idempotency keys past their day, some thousands at most; returns how many
        (worker only)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredResponse:
    """The answer that an idempotency key stands for. ``status`` 0: the first request has not ended yet.

    ``headers`` are those, by lower-case name, that mean something to whoever gets the answer again."""

    request_hash: str
    status: int = 0
    body: bytes = b""
    content_type: str = ""
    location: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class IdempotencyRepository(Protocol):
    """Answers by (caller, key), for a day. A key holds its route: see ``application/idempotency.py``.

    A reservation is known by its random token: nobody else's token changes it."""

    async def reserve(self, key: str, request_hash: str, token: UUID) -> StoredResponse | None:
        """None: the key is the caller's now. Otherwise what the key stands for. A reservation without an answer that
        was not renewed for a minute is taken over (its process died)."""

    async def renew(self, key: str, token: UUID) -> bool:
        """The request still runs. False: the reservation is not the caller's any more."""

    async def complete(self, key: str, token: UUID, response: StoredResponse) -> None:
        """Keep the answer, unless there is one or the reservation is not the caller's any more."""

    async def release(self, key: str, token: UUID) -> None:
        """Forget the reservation, if it still is the caller's: the request failed and may be sent again."""


class LocalUserRepository(Protocol):
    """Users of the embedded identity."""

    async def get_or_add(self, email: str) -> User:
        """The user with that (lower-cased) address, created at need (worker's role only)."""


class WorkerRepository(Protocol):
    """The workers there are (worker's role only)."""

    async def check_in(
        self, name: str, *, steps: Sequence[str], slots: Mapping[Resource, int], version: str, lives_s: float
    ) -> None:
        """This worker lives, and can run these steps, so many of each class at once; it says so again within
        ``lives_s``, or nobody counts on its slots any more."""

    async def count_slots(self, resource: Resource) -> int:
        """How many steps of this class all living workers together can run at once."""

    async def list_unprovided(self, waiting_for: timedelta, limit: int) -> Sequence[StepId]:
        """Steps that have been due for so long while no worker checked in that can run them. Forgets workers that have
        not been heard of for a day."""


class CaptionTrackRepository(Protocol):
    """Caption tracks of videos."""

    async def list_for_video(self, video_id: VideoId, *, cues: bool = False) -> Sequence[CaptionTrack]:
        """All, ordered by name; their cues only on request."""

    async def find(self, video_id: VideoId, name: str, *, for_update: bool = False) -> CaptionTrack | None:
        """One, with its cues."""

    async def put(self, track: CaptionTrack) -> None:
        """Store; the one of the same (video, name) is replaced. ``updated_at`` becomes the database's now."""

    async def remove(self, video_id: VideoId, name: str) -> None:
        """Raises ``UnknownEntityError``."""


class SuggestionRepository(Protocol):
    """Suggestions for videos."""

    async def list_for_video(self, video_id: VideoId, limit: int) -> Sequence[Suggestion]:
        """Newest first."""

    async def get(self, video_id: VideoId, suggestion_id: SuggestionId, *, for_update: bool = False) -> Suggestion:
        """Raises ``UnknownEntityError``."""

    async def add(self, suggestion: Suggestion) -> None:
        """Store a new one; a pending one of the same field is superseded (worker only)."""

    async def save(self, suggestion: Suggestion) -> None:
        """Store what was decided."""


class AICallRepository(Protocol):
    """What AI took, and the parts of its work that are remembered."""

    async def reserve(self, call: NewAICall, budgets: Budgets) -> str:
        """Set aside what a call may take. Empty: it is; else the budget that is too small, ``video`` or ``day``. To the
        end of the transaction nobody else reserves what costs anything (worker only)."""

    async def settle(self, call_id: AICallId, usage: Usage) -> None:
        """This is what it took (worker only)."""

    async def release(self, call_id: AICallId) -> None:
        """It was not billed: forget it (worker only)."""

    async def list_for_video(self, video_id: VideoId) -> Sequence[AICallRecord]:
        """Newest first; a bounded number."""

    async def totals(self, video_id: VideoId) -> AITotals:
        """Over all of a video's."""

    async def days(self, owner_id: UserId, days: int) -> Sequence[AIDay]:
        """An owner's by day and model, newest day first; today is the first of so many days."""

    async def recall(self, part: RememberedPart) -> JsonObject | None:
        """What was remembered of this source (worker only)."""

    async def remember(self, part: RememberedPart, owner_id: UserId, value: JsonObject) -> None:
        """Keep; what was there of the same key is replaced (worker only)."""

    async def forget(self, video_id: VideoId, capability: str) -> None:
        """The whole has been done: its parts are needed no more (worker only)."""


class PassageRepository(Protocol):
    """What is searched (worker's role only)."""

    async def list_unembedded(self, video_id: VideoId, space: str, limit: int) -> Sequence[Passage]:
        """Those of a video without a vector of this space, in order."""

    async def put_embeddings(self, passages: Sequence[Passage], space: str, vectors: Sequence[Sequence[float]]) -> None:
        """Keep a vector for each, unless its text has changed meanwhile."""


class UnitOfWork(Protocol):
    """The repositories of one transaction."""

    @property
    def videos(self) -> VideoRepository:
        """Videos."""

    @property
    def uploads(self) -> UploadRepository:
        """Uploads."""

    @property
    def jobs(self) -> JobRepository:
        """Jobs and steps."""

    @property
    def artefacts(self) -> ArtefactRepository:
        """Artefacts."""

    @property
    def events(self) -> EventRepository:
        """Events."""

    @property
    def idempotency(self) -> IdempotencyRepository:
        """Answers by idempotency key."""

    @property
    def local_users(self) -> LocalUserRepository:
        """Users of the embedded identity."""

    @property
    def workers(self) -> WorkerRepository:
        """Workers."""

    @property
    def inventory(self) -> InventoryRepository:
        """What should be in storage."""

    @property
    def caption_tracks(self) -> CaptionTrackRepository:
        """Captions as text."""

    @property
    def suggestions(self) -> SuggestionRepository:
        """Suggestions of AI."""

    @property
    def ai_calls(self) -> AICallRepository:
        """What AI took."""

    @property
    def passages(self) -> PassageRepository:
        """What is searched."""

    def ring(self, step_id: StepId, resource: Resource) -> None:
        """Ring this step's doorbell after the commit."""


class UserUnitsOfWork(Protocol):
    """Opens units of work in a caller's name: row level security shows and takes only that caller's rows."""

    def for_user(self, user: User) -> AbstractAsyncContextManager[UnitOfWork]:
        """One transaction."""

    async def list_videos(self, user: User, query: VideoQuery) -> VideoPage:
        """One page of this caller's videos, newest first, tombstones left out. The hottest read, so it is one call
        instead of a unit of work, and sees just as little."""

    async def search(self, user: User, query: SearchQuery) -> Sequence[FoundVideo]:
        """This caller's videos that match, best first, tombstones left out. One call, as ``list_videos`` is."""

    async def watchable_owner(self, video_id: VideoId) -> UserId | None:
        """Whose this video is, if it is unlisted or public; None for every other. In nobody's name, and the only thing
        that tells of somebody's rows to whoever asks."""

    async def hint_upload(self, video_id: VideoId, key: str) -> None:
        """Let a worker look at once for the object of this upload, if it is open and has exactly this key. In nobody's
        name, and tells nothing. Raises ``UnavailableError``."""

    async def event_heads(self, owner_ids: Sequence[UserId]) -> Mapping[UserId, int]:
        """The newest event number of each of these owners (numbers only; nothing else of theirs)."""

    async def queue_statistics(self) -> Sequence[QueueStatistics]:
        """Counts by resource class, over everybody."""


class WorkerUnitsOfWork(Protocol):
    """Opens units of work of the service role, which sees every row. Only workers and operators have it."""

    def for_worker(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """One transaction."""


class QuestionEmbedder(Protocol):
    """Turns what is looked for into a vector, where a provider can."""

    async def embed(self, user: User, text: str) -> QuestionVector | None:
        """None: nobody is set up to. Raises ``EchoError``."""


class Doorbell(Protocol):
    """Tells workers that a step is ready. A hint: losing it delays a step by seconds, never loses it."""

    async def ring(self, rings: Sequence[tuple[StepId, Resource]]) -> None:
        """Raises ``UnavailableError`` if nobody can be told."""


class EventBus(Protocol):
    """Carries committed events and progress to every API process. A hint as well: the rows are the truth."""

    async def publish_events(self, events: Sequence[Event]) -> None:
        """Raises ``UnavailableError``."""

    async def publish_progress(self, progress: Progress) -> None:
        """Raises ``UnavailableError``."""


class Tokens(Protocol):
    """Checks bearer tokens and mints and checks playback tokens."""

    async def verify(self, token: str) -> User:
        """Raises ``AuthError`` (codes ``token_expired``, ``token_invalid``)."""

    def mint_playback(self, owner_id: UUID, video_id: UUID) -> str:
        """A token that plays one video for a limited time, for URLs that players open without headers."""

    def verify_playback(self, token: str, video_id: UUID) -> UserId:
        """The owner in whose name the video is read. Raises ``AuthError`` (``token_expired``, ``token_invalid``)."""
