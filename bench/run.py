"""Run every benchmark, print one table and keep everything in ``bench/results/all.json``.

    python bench/run.py [--quick] [--only engine websocket] [--reference]

``--reference`` also writes ``bench/reference.json``, the committed run from which the figures of ``bench/README.md``
come, and puts its table there. ``--table`` prints the table of the last run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import RESULTS, cells, machine

BENCH = Path(__file__).resolve().parent
REFERENCE = BENCH / "reference.json"
README = BENCH / "README.md"
BEGIN, END = "<!-- table of reference.json -->", "<!-- end of table -->"
NAMES = (
    "storage_local",
    "storage_gcs",
    "list_videos",
    "search",
    "websocket",
    "engine",
    "ladder",
    "media",
    "api_process",
)
HEAD = ("measure", "Echo", "beside", "ratio", "target", "met")


def run_all(names: Sequence[str], *, quick: bool) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    failed = []
    for name in names:
        print(f"==> {name}", flush=True)
        result = RESULTS / f"{name}.json"
        result.unlink(missing_ok=True)
        began = time.monotonic()
        done = subprocess.run([sys.executable, str(BENCH / f"{name}.py"), *(["--quick"] if quick else [])], check=False)
        print(f"    {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode == 0 and result.exists():
            found[name] = json.loads(result.read_text())
        else:
            failed.append(name)
    return found, failed


def rows(benchmarks: Mapping[str, Any]) -> list[list[str]]:
    return [cells(row) for benchmark in benchmarks.values() for row in benchmark["summary"]]


def aligned(table: Sequence[Sequence[str]]) -> str:
    lines = [HEAD, *table]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def markdown(table: Sequence[Sequence[str]]) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_reference(run: Mapping[str, Any]) -> None:
    """Keep a run; what it left out stays as it was measured before, with the day of its own."""
    kept = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {"benchmarks": {}}
    of_both = {
        name: {"at": report["at"], **benchmark}
        for report in (kept, run)
        for name, benchmark in report["benchmarks"].items()
    }
    report = {**run, "benchmarks": {name: of_both[name] for name in NAMES if name in of_both}}
    REFERENCE.write_text(json.dumps(report, indent=1) + "\n")
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    m = report["machine"]
    days = sorted({benchmark["at"][:10] for benchmark in report["benchmarks"].values()})
    about = (
        f"Measured {' to '.join(dict.fromkeys((days[0], days[-1])))}: "
        f"{m['processors']} processors ({m['processor']}), {m['memory_gib']} GiB, "
        f"{m['system']}, Python {m['python']}, load at the start {m['load'][0]}."
    )
    README.write_text(f"{before}{BEGIN}\n\n{about}\n\n{markdown(rows(report['benchmarks']))}\n\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about a quarter of the time, and coarser")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--reference", action="store_true", help="keep this run as bench/reference.json")
    parser.add_argument("--table", action="store_true", help="print the table of the last run")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    everything = RESULTS / "all.json"
    if options.table:
        print(aligned(rows(json.loads(everything.read_text())["benchmarks"])))
        return
    about, began = machine(), time.monotonic()
    benchmarks, failed = run_all(options.only, quick=options.quick)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": options.quick,
        "took_s": round(time.monotonic() - began),
        "machine": about,
        "benchmarks": benchmarks,
    }
    everything.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{aligned(rows(benchmarks))}\n\n{report['took_s']} s; everything is in {everything}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")
    if options.reference:
        write_reference(report)


if __name__ == "__main__":
    main()
