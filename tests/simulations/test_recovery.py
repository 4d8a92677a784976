"""A group that lost its quorum is started anew: many seeds, and a check that the checks can fail."""

import os

from simulations.process import Process
from simulations.scenarios import recovery
from simulations.seeds import run_batch

SEEDS_SHARE = 2
"""The chaos of `raft` gets the larger part of the budget."""


class Careless(recovery.RecoveryChaos):
    """Whoever recovers takes the survivor that knows least."""

    def _choose(self) -> Process:
        known = super()._choose()
        least = min(self._survivors(), key=lambda one: one.machine.position)
        self.knew_less = least.machine.position < known.machine.position
        self._was_most = known
        return least

    def _has_all(self, chosen: Process) -> bool:
        return super()._has_all(self._was_most)


def test_no_seed_finds_anything_after_a_recovery() -> None:
    seeds = int(os.environ.get("ORCA_SIM_SEEDS", "50")) // SEEDS_SHARE
    batch = run_batch(recovery.run, range(1, seeds + 1))
    told = [f"{report}\n{report.violations[0]}" for report in batch.failures]
    assert not told, "\n".join(told)
    assert batch.done > 20 * seeds


def test_those_who_come_back_are_set_aside_and_follow() -> None:
    counts = []
    for seed in range(1, 11):
        chaos = recovery.RecoveryChaos(seed)
        assert chaos.run().is_good
        counts.append(chaos.set_aside)
    assert min(counts) >= 1, "in every run somebody had the old past"


def test_the_wrong_survivor_would_be_found() -> None:
    found = [violation.checker for seed in range(1, 101) for violation in Careless(seed).run().violations]
    assert "durability" in found, "nobody notices that a survivor with less was taken"


def test_the_same_seed_tells_the_same_story() -> None:
    assert recovery.run(3).digest == recovery.run(3).digest != recovery.run(4).digest
