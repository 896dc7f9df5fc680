"""Break a running Echo many times from seeds, and print what became of it.

    python -m tests.faults.soak [--faults 1000] [--seed 1] [--per-schedule 25] [--json FILE] [--keep DIR]

Each schedule has a seed of its own, counted up from ``--seed``; ``--faults 25 --seed N`` replays the schedule N. When a
promise is broken, the logs of all processes are kept below ``--keep`` and the next schedule gets a fresh cluster. Exit
status 1: at least one promise was broken.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.faults.cluster import Cluster
from tests.faults.schedule import Media, Outcome, run_schedule, usable_kinds
from tests.faults.trouble import KINDS


def main() -> int:
    """See the module."""
    options = _options()
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="echo-soak-") as scratch:
        for outcome in soak(Path(scratch), options.faults, options.seed, options.per_schedule, options.keep):
            outcomes.append(outcome)
            struck = sum(len(o.faults) for o in outcomes)
            ended = ", ".join(f"{number} {how}" for how, number in sorted(outcome.endings.items()))
            print(f"seed {outcome.seed}: {outcome.seconds:4.0f} s, {ended}; {struck} faults so far", flush=True)
            for violation in outcome.violations:
                print(f"  BROKEN {violation}", flush=True)
    print("\n" + table(outcomes, time.monotonic() - began))
    if options.json:
        options.json.write_text(json.dumps(_report(outcomes), indent=1) + "\n")
    return 1 if any(o.violations for o in outcomes) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description="Break a running Echo from seeds.")
    parser.add_argument("--faults", type=int, default=1000, help="how many in all (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule (default 1)")
    parser.add_argument("--per-schedule", type=int, default=25, help="faults of one schedule (default 25)")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--keep", type=Path, default=Path("soak-failures"), help="logs of schedules that failed")
    return parser.parse_args()


def soak(scratch: Path, faults: int, seed: int, per_schedule: int, keep: Path) -> Iterator[Outcome]:
    """Schedules, one after another, until there were so many faults."""
    media = Media(scratch / "media")
    cluster: Cluster | None = None
    try:
        for number, start in enumerate(range(0, faults, per_schedule)):
            if cluster is None:
                cluster = Cluster(scratch / f"cluster-{number}").__enter__()
            count = min(per_schedule, faults - start)
            outcome = run_schedule(cluster, media, seed + number, faults=count, kinds=usable_kinds(cluster))
            yield outcome
            if outcome.violations:
                shutil.copytree(cluster.logs, keep / f"seed-{outcome.seed}", dirs_exist_ok=True)
                cluster.__exit__()
                cluster = None
    finally:
        if cluster is not None:
            cluster.__exit__()


def table(outcomes: list[Outcome], seconds: float) -> str:
    """The result in Markdown."""
    kinds = Counter(fault.kind for outcome in outcomes for fault in outcome.faults)
    endings = sum((outcome.endings for outcome in outcomes), Counter[str]())
    broken = [violation for outcome in outcomes for violation in outcome.violations]
    rows = ["| fault | times |", "| --- | ---: |"]
    rows += [f"| {kind} | {kinds[kind]} |" for kind in KINDS if kinds[kind]]
    rows += [f"| **all** | **{kinds.total()}** |", "", "| videos accepted | number |", "| --- | ---: |"]
    rows += [f"| {how} | {number} |" for how, number in sorted(endings.items())]
    rows += [f"| **all** | **{endings.total()}** |", ""]
    lost, doubled, leaked = (sum(v.startswith(word) for v in broken) for word in ("lost", "doubled", "leaked"))
    seeds = f"{outcomes[0].seed} to {outcomes[-1].seed}" if outcomes else "none"
    rows.append(
        f"Seeds {seeds}, {seconds / 60:.0f} minutes: {lost} lost, {doubled} doubled, {leaked} leaked, "
        f"{len(broken) - lost - doubled - leaked} other promises broken."
    )
    return "\n".join(rows)


def _report(outcomes: list[Outcome]) -> dict[str, object]:
    return {
        "machine": platform.platform(),
        "schedules": [
            {
                "seed": o.seed,
                "seconds": round(o.seconds, 1),
                "faults": [str(f) for f in o.faults],
                "endings": dict(o.endings),
                "violations": o.violations,
            }
            for o in outcomes
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
