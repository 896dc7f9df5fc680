"""A short campaign of seeded faults; ``make soak`` runs a long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.schedule import Media, run_schedule, usable_kinds

pytestmark = [pytest.mark.integration, pytest.mark.faults]

SEED = 1
FAULTS = 12


def test_seeded_faults_break_no_promise(tmp_path: Path, media: Media) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        outcome = run_schedule(cluster, media, SEED, faults=FAULTS, kinds=usable_kinds(cluster))
    told = [str(fault) for fault in outcome.faults]
    assert outcome.violations == [], f"replay: make soak SOAK='--faults {FAULTS} --seed {SEED}'; faults: {told}"
    assert sum(outcome.endings.values()) > 0, "nobody uploaded anything"
