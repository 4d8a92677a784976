"""Clients against nodes that do as they are told."""

from collections.abc import Callable

from orca.model.ids import NodeId
from simulations.history import Ending, History
from simulations.registers import Answer, Done, Kind, Operation, Outcome, Refused, Registers, Unknown
from simulations.subjects.port import Reply
from simulations.workload import Client, Manners
from simulations.world import World


class Scripted:
    """A node that answers as `script` says; None for silence."""

    def __init__(self, name: str, script: Callable[[Operation], Answer | None], leader: str | None = None) -> None:
        self.node = NodeId(name)
        self.is_up = True
        self.leader = None if leader is None else NodeId(leader)
        self.registers = Registers()
        self.asked: list[str] = []
        self._script = script

    def submit(self, operation: Operation, reply: Reply) -> None:
        """Answer at once."""
        self.asked.append(operation.request)
        answer = self._script(operation)
        if answer is not None:
            reply(answer)

    def start(self) -> None:
        """It is up always."""

    def crash(self) -> None:
        """It never does."""


def ask(*nodes: Scripted, kind: Kind = Kind.WRITE, for_s: float = 20.0) -> History:
    world, history = World(1), History()
    client = Client("c", world, {node.node: node for node in nodes}, history, Manners(follows_leader=1.0))
    client.stop()  # one operation only
    client.ask(kind, "k")
    world.run(for_s)
    return history


def done(operation: Operation) -> Answer:
    return Done(outcome=Outcome(value=operation.word))


def test_an_answer_ends_the_operation() -> None:
    history = ask(Scripted("a", done))
    record = history.records[0]
    assert (record.ending, record.outcome) == (Ending.DONE, Outcome(value="c.1"))
    assert list(history.acknowledged()) == [record]


def test_who_is_refused_everywhere_knows_that_nothing_happened() -> None:
    assert ask(Scripted("a", lambda _: Refused())).records[0].ending is Ending.FAILED


def test_who_hears_nothing_does_not_know() -> None:
    assert ask(Scripted("a", lambda _: None)).records[0].ending is Ending.UNKNOWN


def test_a_refusal_after_silence_takes_no_doubt_away() -> None:
    answers: list[Answer | None] = [None]
    node = Scripted("a", lambda _: answers.pop(0) if answers else Refused())
    assert ask(node).records[0].ending is Ending.UNKNOWN


def test_an_unknown_outcome_is_tried_again_under_the_same_request() -> None:
    answers: list[Answer] = [Unknown(), Refused()]
    node = Scripted("a", lambda operation: answers.pop(0) if answers else done(operation))
    assert ask(node).records[0].ending is Ending.DONE
    assert node.asked == ["c.1"] * 3


def test_a_client_follows_the_leader_that_a_node_names() -> None:
    leader = Scripted("b", done)
    ask(Scripted("a", lambda _: Refused(), leader="b"), leader)
    assert leader.asked == ["c.1"]


def test_a_late_answer_to_an_earlier_attempt_counts() -> None:
    kept: list[Reply] = []

    class Slow(Scripted):
        def submit(self, operation: Operation, reply: Reply) -> None:
            kept.append(reply)
            if len(kept) == 2:
                kept[0](done(operation))

    assert ask(Slow("a", done)).records[0].ending is Ending.DONE


def test_nobody_to_ask_is_a_failure_and_not_a_doubt() -> None:
    node = Scripted("a", done)
    node.is_up = False
    assert ask(node).records[0].ending is Ending.FAILED
