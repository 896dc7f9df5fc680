"""The real API, with places in it where a test can make it die.

    python -m tests.faults.api

Started in place of ``echoctl serve``. A file ``crash*`` with ``api:committing`` kills it with -9 when a new video is
written and not committed, ``api:committed`` when a job is committed and nobody was told.
"""

from __future__ import annotations

import uvloop

from echo_core.adapters.postgres.videos import PostgresVideoRepository
from echo_core.application.commit_relay import CommitRelay
from echo_core.bootstrap import configure_process, load_settings
from echo_core.entrypoints.http import server
from tests.faults.places import after, before, crash_at, tell_tasks_on_signal


def install() -> None:
    """Put the places in."""

    async def committing(_repository: PostgresVideoRepository, *_: object) -> None:
        crash_at("api", "committing")

    async def committed(_relay: CommitRelay, _events: object, rings: object) -> None:
        if rings:
            crash_at("api", "committed")

    after(PostgresVideoRepository, "add", committing)
    before(CommitRelay, "__call__", committed)


async def main() -> None:
    """The API."""
    tell_tasks_on_signal()
    settings = load_settings()
    configure_process(settings, "api")
    await server._serve(settings)


if __name__ == "__main__":
    install()
    uvloop.run(main())
