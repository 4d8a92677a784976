"""Each checker finds the violation that it is there for, and is silent otherwise."""

from collections.abc import Callable

import pytest

from consensus.raft.messages import AppendReply, Message, VoteReply
from consensus.storage import Entry, HardState, LoadedLog
from orca.model.ids import LogIndex, NodeId, Term
from simulations.checkers.durability import find_lost_writes
from simulations.checkers.promises import Promises
from simulations.checkers.raft import ElectionSafety, LeaderCompleteness, LogMatching, StateMachineSafety
from simulations.history import Ending, History, Record
from simulations.judge import Checker, Judge
from simulations.registers import Kind, Operation, Registers, encode_operation
from simulations.world import World
from tests.contracts.log_store import entries_from

A, B = NodeId("a"), NodeId("b")


def judge(checker: Checker) -> Judge:
    return Judge(World(1), [checker])


def leads(court: Judge, node: NodeId, term: int, terms: dict[int, int] | None = None, snapshot: int = 0) -> None:
    known = {LogIndex(index): Term(of) for index, of in (terms or {}).items()}
    court.leads(node, Term(term), LogIndex(snapshot), known.get)


def test_two_leaders_of_a_term_are_found() -> None:
    court = judge(ElectionSafety())
    leads(court, A, 1)
    leads(court, A, 1)
    leads(court, B, 2)
    assert court.violations == []
    leads(court, B, 1)
    assert [one.checker for one in court.violations] == ["election safety"]
    assert "a and b both lead term 1" in str(court.violations[0])


def test_one_place_with_two_contents_is_found() -> None:
    court = judge(LogMatching())
    court.stored(A, Term(0), entries_from(1, 1, 1))
    court.stored(B, Term(0), entries_from(1, 1))
    court.stored(B, Term(1), entries_from(2, 2))
    assert court.violations == []
    court.stored(B, Term(1), entries_from(2, 1, payload=b"other"))
    assert "another content" in court.violations[0].detail


def test_logs_that_meet_again_after_they_parted_are_found() -> None:
    court = judge(LogMatching())
    court.stored(A, Term(0), entries_from(1, 1, 3))
    court.stored(B, Term(0), entries_from(1, 2, 3))
    assert "follows one of term 2" in court.violations[0].detail


def test_a_term_that_was_not_known_before_contradicts_nobody() -> None:
    court = judge(LogMatching())
    court.stored(A, None, entries_from(2, 3))
    court.stored(B, Term(2), entries_from(2, 3))
    assert court.violations == []
    court.stored(A, Term(1), entries_from(2, 3))
    assert len(court.violations) == 1


def test_a_leader_without_a_committed_entry_is_found() -> None:
    court = judge(LeaderCompleteness())
    for entry in entries_from(1, 1, 1):
        court.applied(A, Term(1), entry, 0)
    leads(court, B, 2, {1: 1, 2: 1, 3: 2})
    leads(court, B, 3, {3: 3}, snapshot=2)
    leads(court, B, 1, {1: 1})  # a leader of the same term may not have got it yet
    assert court.violations == []
    leads(court, B, 4, {1: 1, 2: 2})
    assert "entry 2 of term 1, committed in term 1, is missing" in court.violations[0].detail


def apply_all(court: Judge, node: NodeId, *entries: Entry, digest: int = 7) -> None:
    for entry in entries:
        court.applied(node, Term(1), entry, digest + entry.index)


def test_nodes_that_apply_the_same_are_left_alone() -> None:
    court = judge(StateMachineSafety())
    apply_all(court, A, *entries_from(1, 1, 1, 1))
    apply_all(court, B, *entries_from(1, 1))
    court.restored(B, LogIndex(2), 9)
    apply_all(court, B, *entries_from(3, 1))
    court.started(A, LogIndex(2), 9)
    apply_all(court, A, *entries_from(3, 1))
    assert court.violations == []


@pytest.mark.parametrize(
    ("story", "finding"),
    [
        (lambda court: apply_all(court, B, *entries_from(2, 1)), "applied entry 2 after 0"),
        (lambda court: apply_all(court, B, *entries_from(1, 1), *entries_from(1, 1)), "applied entry 1 after 1"),
        (lambda court: apply_all(court, B, *entries_from(1, 2)), "another entry 1"),
        (lambda court: apply_all(court, B, *entries_from(1, 1), digest=9), "the state of b is"),
        (lambda court: court.restored(A, LogIndex(1), 8), "went back from entry 2"),
        (lambda court: court.restored(B, LogIndex(2), 1), "the state of b is"),
        (lambda court: court.started(B, LogIndex(2), 1), "the state of b is"),
    ],
)
def test_a_node_that_applies_something_else_is_found(story: Callable[[Judge], None], finding: str) -> None:
    court = judge(StateMachineSafety())
    apply_all(court, A, *entries_from(1, 1, 1))
    story(court)
    assert finding in court.violations[0].detail


DISK = LoadedLog(hard_state=HardState(term=Term(2), voted_for=B), entries=entries_from(1, 1, 2))


def vote(term: int) -> Message:
    return VoteReply(term=Term(term), epoch=0, is_granted=True)


def ack(index: int, term: int = 2) -> Message:
    return AppendReply(term=Term(term), epoch=0, is_accepted=True, index=LogIndex(index))


@pytest.mark.parametrize(
    ("messages", "finding"),
    [
        ([(B, vote(2)), (B, ack(2)), (B, vote(2))], None),
        ([(B, ack(3, term=1))], None),  # of an earlier term: another leader may have replaced it since
        ([(B, ack(3))], "acknowledged entry 3, and its disk ends with 2"),
        ([(B, ack(1, term=3))], "speaks in term 3, and term 2 is on its disk"),
        ([(NodeId("c"), vote(2))], "voted for c in term 2, and b is on disk"),
    ],
)
def test_a_promise_that_the_disk_does_not_keep_is_found(
    messages: list[tuple[NodeId, Message]], finding: str | None
) -> None:
    court = judge(Promises(lambda _: DISK))
    for to, message in messages:
        court.sent(A, to, message)
    assert [finding in one.detail for one in court.violations[:1] if finding] == ([True] if finding else [])
    assert bool(court.violations) == (finding is not None)


def test_two_votes_of_one_term_are_found_over_two_lives() -> None:
    disks = [LoadedLog(hard_state=HardState(term=Term(2), voted_for=one)) for one in (B, NodeId("c"))]
    court = judge(Promises(lambda _: disks[0]))
    court.sent(A, B, vote(2))
    disks.pop(0)
    court.sent(A, NodeId("c"), vote(2))
    assert "voted for b and for c in term 2" in court.violations[0].detail


def test_a_write_that_is_gone_or_different_is_found() -> None:
    history, full, empty = History(), Registers(), Registers()
    operation = Operation(request="r1", key="k", kind=Kind.WRITE, word="x")
    outcome = full.apply(encode_operation(operation))
    record = Record("c", operation, 1)
    record.end(Ending.DONE, 2, outcome)
    history.add(record)
    assert find_lost_writes(history, {A: full}) == []
    assert "unknown to b" in find_lost_writes(history, {A: full, B: empty})[0]
    empty.apply(encode_operation(Operation(request="r1", key="k", kind=Kind.APPEND, word="y")))
    assert "another outcome at b" in find_lost_writes(history, {A: full, B: empty})[0]
