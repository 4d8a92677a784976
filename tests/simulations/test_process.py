"""One simulated node: what it keeps of the driver's rules, and how it dies."""

from consensus.raft import RaftConfig
from orca.model.ids import NodeId
from simulations.checkers.raft import ElectionSafety, LogMatching, StateMachineSafety
from simulations.judge import Judge
from simulations.network import Network
from simulations.process import Process
from simulations.registers import Answer, Done, Kind, Operation, Refused
from simulations.shell import Tuning
from simulations.world import World

A = NodeId("a")


class Alone:
    """A group of one node."""

    def __init__(self, seed: int = 1, tuning: Tuning | None = None) -> None:
        self.world = World(seed)
        self.judge = Judge(self.world, [ElectionSafety(), LogMatching(), StateMachineSafety()])
        network: Network[bytes] = Network(self.world)
        self.process = Process(A, frozenset({A}), self.world, network, self.judge, tuning or Tuning(raft=RaftConfig()))
        self.answers: list[Answer] = []
        self.process.start()
        self.run(1.0)

    def run(self, for_s: float) -> None:
        self.world.run(self.world.now + for_s)
        assert self.judge.violations == []

    def ask(self, word: str, kind: Kind = Kind.WRITE) -> None:
        operation = Operation(request=f"r-{word}", key="k", kind=kind, word=word)
        self.process.submit(operation, self.answers.append)

    def read(self) -> str:
        self.ask("", Kind.READ)
        self.run(1.0)
        answer = self.answers[-1]
        assert isinstance(answer, Done)
        return answer.outcome.value


def test_a_write_is_answered_after_it_is_on_disk() -> None:
    alone = Alone()
    alone.ask("x")
    assert alone.answers == []
    before = alone.process.durable().last_index
    alone.run(1.0)
    assert isinstance(alone.answers[0], Done)
    assert alone.process.durable().last_index == before + 1
    assert alone.read() == "x"


def test_what_was_acknowledged_is_there_in_the_next_life() -> None:
    alone = Alone()
    alone.ask("x")
    alone.run(1.0)
    alone.process.crash()
    assert not alone.process.is_up
    alone.process.start()
    alone.run(1.0)
    assert alone.read() == "x"


def test_a_write_that_was_under_way_at_a_crash_is_never_answered_and_there_whole_or_not_at_all() -> None:
    found = set()
    for seed in range(60):
        alone = Alone(seed)
        alone.ask("x")
        alone.process.crash()
        assert alone.process.counts.crashes_while_writing == 1
        alone.process.start()
        alone.run(1.0)
        assert alone.answers == []
        found.add(alone.read())
    assert found == {"", "x"}


def test_what_came_in_during_a_write_is_written_together() -> None:
    alone = Alone()
    writes = alone.process.disk.counts.writes
    for word in "abcdef":
        alone.ask(word)
    alone.run(1.0)
    assert len(alone.answers) == 6
    assert alone.process.disk.counts.writes == writes + 2


def test_a_node_that_stands_still_answers_afterwards() -> None:
    alone = Alone()
    alone.process.stand_still(3.0)
    alone.ask("x")
    alone.run(2.9)
    assert alone.answers == []
    alone.run(0.5)
    assert isinstance(alone.answers[0], Done)


def test_a_write_that_ends_while_the_node_stands_still_waits_for_it() -> None:
    alone = Alone()
    alone.ask("x")
    alone.process.stand_still(3.0)
    alone.run(2.9)
    assert alone.answers == []
    alone.run(0.5)
    assert isinstance(alone.answers[0], Done)


def test_a_full_disk_refuses_definitely() -> None:
    alone = Alone()
    alone.process.disk.is_full = True
    alone.ask("x")
    alone.run(1.0)
    assert alone.answers == [Refused()]
    assert alone.process.counts.saves_failed == 1
    alone.process.disk.is_full = False
    assert alone.read() == ""


def test_a_node_dies_between_effects_when_it_is_told_to() -> None:
    alone = Alone()
    died: list[Process] = []
    alone.process.on_crash = died.append
    alone.process.tuning.crash_chance = 1.0
    alone.ask("x")
    alone.run(1.0)
    assert died == [alone.process]
    assert alone.process.counts.crashes_between_effects == 1


def test_who_is_gone_for_good_does_not_start() -> None:
    alone = Alone()
    alone.process.is_gone_for_good = True
    alone.process.crash()
    alone.process.start()
    assert not alone.process.is_up


def test_a_log_that_is_long_enough_becomes_a_snapshot_and_the_next_life_begins_with_it() -> None:
    alone = Alone(tuning=Tuning(log_entries_kept=5))
    for number in range(30):
        alone.ask(f"w{number}", Kind.APPEND)
        alone.run(0.1)
    assert alone.process.counts.snapshots_taken >= 4
    value = alone.read()
    alone.process.crash()
    alone.process.start()
    assert alone.process.state.applied > 20
    alone.run(1.0)
    assert alone.read() == value
