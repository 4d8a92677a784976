"""The simulated gossip cluster: many seeds, the same trace for the same seed, and stories with one kind of trouble."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gossip.swim import PROFILES
from simulations.__main__ import SEEDS_DEFAULT, replay_command
from simulations.checkers.completeness import detection_bound_s
from simulations.faults import calm
from simulations.members.knobs import KNOBS
from simulations.scenarios import gossip
from simulations.scenarios.gossip import GossipPlan
from simulations.seeds import run_batch

ROOT = Path(__file__).resolve().parents[2]
_DIGESTS = "from simulations.scenarios import gossip\nprint([gossip.run(seed).digest for seed in (2, 8)])"


def test_no_seed_of_the_budget_finds_anything_and_every_fault_bites() -> None:
    seeds = int(os.environ.get("ORCA_SIM_SEEDS", SEEDS_DEFAULT))
    batch = run_batch(gossip.run, range(1, seeds + 1))
    told = [f"{report}\n{report.violations[0]}\n{replay_command(report)}" for report in batch.failures]
    assert not told, "\n".join(told)
    assert batch.toothless == [], "faults that were drawn and never had an effect"
    assert batch.figures["node-hours"] > 0.1 * seeds


def test_the_same_seed_gives_the_same_trace_whatever_the_hashes() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", _DIGESTS],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout
        for hash_seed in ("0", "1", "4711")
    ]
    assert len(set(outputs)) == 1
    assert outputs[0] == f"{[gossip.run(seed).digest for seed in (2, 8)]}\n"


def test_a_trace_tells_what_happened_and_changes_nothing() -> None:
    lines: list[str] = []
    plan = GossipPlan(members=3, profile="orca", chaos_s=10, mood=calm(KNOBS, crash=3.0))
    report = gossip.run(5, lines.append, plan)
    text = "\n".join(lines)
    for words in ("n1 starts, life 1", "crashes", "life 2", "heal", "n1 to 10.7.0.2", "connects to"):
        assert words in text
    assert report.is_good
    assert report.digest == gossip.run(5, None, plan).digest != gossip.run(6, None, plan).digest


@pytest.mark.parametrize("profile", ["orca", "lan", "wan", "local"])
def test_where_nothing_is_wrong_nobody_is_buried_and_a_crash_is_found_in_time(profile: str) -> None:
    report = gossip.run(1, None, GossipPlan(members=6, profile=profile, chaos_s=60, mood=calm(KNOBS)))
    assert report.violations == []
    assert report.figures["false positives"] == 0
    assert 0 < report.figures["seconds to the last detection"] < detection_bound_s(PROFILES[profile], 6)


def test_lost_and_doubled_packets_alone_bury_nobody() -> None:
    mood = calm(KNOBS, loss=0.1, duplication=0.2, reordering=0.2)
    report = gossip.run(3, None, GossipPlan(members=8, profile="orca", chaos_s=60, mood=mood))
    assert report.violations == []
    assert report.figures["false positives"] == 0


@pytest.mark.parametrize("length_s", [40.0, 900.0])
def test_a_partition_heals_within_a_minute_however_long_it_lasted(length_s: float) -> None:
    """Longer than the dead are remembered by SWIM (30 s), and than removed facts are (10 min)."""
    report = gossip.run(4, None, GossipPlan(members=3, profile="orca", mood=calm(KNOBS, long_partition=length_s)))
    assert report.violations == []
    assert report.effects["long_partition"] > 0
    assert report.figures["seconds to agree"] <= 60
