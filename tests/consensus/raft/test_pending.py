from consensus.raft import ProposalId, ReadId
from consensus.raft.pending import Forwarded, PendingRead, ReadQueue, SeenForwards
from consensus.raft.quorum import Verdict, VoteTally, quorum_size, reached_by_quorum
from orca.model.ids import LogIndex, NodeId
from orca.model.units import Instant

A, B = NodeId("n-a"), NodeId("n-b")


def read(number: int) -> PendingRead:
    return PendingRead(None, 1, (ReadId(number),))


def test_reads_are_answered_by_the_first_round_that_began_after_them() -> None:
    queue = ReadQueue()
    queue.add(read(1))
    queue.begin_round(4, LogIndex(10))
    queue.add(read(2))
    assert queue.has_waiting
    queue.begin_round(5, LogIndex(12))
    assert queue.confirm(3) == []
    assert queue.confirm(4) == [(10, read(1))]
    assert queue.count == 1
    queue.add(read(3))
    assert queue.drain() == [read(2), read(3)]
    assert (queue.count, queue.confirm(99)) == (0, [])


def test_a_confirmed_round_confirms_all_before_it() -> None:
    queue = ReadQueue()
    for number in (1, 2):
        queue.add(read(number))
        queue.begin_round(number, LogIndex(number))
    assert queue.confirm(2) == [(1, read(1)), (2, read(2))]


def test_a_message_of_one_life_of_a_node_is_new_once() -> None:
    seen = SeenForwards()
    assert [seen.is_new(A, 1, sequence) for sequence in (1, 2, 2, 1, 3)] == [True, True, False, False, True]
    assert seen.is_new(B, 1, 1)
    assert seen.is_new(A, 2, 1), "another life"
    assert not seen.is_new(A, 1, 2), "the first life is not forgotten"


def test_messages_may_come_out_of_order_but_not_for_ever_late() -> None:
    seen = SeenForwards()
    assert seen.is_new(A, 1, 3000)
    assert seen.is_new(A, 1, 2999)
    assert not seen.is_new(A, 1, 1), "too old to know"


def test_what_is_remembered_of_messages_is_bounded() -> None:
    seen = SeenForwards()
    for session in range(3000):
        seen.is_new(A, session, 1)
    for sequence in range(1, 9000):
        seen.is_new(B, 1, sequence)
    assert len(seen._by_sender) <= 1024
    assert len(seen._by_sender[B, 1].recent) <= 2048
    assert not seen.is_new(B, 1, 8999)


def test_forwarded_requests_end_by_their_answer_or_by_time() -> None:
    forwarded = Forwarded()
    assert forwarded.next_end() is None
    forwarded.add_proposal(ProposalId(1), Instant(5.0))
    forwarded.add_read(ReadId(1), Instant(4.0))
    forwarded.add_proposal(ProposalId(2), Instant(6.0))
    assert (forwarded.count, forwarded.next_end()) == (3, 4.0)
    assert forwarded.end_read(ReadId(1))
    assert not forwarded.end_read(ReadId(1))
    assert forwarded.take_until(Instant(5.0)) == ([1], [])
    assert forwarded.end_proposal(ProposalId(2))
    assert forwarded.count == 0


def test_quorums_are_more_than_half() -> None:
    """Thesis §3.6."""
    assert [quorum_size(voters) for voters in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]
    for values, reached in (([5], 5), ([1, 5], 1), ([1, 3, 5], 3), ([1, 2, 3, 4], 2), ([1, 2, 3, 4, 5], 3)):
        assert reached_by_quorum(values) == reached


def test_a_vote_of_nobody_is_never_won() -> None:
    tally = VoteTally(())
    tally.record(A, is_granted=True)
    assert tally.verdict is Verdict.LOST
