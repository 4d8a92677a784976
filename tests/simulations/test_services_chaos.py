"""Whole nodes that run services: some seeds, the same trace for the same seed, and stories with one kind of trouble."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.__main__ import replay_command
from simulations.faults import calm
from simulations.nodes.knobs import KNOBS
from simulations.scenarios import services
from simulations.scenarios.pinned import PINNED_SERVICES, ServicesPin
from simulations.scenarios.services import ServicesPlan
from simulations.seeds import run_batch

ROOT = Path(__file__).resolve().parents[2]
SEEDS_DEFAULT = 8
"""Each takes a second or two; a nightly run sets ORCA_SIM_SEEDS."""
_DIGESTS = "from simulations.scenarios import services\nprint([services.run(seed).digest for seed in (2, 8)])"


def test_no_seed_of_the_budget_finds_anything_and_every_fault_bites() -> None:
    seeds = int(os.environ.get("ORCA_SIM_SEEDS", SEEDS_DEFAULT))
    batch = run_batch(services.run, range(1, seeds + 1))
    told = [f"{report}\n{report.violations[0]}\n{replay_command(report)}" for report in batch.failures]
    assert not told, "\n".join(told)
    assert batch.toothless == [], "faults that were drawn and never had an effect"
    assert batch.done > 5 * seeds
    assert batch.figures["of them answered"] > 500 * seeds


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
        for hash_seed in ("0", "4711")
    ]
    assert len(set(outputs)) == 1
    assert services.run(2).digest in outputs[0]


@pytest.mark.parametrize("pin", PINNED_SERVICES, ids=lambda pin: str(pin.seed))
def test_an_old_failure_stays_away(pin: ServicesPin) -> None:
    report = services.run(pin.seed, plan=pin.plan)
    assert report.violations == [], replay_command(report)


def test_where_nothing_fails_no_request_does_whatever_is_deployed() -> None:
    mood = calm(KNOBS, deploy=1.0, staged=3.0, restart=6.0)
    report = services.run(1, None, ServicesPlan(nodes=4, services=6, chaos_s=30.0, mood=mood))
    assert report.violations == []
    assert report.done > 20
    assert report.figures["of them answered"] == report.figures["requests"] > 500


@pytest.mark.parametrize("knob", ["crash", "power", "away", "death", "engine"])
def test_one_kind_of_trouble_alone_leaves_nothing_behind(knob: str) -> None:
    mood = calm(KNOBS, deploy=3.0, scale=5.0, **{knob: 5.0})
    report = services.run(4, None, ServicesPlan(nodes=5, services=5, chaos_s=30.0, mood=mood))
    assert report.violations == []
    assert report.effects[knob] > 0


def test_a_trace_tells_what_happened_and_changes_nothing() -> None:
    lines: list[str] = []
    plan = ServicesPlan(nodes=3, services=2, chaos_s=10, mood=calm(KNOBS, deploy=3.0, crash=4.0))
    report = services.run(5, lines.append, plan)
    text = "\n".join(lines)
    for words in ("n1 starts, life 1", "crashes", "the operator asks for PutServices", "s1.1 is ready", "heal"):
        assert words in text
    assert report.is_good
    assert report.digest == services.run(5, None, plan).digest != services.run(6, None, plan).digest
