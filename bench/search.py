"""How long a search takes an owner of many talks.

    python bench/search.py [--videos 10000] [--passages 100] [--quick]

Echo is the real API process; one client asks one question after another, and half of the server's time at each kind of
question counts (p50). Words are drawn with frequencies like those of a language (Zipf), and another owner has as much.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Mapping
from uuid import UUID, uuid4

import asyncpg
import httpx2
from harness import Instance, Row, instance, percentile, write_result

from echo_core.domain.ids import new_video_id

NO_LIMIT = """
[http]
user_requests_per_minute = 1_000_000_000
address_requests_per_minute = 1_000_000_000
"""
VOCABULARY = 20_000
WORDS = 40
"""Of a passage: about 15 seconds."""
BATCH = 20
QUESTIONS = {
    "a rare word": "word15000",
    "a common word": "word3",
    "two words": "word40 word900",
    "a phrase": '"word12 word5"',
    "in no video": "nowhere",
}
INSERT_VIDEOS = """
insert into echo.videos (id, owner_id, status, title, filename, content_type)
select v, $1::uuid, 'ready', t, 'a.mp4', 'video/mp4' from unnest($2::uuid[], $3::text[]) as given (v, t)
"""
# Straight into the table with the function of the trigger: writing captions is not what is measured.
INSERT_PASSAGES = """
insert into echo.passages (video_id, owner_id, track, number, start_s, end_s, text, word_starts_s, config, tsv)
select v, $1::uuid, 'auto-en', n, n * 15, n * 15 + 15, t,
    array(select n * 15 + i * 0.3 from generate_series(0, $5 - 1) i),
    'english', setweight(echo.search_words('english', t), 'D') || array_to_tsvector(array['english:' || $1::uuid::text])
from unnest($2::uuid[], $3::int[], $4::text[]) as given (v, n, t)
"""


async def seed(url: str, owner: UUID, videos: int, passages: int) -> None:
    drawn = random.Random(7)
    names = [f"word{n}" for n in range(VOCABULARY)]
    weights = [1 / (n + 1) for n in range(VOCABULARY)]
    connection = await asyncpg.connect(url)
    await connection.execute("set role service_role; set synchronous_commit = off")
    for _ in range(0, videos, BATCH):
        ids = [new_video_id() for _ in range(BATCH)]
        await connection.execute(INSERT_VIDEOS, owner, ids, [" ".join(drawn.choices(names, weights, k=5)) for _ in ids])
        texts = [" ".join(drawn.choices(names, weights, k=WORDS)) for _ in range(BATCH * passages)]
        numbers = list(range(passages)) * BATCH
        of = [video for video in ids for _ in range(passages)]
        await connection.execute(INSERT_PASSAGES, owner, of, numbers, texts, WORDS)
    await connection.execute("reset role")
    await connection.close()


async def ask(echo: Instance, rounds: int) -> Mapping[str, list[float]]:
    took_ms: dict[str, list[float]] = {kind: [] for kind in QUESTIONS}
    headers = {"Authorization": f"Bearer {echo.token}"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{echo.port}", headers=headers, timeout=60) as client:
        for number in range(rounds + 2):
            for kind, q in QUESTIONS.items():
                began = time.perf_counter()
                answer = await client.get("/api/v1/search", params={"q": q})
                assert answer.status_code == 200, answer.text
                if number > 1:  # the first ones warm up
                    took_ms[kind].append((time.perf_counter() - began) * 1000)
    return took_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--passages", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a tenth of the videos, and fewer rounds")
    options = parser.parse_args()
    videos, rounds = (options.videos // 10, 7) if options.quick else (options.videos, options.rounds)
    with instance(config=NO_LIMIT) as echo:
        for owner in (UUID(echo.owner), uuid4()):
            asyncio.run(seed(echo.worker_url, owner, videos, options.passages))
        took_ms = asyncio.run(ask(echo, rounds))
    rows = [
        Row(measure=f"Search for {kind} in {videos * options.passages:,} passages, p50", unit="ms", echo=middle)
        for kind, middle in ((kind, statistics.median(found)) for kind, found in took_ms.items())
    ]
    details = {kind: {"p50": percentile(found, 0.5), "p95": percentile(found, 0.95)} for kind, found in took_ms.items()}
    write_result("search", rows, {"videos": videos, "passages": options.passages, "ms": details})


if __name__ == "__main__":
    main()
