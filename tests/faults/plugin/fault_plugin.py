"""A plugin of the fault suite: one step that calls a provider elsewhere, and steps that misbehave.

The provider stands at ``ECHO_PLUGINS__FAULT_PLUGIN__PROVIDER``. It knows what was delivered by the video's id: an
earlier run of the step may have delivered and died before anybody was told.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from pydantic import BaseModel

from echo_core.plugin_api import (
    ArtefactFile,
    PluginContext,
    Resource,
    RetryPolicy,
    StepContext,
    StepHandler,
    StepResult,
    StepSpec,
    hookimpl,
)

CALL_TIMEOUT_S = 5


class Config(BaseModel):
    """Where the provider is, and where a file asks this plugin to die."""

    provider: str = ""
    control: Path = Path(os.devnull)


def _call(method: str, url: str) -> bytes | None:
    """What the provider answers; None: it knows of nothing."""
    try:
        with urlopen(Request(url, method=method), timeout=CALL_TIMEOUT_S) as answer:  # noqa: S310
            body: bytes = answer.read()
            return body
    except HTTPError as error:
        error.close()
        return None


class Deliver:
    """Delivers a video once: asks first whether an earlier run of this step has."""

    def __init__(self, config: Config) -> None:
        self._config = config

    async def run(self, context: StepContext) -> StepResult:
        """Skipped without a provider."""
        if not self._config.provider:
            return StepResult(skipped_reason="Nobody to deliver to.")
        url = f"{self._config.provider}/{context.video.id}"
        told = await asyncio.to_thread(_call, "GET", url)
        if told is None:
            told = await asyncio.to_thread(_call, "PUT", url)
        self._die_if_wanted()
        receipt = context.scratch / "receipt.json"
        receipt.write_text(json.dumps({"attempt": context.attempt, "told": (told or b"").decode()}))
        return StepResult(
            output={"attempt": context.attempt},
            artefacts=[
                ArtefactFile(kind="receipt", name="receipt.json", path=receipt, content_type="application/json")
            ],
        )

    def _die_if_wanted(self) -> None:
        wanted = self._config.control / "die-after-delivery"
        try:
            wanted.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


class Misbehave:
    """Whatever the file ``misbehave`` says."""

    def __init__(self, config: Config) -> None:
        self._config = config

    async def run(self, context: StepContext) -> StepResult:
        """Raises, hangs, or returns what no step may return."""
        try:
            how = (self._config.control / "misbehave").read_text()
        except FileNotFoundError:
            return StepResult(skipped_reason="Well-behaved.")
        if how == "raise":
            raise ZeroDivisionError("a defect of the plugin")
        if how == "hang":
            await asyncio.Event().wait()
        return {"not": "a result"}  # type: ignore[return-value]


def _opened(
    make: Callable[[Config], StepHandler],
) -> Callable[[PluginContext], AbstractAsyncContextManager[StepHandler]]:
    @asynccontextmanager
    async def open_step(context: PluginContext) -> AsyncIterator[StepHandler]:
        yield make(context.config_as(Config))

    return open_step


@hookimpl
def echo_register_steps() -> Sequence[StepSpec]:
    """The steps."""
    retry = RetryPolicy(max_attempts=3, first_delay_s=0.2, max_delay_s=0.5)
    return [
        StepSpec(
            name="deliver",
            open=_opened(Deliver),
            consumes=("verified",),
            produces=("delivered",),
            resource=Resource.NET,
            retry=retry,
            timeout_s=20.0,
            config_model=Config,
        ),
        StepSpec(
            name="misbehave",
            open=_opened(Misbehave),
            consumes=("verified",),
            produces=("nothing",),
            resource=Resource.NET,
            retry=retry,
            timeout_s=2.0,
            config_model=Config,
        ),
    ]
