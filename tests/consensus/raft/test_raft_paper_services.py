"""What Ongaro's thesis asks of one node: reads, membership and hand-over.

And what it leaves open: failed saves, epochs, bounds.
"""

import random

import msgspec
import pytest

from consensus.raft import (
    AddLearner,
    MembershipProposed,
    MessageReceived,
    MessagesReceived,
    Outranked,
    Promote,
    ProposalId,
    ProposalRejected,
    Proposed,
    ProposedMany,
    RaftConfig,
    RaftMachine,
    ReadId,
    ReadReady,
    ReadRejected,
    ReadRequested,
    RejectReason,
    Remove,
    Role,
    SaveFailed,
    Tick,
    TransferRequested,
)
from consensus.raft.messages import (
    EpochNotice,
    Heartbeat,
    HeartbeatReply,
    TimeoutNow,
)
from consensus.storage import LoadedLog
from orca.model.ids import LogIndex, Term
from orca.model.units import Instant
from tests.consensus.raft.bench import START, A, B, Bench, C, D, append, heartbeat, sent, vote_request

# Reads (§6.4).


def test_a_read_waits_for_an_entry_of_the_leaders_term_and_for_a_round() -> None:
    """§6.4, steps 1 to 3."""
    bench = Bench(1)
    bench.lead()
    assert bench.step(ReadRequested(read_id=ReadId(1))) == []
    effects = bench.stored(B, 2)
    rounds = {message.round for message in sent(effects) if isinstance(message, Heartbeat)} - {0}
    assert len(rounds) == 1
    (number,) = rounds
    assert bench.hear(C, HeartbeatReply(term=Term(2), epoch=0, round=number - 1)) == []
    assert ReadReady(read_id=ReadId(1), index=LogIndex(2)) in bench.hear(
        C, HeartbeatReply(term=Term(2), epoch=0, round=number)
    )


def test_a_read_that_comes_after_a_round_began_waits_for_the_next() -> None:
    """§6.4."""
    bench = Bench()
    bench.lead()
    bench.stored(B, 1)
    bench.step(ReadRequested(read_id=ReadId(1)))
    bench.step(ReadRequested(read_id=ReadId(2)))
    ready = bench.hear(B, HeartbeatReply(term=Term(1), epoch=0, round=1))
    assert [e.read_id for e in ready if isinstance(e, ReadReady)] == [1]
    ready = bench.hear(B, HeartbeatReply(term=Term(1), epoch=0, round=2))
    assert [e.read_id for e in ready if isinstance(e, ReadReady)] == [2]


def test_reads_of_a_deposed_leader_are_refused() -> None:
    """§6.4."""
    bench = Bench()
    bench.lead()
    bench.stored(B, 1)
    bench.step(ReadRequested(read_id=ReadId(1)))
    effects = bench.hear(C, heartbeat(5))
    assert (
        ReadRejected(read_id=ReadId(1), reason=RejectReason.NOT_LEADER, leader=C) in effects
        or ReadRejected(read_id=ReadId(1), reason=RejectReason.NOT_LEADER, leader=None) in effects
    )


# Membership (§4) and hand-over (§3.10).


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (AddLearner(node=B), RejectReason.REFUSED),
        (Promote(node=B), RejectReason.REFUSED),
        (Promote(node=D), RejectReason.REFUSED),
        (Remove(node=D), RejectReason.REFUSED),
        (AddLearner(node=D), None),
        (Remove(node=B), None),
        (Remove(node=A), None),
    ],
)
def test_changes_that_make_no_sense_are_refused(
    change: AddLearner | Promote | Remove, reason: RejectReason | None
) -> None:
    """§4.1."""
    bench = Bench()
    bench.lead()
    bench.stored(B, 1)
    effects = bench.step(MembershipProposed(proposal_id=ProposalId(1), change=change))
    assert [e.reason for e in effects if isinstance(e, ProposalRejected)] == ([] if reason is None else [reason])


