"""Vectors for search by meaning: of what videos say (a step of the pipeline), and of what is looked for (the API)."""

from __future__ import annotations

import asyncio
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import structlog

from echo_core.application.ai import AIProviders, Ledger, reserved
from echo_core.application.ending import end_tasks
from echo_core.application.enriching import Enrichment, EnrichmentStep
from echo_core.application.processing import opened
from echo_core.application.running import kernel_run
from echo_core.application.transcoding import MEDIA
from echo_core.domain.ai_calls import Budgets, NewAICall
from echo_core.domain.grounding import ground_embeddings
from echo_core.domain.ids import UserId, VideoId, new_ai_call_id
from echo_core.domain.searches import QuestionVector
from echo_core.domain.users import User
from echo_core.plugin_api.ai import AIProvider, Capability, Embeddings, EmbedRequest, Reservation, Usage
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.json import JsonObject
from echo_core.plugin_api.specs import StepSpec
from echo_core.plugin_api.steps import Resource, RetryPolicy, StepContext, StepHandler, StepResult

log = structlog.get_logger("echo.search")

EMBED_STEP: Final = "embed"
BATCH = 64
"""Passages in one request: within what vendors take at once (100 texts of 2,048 tokens)."""
NO_SPACE = "?"
"""In no provider's space: what every vector is outside of."""
MAX_PASSAGES = 20_000
"""Of one video, that get vectors: more than a day of talk."""
CLOSE_TIMEOUT_S = 10.0
REMEMBERED_QUESTIONS = 256
"""So that the pages of one search are asked for once."""


class EmbedStep(EnrichmentStep):
    """What does it mean, as vectors?"""

    name = EMBED_STEP
    capability = Capability.EMBED

    async def run(self, context: StepContext) -> StepResult:
        """Passages that have no vector of the provider's present space get one."""
        video_id = VideoId(context.video.id)
        done, space = 0, ""
        warnings: list[str] = []
        while done < MAX_PASSAGES:
            async with self.work.units_of_work.for_worker() as uow:
                passages = await uow.passages.list_unembedded(video_id, space, BATCH)
                if not passages and not space:
                    # All have vectors: one is asked for, to learn whether they are still of the provider's space.
                    passages = await uow.passages.list_unembedded(video_id, NO_SPACE, 1)
            if not passages:
                break
            texts = tuple(passage.text for passage in passages)
            part = f"-{done}"

            async def ask(
                name: str, provider: AIProvider, texts: tuple[str, ...] = texts, part: str = part
            ) -> Embeddings:
                call = self.call(context, name, part)
                result = await provider.embed(EmbedRequest(call=call, texts=texts, purpose="passage"))
                return ground_embeddings(result, len(texts))

            answer = await self.work.providers.ask(self.capability, ask)
            if space and answer.result.space != space:
                raise UnavailableError(
                    f"The vectors of one video came from two spaces: {space} and {answer.result.space}.",
                    code="ai_embedding_invalid",
                    remedy="Retry the step; if it stays, name one provider alone in ai.embed.",
                )
            space = answer.result.space
            warnings += [said for said in answer.warnings if said not in warnings]
            async with kernel_run(context).under_lease() as uow:
                await uow.passages.put_embeddings(passages, space, answer.result.vectors)
            done += len(passages)
        if not done:
            return StepResult(skipped_reason="There is nothing to make vectors of.", warnings=warnings)
        return StepResult(output={"passages": done, "space": space}, warnings=warnings)


