"""The negative control: checkers that never fail prove nothing."""

import pytest

pytest.importorskip("pysyncobj")

from simulations.scenarios import yardstick

SEEDS = range(1, 7)


def test_pysyncobj_leads_twice_in_a_term_and_loses_acknowledged_writes() -> None:
    """EVIDENCE: defaults, one follower killed and restarted, plus a partition."""
    found = [yardstick.run(seed).found_by for seed in SEEDS]
    assert all("durability" in names for names in found)
    assert all("linearizability" in names for names in found)
    assert all("state machine safety" in names for names in found)
    assert sum("election safety" in names for names in found) >= len(SEEDS) // 2


def test_nothing_is_found_when_nobody_is_harmed() -> None:
    for seed in SEEDS:
        report = yardstick.run(seed, is_harmed=False)
        assert report.violations == []
        assert report.done > 100


def test_it_runs_on_virtual_time_and_is_the_same_each_time() -> None:
    assert yardstick.run(1).digest == yardstick.run(1).digest != yardstick.run(2).digest