def test_a_learner_is_promoted_when_a_round_took_less_than_an_election() -> None:
    """§4.2.1."""
    bench = Bench()
    bench.lead()
    bench.stored(B, 1)
    bench.step(MembershipProposed(proposal_id=ProposalId(1), change=AddLearner(node=D)))
    bench.stored(B, 2)
    promote = MembershipProposed(proposal_id=ProposalId(2), change=Promote(node=D))

    def rejected() -> list[RejectReason]:
        return [e.reason for e in bench.step(promote) if isinstance(e, ProposalRejected)]

    assert rejected() == [RejectReason.BUSY], "it stores nothing"
    for _ in range(20):  # the first round takes 2 s
        bench.now = Instant(bench.now + 0.1)
        bench.step(Tick())
        bench.stored(B, 2)
    bench.stored(D, 2)
    assert rejected() == [RejectReason.BUSY], "its only round took longer than an election"
    bench.step(Proposed(proposal_id=ProposalId(3), payload=b"x"))
    bench.stored(B, 3)
    bench.stored(D, 2)
    bench.hear(D, HeartbeatReply(term=Term(1), epoch=0, round=1))
    bench.now = Instant(bench.now + 0.1)
    bench.stored(D, 3)
    assert rejected() == []
    assert bench.machine.membership.voters == (A, B, C, D)


def test_a_learner_does_not_count() -> None:
    """§4.2.1."""
    bench = Bench()
    bench.lead()
    bench.stored(B, 1)
    bench.step(MembershipProposed(proposal_id=ProposalId(1), change=AddLearner(node=D)))
    bench.stored(D, 2)
    assert bench.machine.commit_index == 1


def test_a_leader_that_hands_over_sends_the_word_when_the_heir_has_all() -> None:
    """§3.10."""
    bench = Bench()
    bench.lead()
    bench.stored(B, 1)
    bench.step(Proposed(proposal_id=ProposalId(1), payload=b"x"))
    assert not sent(bench.step(TransferRequested(to=B)))
    assert TimeoutNow(term=Term(1), epoch=0) in sent(bench.stored(B, 2), B)


def test_only_the_leader_may_tell_a_voter_to_campaign() -> None:
    """§3.10."""
    bench = Bench(1)
    bench.hear(B, heartbeat(1))
    bench.hear(C, TimeoutNow(term=Term(1), epoch=0))
    assert bench.machine.role is Role.FOLLOWER
    effects = bench.hear(B, TimeoutNow(term=Term(1), epoch=0))
    assert sent(effects) == [vote_request(2, 1, 1, is_transfer=True)] * 2


# Failed saves.


def test_a_leader_whose_save_failed_after_it_sent_steps_down_and_says_lost() -> None:
    bench = Bench()
    bench.lead()
    bench.stored(B, 1)
    bench.step(Proposed(proposal_id=ProposalId(1), payload=b"x"))
    effects = bench.step(SaveFailed(detail="no room"))
    assert [type(effect).__name__ for effect in effects] == ["LeaderChanged", "ProposalLost", "Noted"]
    assert (bench.machine.role, bench.machine.last_index, bench.machine.term) == (Role.FOLLOWER, 1, 1)


def test_answers_of_a_step_whose_save_failed_are_not_lost() -> None:
    """A read that a quorum confirmed in the same step is still confirmed."""
    bench = Bench()
    bench.lead()
    bench.stored(B, 1)
    bench.step(ReadRequested(read_id=ReadId(1)))
    letters = (
        MessageReceived(sender=B, message=HeartbeatReply(term=Term(1), epoch=0, round=1)),
        MessageReceived(sender=C, message=heartbeat(2)),
    )
    bench.step(MessagesReceived(messages=letters))
    effects = bench.step(SaveFailed(detail="no room"))
    assert any(isinstance(effect, ReadReady | ReadRejected) and effect.read_id == 1 for effect in effects)


# Epochs.


