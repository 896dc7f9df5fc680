"""The fake as tests hold it: a server in a thread of its own."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from tests.fakes.gcs.accounts import DEFAULT_EMAIL, PROJECT
from tests.fakes.gcs.app import App
from tests.fakes.gcs.call import LoggedRequest
from tests.fakes.gcs.faults import FaultQueue
from tests.fakes.gcs.objects import Draft, StoredObject
from tests.fakes.gcs.pubsub import Push, push
from tests.fakes.gcs.sessions import Session
from tests.fakes.gcs.world import World

KEEP_ALIVE_S = 300
EXPOSED = ["Range", "Location", "ETag", "x-goog-generation", "x-goog-hash", "Content-Range", "Content-Type"]


def cors_for(*origins: str) -> list[dict[str, Any]]:
    """A CORS configuration that lets pages of these origins upload and play."""
    methods = ["GET", "HEAD", "PUT", "POST", "OPTIONS"]
    return [{"origin": list(origins), "method": methods, "responseHeader": EXPOSED, "maxAgeSeconds": 3600}]


class FakeGcs:
    """A running fake. Every method may be called from any thread."""

    project = PROJECT
    email = DEFAULT_EMAIL

    def __init__(self, world: World) -> None:
        self._world = world
        self.url = world.url

    @classmethod
    @contextmanager
    def serve(cls, directory: Path, *, port: int = 0) -> Iterator[FakeGcs]:
        """Serve on 127.0.0.1 until the block ends; bytes are kept below ``directory``."""
        world = World(Path(directory))
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
                timeout_keep_alive=KEEP_ALIVE_S,
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
                world.reset()

    @property
    def address(self) -> str:
        """host:port, for GCE_METADATA_HOST."""
        return self.url.removeprefix("http://")

    @property
    def faults(self) -> FaultQueue:
        """What is to go wrong."""
        return self._world.faults

    @property
    def log(self) -> list[LoggedRequest]:
        """The requests so far, oldest first."""
        return list(self._world.log)

    def service_account_info(self, email: str = DEFAULT_EMAIL) -> dict[str, str]:
        """A JSON key file's content; another address makes another account of the same rights."""
        return self._world.accounts.info(self.url, email)

    def create_bucket(self, name: str, cors: Sequence[Mapping[str, Any]] | None = None, **fields: Any) -> None:
        """A bucket; ``fields`` are further ones of the bucket resource."""
        self._world.create_bucket(name, {"cors": [dict(entry) for entry in cors or ()], **fields})

    def bucket_fields(self, name: str) -> dict[str, Any]:
        """The bucket resource as it stands."""
        return self._world.bucket(name).resource(self.url)

    def objects(self, bucket: str) -> dict[str, StoredObject]:
        """The live objects by name."""
        return dict(self._world.bucket(bucket).objects)

    def put_object(self, bucket: str, name: str, data: bytes, content_type: str = "video/mp4") -> StoredObject:
        """An object that somebody else wrote; whatever had the name is replaced."""
        sink = self._world.new_sink()
        with io.BytesIO(data) as source:
            while block := source.read(1 << 20):
                sink.feed(block)
        return self._world.place(Draft(bucket, name, fields={"contentType": content_type}), sink)

    def delete_object(self, bucket: str, name: str) -> None:
        """Somebody else deletes it."""
        self._world.delete(self._world.find(bucket, name))

    def sessions(self) -> list[Session]:
        """The uploads that could go on: begun, neither complete nor gone."""
        return [one for one in list(self._world.sessions.values()) if one.completed is None and one.gone is None]

    def advance(self, seconds: float) -> None:
        """Let time pass for tokens, signed URLs, sessions and time stamps."""
        self._world.clock.offset_s += seconds

    def now(self) -> float:
        """The fake's clock."""
        return self._world.clock.now()

    def deny(self, *permissions: str) -> None:
        """Take permissions from all accounts, ``storage.objects.delete`` for one."""
        self._world.denied |= set(permissions)

    def allow(self, *permissions: str) -> None:
        """Give them back."""
        self._world.denied -= set(permissions)

    def revoke_tokens(self) -> None:
        """All bearer tokens issued so far draw 401."""
        self._world.accounts.revoke_all()

    def push_notification(
        self, url: str, bucket: str, key: str, generation: int | str | None = None, **options: Any
    ) -> Push:
        """A Pub/Sub push of the object's notification, to be sent with ``.send()`` or by hand.

        To make it wrong: ``audience``, ``email``, ``email_verified``, ``expired``, ``other_key``, ``claims``; further:
        ``event_type``, ``message_id`` (the same one twice is a redelivery), ``subscription``.
        """
        return push(self._world, url, bucket, key, generation, **options)

    def reset(self) -> None:
        """Forget objects, sessions, faults, log, denials and the clock's offset; buckets, keys and tokens stay."""
        self._world.reset()
