"""The simulated cluster: many seeds, the same trace for the same seed, and pinned seeds of old failures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from consensus.raft import RaftConfig
from simulations.__main__ import SEEDS_DEFAULT, replay_command
from simulations.faults import calm
from simulations.scenarios import raft
from simulations.scenarios.pinned import PINNED, Pin
from simulations.scenarios.plans import Plan
from simulations.seeds import run_batch

ROOT = Path(__file__).resolve().parents[2]
_DIGESTS = "from simulations.scenarios import raft\nprint([raft.run(seed).digest for seed in (3, 11)])"


def test_no_seed_of_the_budget_finds_anything_and_every_fault_bites() -> None:
    seeds = int(os.environ.get("ORCA_SIM_SEEDS", SEEDS_DEFAULT))
    batch = run_batch(raft.run, range(1, seeds + 1))
    told = [f"{report}\n{report.violations[0]}\n{replay_command(report)}" for report in batch.failures]
    assert not told, "\n".join(told)
    assert batch.toothless == [], "faults that were drawn and never had an effect"
    assert batch.done > 50 * seeds


@pytest.mark.parametrize("pin", PINNED, ids=lambda pin: str(pin.seed))
def test_an_old_failure_stays_away(pin: Pin) -> None:
    report = raft.run(pin.seed, pin.plan)
    assert report.violations == [], replay_command(report)


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
    assert outputs[0] == f"{[raft.run(seed).digest for seed in (3, 11)]}\n"


def test_another_seed_gives_another_trace() -> None:
    assert raft.run(3).digest != raft.run(4).digest


@pytest.mark.parametrize("voters", [1, 2, 3, 5, 7])
def test_a_group_without_faults_does_everything_that_it_is_asked(voters: int) -> None:
    plan = Plan(voters=voters, learners=1, chaos_s=10, mood=calm(), config=RaftConfig())
    report = raft.run(1, plan)
    assert report.violations == []
    assert (report.unknown, report.failed) == (0, 0)
    assert report.done > 50


def test_a_trace_tells_what_happened() -> None:
    lines: list[str] = []
    report = raft.run(3, Plan(voters=3, learners=0, chaos_s=5, mood=calm(crash=2)), trace=lines.append)
    text = "\n".join(lines)
    for words in ("n1 starts", "leads term", "AppendEntries(", "crashes", "heal", "c1.1"):
        assert words in text
    assert report.is_good