def embed_steps(*, embeds: bool, enrichment: Enrichment | None = None) -> tuple[StepSpec, ...]:
    """The step, where providers are set up for it. Without ``enrichment`` it can be planned, not run."""
    if not embeds:
        return ()
    return (
        StepSpec(
            name=EMBED_STEP,
            open=opened(cast("StepHandler", EmbedStep(enrichment))),
            consumes=(MEDIA,),
            produces=("vectors",),
            after=("transcribe", "describe", "translate", "subtitles"),
            resource=Resource.AI,
            timeout_s=1800.0,
            timeout_per_media_s=0.1,
            retry=RetryPolicy(max_attempts=4, first_delay_s=15.0, max_delay_s=900.0),
            optional=True,
            weight=0.3,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class QuestionCall:
    """``AICall`` of a question: of no video, so nothing of it is remembered."""

    ledger: Ledger
    budgets: Budgets
    owner_id: UserId
    provider: str
    scratch: Path

    def reserve(self, at_most: Usage) -> AbstractAsyncContextManager[Reservation]:
        """Set aside what the call may take."""
        call = NewAICall(
            id=new_ai_call_id(),
            owner_id=self.owner_id,
            video_id=None,
            step="search",
            capability=Capability.EMBED,
            provider=self.provider,
            at_most=at_most,
        )
        return reserved(self.ledger, call, self.budgets)

    async def recall(self, key: str) -> JsonObject | None:
        """Nothing."""
        return None

    async def remember(self, key: str, value: JsonObject) -> None:
        """A question is asked anew."""

    def report_progress(self, fraction: float) -> None:
        """Nobody watches."""


class AIQuestionEmbedder:
    """``QuestionEmbedder`` by the providers of ``ai.embed``, opened with the first question.

    They are opened and closed by a task of their own: whatever a provider opens may have to be closed by the task that
    opened it, and requests come and go.
    """

    def __init__(
        self,
        open_providers: Callable[[], AbstractAsyncContextManager[AIProviders]],
        ledger: Ledger,
        budgets: Budgets,
    ) -> None:
        self._open = open_providers
        self._ledger = ledger
        self._budgets = budgets
        self._known: OrderedDict[str, QuestionVector] = OrderedDict()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[AIProviders] | None = None

    async def embed(self, user: User, text: str) -> QuestionVector | None:
        """The vector of a question. Raises ``EchoError``."""
        if (known := self._known.get(text)) is not None:
            self._known.move_to_end(text)
            return known
        providers = await self._providers()
        with tempfile.TemporaryDirectory(prefix="echo-search-") as folder:

            async def ask(name: str, provider: AIProvider) -> Embeddings:
                call = QuestionCall(
                    ledger=self._ledger,
                    budgets=self._budgets,
                    owner_id=user.id,
                    provider=name,
                    scratch=Path(folder),
                )
                return ground_embeddings(
                    await provider.embed(EmbedRequest(call=call, texts=(text,), purpose="query")), 1
                )

            answer = await providers.ask(Capability.EMBED, ask)
        vector = QuestionVector(space=answer.result.space, values=answer.result.vectors[0])
        self._known[text] = vector
        while len(self._known) > REMEMBERED_QUESTIONS:
            self._known.popitem(last=False)
        return vector

    async def _providers(self) -> AIProviders:
        if self._opened is None or self._closing.is_set():
            if self._closing.is_set():
                raise UnavailableError("Echo is about to end.", remedy="Try again in a moment.")
            self._opened = asyncio.get_running_loop().create_future()
            # Whoever asked may have gone by the time that it fails.
            self._opened.add_done_callback(lambda told: told.cancelled() or told.exception())
            self._task = asyncio.create_task(self._serve(self._opened))
        return await asyncio.shield(self._opened)

    async def _serve(self, told: asyncio.Future[AIProviders]) -> None:
        try:
            async with self._open() as providers:
                told.set_result(providers)
                await self._closing.wait()
        except Exception as error:
            if told.done():
                log.exception("search.providers_not_closed")
                return
            # Whoever waits hears of it now, and the next question tries again.
            self._opened = None
            problem = UnavailableError(f"What makes vectors of questions cannot be opened: {error}")
            problem.__cause__ = error
            told.set_exception(problem)

    async def aclose(self) -> None:
        """Close the providers, if they were opened."""
        self._closing.set()
        if self._task is not None:
            done, _ = await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT_S)
            if not done:
                await end_tasks([self._task])
