import pytest

from simulations import __main__ as command
from simulations.faults import KNOBS, calm
from simulations.mutations.shells import SkipsSync
from simulations.scenarios import SCENARIOS, raft
from simulations.scenarios.plans import Plan


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario, with a bug in it."""
    monkeypatch.setitem(SCENARIOS, "raft", lambda seed, trace: raft.run(seed, process_type=SkipsSync, trace=trace))


def test_a_good_seed_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seed", "1"]) == 0
    assert "raft seed 1: ok" in capsys.readouterr().out


@pytest.mark.usefixtures("broken")
def test_a_failure_names_its_seed_and_the_command_that_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seeds", "5"]) == 1
    output = capsys.readouterr().out
    assert "FAILED" in output
    assert "python -m simulations --scenario raft --seed 1 --trace" in output


@pytest.mark.usefixtures("broken")
def test_the_replay_shows_each_event_up_to_the_violation(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--scenario", "raft", "--seed", "1", "--trace"]) == 1
    output = capsys.readouterr().out
    assert "VIOLATION promises" in output
    assert "n1 starts" in output


def test_the_number_of_seeds_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.budget(None) == command.SEEDS_DEFAULT >= 50
    monkeypatch.setenv("ORCA_SIM_SEEDS", "1000")
    assert command.budget(None) == 1000
    assert command.budget(3) == 3


def test_a_fault_that_never_bites_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = raft.run(1, Plan(voters=1, chaos_s=1, mood=calm()))
    quiet.mood, quiet.effects = calm(loss=0.1), dict.fromkeys(KNOBS, 0)
    monkeypatch.setitem(SCENARIOS, "raft", lambda _seed, _trace: quiet)
    assert command.main(["--seeds", "50"]) == 1
    assert "never had an effect: loss" in capsys.readouterr().out


def test_mutations_are_hunted_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["mutations", "--only", "SkipsSync", "--seeds", "5"]) == 0
    output = capsys.readouterr().out
    assert "SkipsSync" in output
    assert "1 of 1 found" in output


def test_a_seed_of_gossip_says_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--scenario", "gossip", "--seeds", "2"]) == 0
    output = capsys.readouterr().out
    assert "2 runs, 0 failed" in output
    assert "false positives" in output


def test_a_table_of_gossip_takes_members_and_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["profiles", "--members", "5", "--seeds", "1"]) in (0, 1)
    assert "orca   deaf" in capsys.readouterr().out