def test_a_lower_epoch_is_answered_with_the_higher_one() -> None:
    bench = Bench(1, epoch=3)
    assert sent(bench.hear(B, heartbeat(9))) == [EpochNotice(term=Term(1), epoch=3)]
    assert bench.machine.term == 1
    assert not sent(bench.hear(B, EpochNotice(term=Term(9), epoch=1))), "a notice is not answered"


def test_a_higher_epoch_ends_what_this_node_does() -> None:
    bench = Bench(1)
    bench.lead()
    effects = bench.hear(B, msgspec.structs.replace(heartbeat(9), epoch=4))
    assert Outranked(epoch=4) in effects
    assert (bench.machine.is_outranked, bench.machine.role, bench.machine.deadline()) == (True, Role.FOLLOWER, None)
    assert bench.hear(B, vote_request(99, 9, 9)) == []
    (answer,) = bench.step(Proposed(proposal_id=ProposalId(1), payload=b"x"))
    assert isinstance(answer, ProposalRejected)


def test_a_blank_node_takes_the_epoch_of_whoever_contacts_it() -> None:
    machine = RaftMachine(A, frozenset(), LoadedLog(), RaftConfig(), random.Random(1))
    machine.step(Tick(), START)
    assert machine.deadline() is None, "it waits to be contacted"
    message = msgspec.structs.replace(append(2, (0, 0), 1), epoch=4)
    machine.step(MessageReceived(sender=B, message=message), START)
    machine.check_invariants()
    assert (machine.epoch, machine.term, machine.last_index, machine.leader) == (4, 2, 1, B)


# Bounds.


def test_a_leader_without_a_quorum_takes_so_much_and_no_more() -> None:
    bench = Bench(config=RaftConfig(uncommitted_entries_max=3))
    bench.lead()
    effects = bench.step(
        ProposedMany(proposals=tuple(Proposed(proposal_id=ProposalId(n), payload=b"x") for n in range(5)))
    )
    assert [e.reason for e in effects if isinstance(e, ProposalRejected)] == [RejectReason.BUSY] * 3
    bench.stored(B, 3)
    assert not [
        e for e in bench.step(Proposed(proposal_id=ProposalId(9), payload=b"x")) if isinstance(e, ProposalRejected)
    ]


def test_reads_and_forwarded_requests_are_bounded() -> None:
    bench = Bench(config=RaftConfig(reads_max=2, forwards_max=2))
    bench.hear(B, heartbeat(1))
    for number in range(3):
        effects = bench.step(ReadRequested(read_id=ReadId(number)))
    assert effects == [ReadRejected(read_id=ReadId(2), reason=RejectReason.BUSY, leader=B)]
    (refused,) = bench.step(Proposed(proposal_id=ProposalId(1), payload=b"x"))
    assert isinstance(refused, ProposalRejected)
    assert refused.reason is RejectReason.BUSY
    bench = Bench(config=RaftConfig(reads_max=2))
    bench.lead()
    for number in range(3):
        effects = bench.step(ReadRequested(read_id=ReadId(number)))
    assert effects == [ReadRejected(read_id=ReadId(2), reason=RejectReason.BUSY, leader=A)]


def test_a_forwarded_request_that_nobody_answers_is_given_up() -> None:
    bench = Bench(config=RaftConfig(forward_timeout_s=0.4))
    bench.hear(B, heartbeat(1))
    bench.step(Proposed(proposal_id=ProposalId(1), payload=b"x"))
    effects = bench.time_out()
    assert [type(effect).__name__ for effect in effects] == ["ProposalLost"]
    assert bench.now == pytest.approx(START + 0.4)


def test_an_idle_leader_wakes_five_times_a_second_and_an_only_voter_never() -> None:
    bench = Bench()
    bench.lead()
    began = bench.now
    for number in range(1, 11):
        bench.time_out()
        bench.hear(B, HeartbeatReply(term=Term(1), epoch=0, round=number))
    assert bench.now - began == pytest.approx(10 * RaftConfig().heartbeat_s)
    assert Bench(voters=(A,)).machine.deadline() is None
