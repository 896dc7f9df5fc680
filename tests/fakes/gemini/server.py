"""The fake as tests hold it: a server in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import uvicorn

from tests.fakes.gemini.app import App
from tests.fakes.gemini.faults import FaultQueue
from tests.fakes.gemini.world import API_KEY, PROJECT, TOKEN, LoggedRequest, Spoken, StoredFile, World


class FakeGemini:
    """A running fake. Every method may be called from any thread."""

    api_key = API_KEY
    project = PROJECT
    token = TOKEN

    def __init__(self, world: World) -> None:
        self._world = world
        self.url = world.url

    @classmethod
    @contextmanager
    def serve(cls, *, port: int = 0) -> Iterator[FakeGemini]:
        """Serve on 127.0.0.1 until the block ends."""
        world = World()
        with socket.create_server(("127.0.0.1", port)) as listener:
            world.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            config = uvicorn.Config(
                App(world),
                loop="asyncio",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            try:
                yield cls(world)
            finally:
                world.faults.clear()
                server.should_exit = True
                thread.join(10)

    @property
    def faults(self) -> FaultQueue:
        """What is to go wrong."""
        return self._world.faults

    @property
    def log(self) -> list[LoggedRequest]:
        """The requests so far, oldest first."""
        return list(self._world.log)

    def calls(self, part: str) -> list[LoggedRequest]:
        """Those whose "METHOD path" holds ``part``."""
        return [one for one in self.log if part in f"{one.method} {one.path}"]

    @property
    def files(self) -> dict[str, StoredFile]:
        """The files that are there, by name."""
        return dict(self._world.files)

    def speak(self, lines: Sequence[tuple[float, float, str]]) -> None:
        """What is said in the video: (start, end, text) in seconds of the whole."""
        self._world.script = [Spoken(*line) for line in lines]

    def advance(self, seconds: float) -> None:
        """Let time pass for the dates of files."""
        self._world.age += timedelta(seconds=seconds)

    def retire(self, model: str) -> None:
        """Take a model off."""
        self._world.retired.add(model)

    def reset(self) -> None:
        """As in the beginning."""
        self._world.reset()
