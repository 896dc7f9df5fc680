"""A short campaign of seeded faults; ``make soak`` runs a long one."""

from __future__ import annotations

import pytest

from tests.faults.cluster import Cluster
from tests.faults.schedule import Media, run_schedule, usable_kinds

pytestmark = [pytest.mark.integration, pytest.mark.faults]

SEED = 1
FAULTS = 10


def test_seeded_faults_break_no_promise(shared_cluster: Cluster, media: Media) -> None:
    outcome = run_schedule(shared_cluster, media, SEED, faults=FAULTS, kinds=usable_kinds(shared_cluster))
    told = [str(fault) for fault in outcome.faults]
    assert outcome.violations == [], f"replay: make soak SOAK='--faults {FAULTS} --seed {SEED}'; faults: {told}"
    assert sum(outcome.endings.values()) > 0, "nobody uploaded anything"
