"""``up`` with stand-ins, as a process of its own: ``supervise.py <data_dir> <port> <api> <worker>``."""

import asyncio
import os
import sys
from pathlib import Path

import asyncpg

from echo_core.adapters.embedded.errors import EmbeddedError
from echo_core.adapters.embedded.services import ServiceAddresses
from echo_core.adapters.embedded.supervisor import Up, run_up
from echo_core.adapters.settings import HttpSettings, Settings, WorkerSettings

STANDIN = str(Path(__file__).with_name("standin.py"))


async def migrate(addresses: ServiceAddresses) -> None:
    connection = await asyncpg.connect(addresses.database_url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (word text PRIMARY KEY)")
    finally:
        await connection.close()


async def main(data_dir: str, port: str, api: str, worker: str) -> None:
    await run_up(
        Up(
            settings=Settings(
                data_dir=Path(data_dir),
                http=HttpSettings(port=int(port)),
                worker=WorkerSettings(shutdown_grace_s=5),
            ),
            api=[sys.executable, STANDIN, api, port],
            worker=[sys.executable, STANDIN, worker],
            environment=os.environ,
            migrate=migrate,
            fsync=False,
        )
    )


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except EmbeddedError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n{error.remedy}\n")
        sys.exit(1)
