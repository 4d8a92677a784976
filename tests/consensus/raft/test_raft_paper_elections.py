"""What Ongaro's thesis asks of one node: terms and elections, rule by rule; the section stands in the docstring."""

import random

import pytest

from consensus.raft import (
    LeaderChanged,
    Message,
    RaftConfig,
    RaftMachine,
    Role,
    SaveFailed,
    SaveHardState,
    SendMessage,
    Tick,
    collect_write,
)
from consensus.raft.messages import (
    AppendReply,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    VoteReply,
)
from consensus.storage import HardState, LoadedLog
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant
from tests.consensus.raft.bench import START, A, B, Bench, C, D, E, T, append, heartbeat, sent, vote_request

# Terms (§3.3).


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER])
def test_a_higher_term_makes_everybody_a_follower_of_it(role: Role) -> None:
    """§3.3."""
    bench = Bench(1)
    if role is Role.LEADER:
        bench.lead()
    elif role is not Role.FOLLOWER:
        bench.time_out()
    if role is Role.CANDIDATE:
        bench.hear(B, PreVoteReply(term=Term(1), epoch=0, for_term=Term(1), is_granted=True))
    assert bench.machine.role is role
    effects = bench.hear(B, heartbeat(9))
    assert (bench.machine.role, bench.machine.term, bench.machine.leader) == (Role.FOLLOWER, 9, B)
    assert SaveHardState(hard_state=HardState(term=Term(9))) in effects
    assert LeaderChanged(term=Term(9), leader=B) in effects


@pytest.mark.parametrize("message", [append(2, (1, 1), 2), heartbeat(2)])
def test_a_leader_of_an_earlier_term_is_told_and_changes_nothing(message: Message) -> None:
    """§3.3."""
    bench = Bench(1, term=5)
    effects = bench.hear(B, message)
    assert [reply.term for reply in sent(effects, B)] == [5]
    assert (bench.machine.term, bench.machine.leader, bench.machine.last_index) == (5, None, 1)


def test_answers_of_an_earlier_term_are_dropped() -> None:
    """§3.3."""
    bench = Bench()
    bench.lead()
    assert bench.hear(B, AppendReply(term=Term(0), epoch=0, is_accepted=True, index=LogIndex(1))) == []
    assert bench.machine.commit_index == 0


# Elections (§3.4, §3.6.1, §9.6).


def test_a_follower_that_hears_nothing_asks_before_it_uses_up_a_term() -> None:
    """§9.6."""
    bench = Bench(1, 1)
    deadline = bench.machine.deadline()
    assert deadline is not None
    assert START + T <= deadline <= START + 2 * T
    effects = bench.time_out()
    asked = PreVote(term=Term(1), epoch=0, last_index=LogIndex(2), last_term=Term(1))
    assert effects == [SendMessage(to=B, message=asked), SendMessage(to=C, message=asked)]
    assert bench.machine.term == 1


def test_timers_of_a_group_differ() -> None:
    """§3.4: randomised, so that split votes are rare."""
    deadlines = set()
    for seed in range(20):
        machine = RaftMachine(A, frozenset({A, B, C}), LoadedLog(), RaftConfig(), random.Random(seed))
        machine.step(Tick(), START)
        deadlines.add(machine.deadline())
    assert len(deadlines) == 20


def test_a_candidate_saves_term_and_vote_before_it_asks() -> None:
    """§3.8."""
    bench = Bench(1)
    bench.time_out()
    effects = bench.hear(B, PreVoteReply(term=Term(1), epoch=0, for_term=Term(1), is_granted=True))
    assert effects[0] == SaveHardState(hard_state=HardState(term=Term(2), voted_for=A))
    assert sent(effects) == [vote_request(2, 1, 1)] * 2
    before, write, _ = collect_write(effects)
    assert not before
    assert write is not None


@pytest.mark.parametrize(
    ("voters", "grants", "refusals", "role"),
    [
        ((A, B, C), 0, 1, Role.CANDIDATE),
        ((A, B, C), 1, 0, Role.LEADER),
        ((A, B, C), 0, 2, Role.FOLLOWER),
        ((A, B, C, D, E), 1, 0, Role.CANDIDATE),
        ((A, B, C, D, E), 1, 2, Role.CANDIDATE),
        ((A, B, C, D, E), 2, 0, Role.LEADER),
        ((A, B, C, D, E), 1, 3, Role.FOLLOWER),
        ((A, B), 1, 0, Role.LEADER),
        ((A, B), 0, 1, Role.FOLLOWER),
    ],
)
def test_a_majority_of_votes_wins(voters: tuple[NodeId, ...], grants: int, refusals: int, role: Role) -> None:
    """§3.4."""
    bench = Bench(voters=voters)
    bench.time_out()
    for voter in voters[1:]:
        bench.hear(voter, PreVoteReply(term=Term(0), epoch=0, for_term=Term(0), is_granted=True))
    for number, voter in enumerate(voters[1 : 1 + grants + refusals]):
        bench.hear(voter, VoteReply(term=Term(1), epoch=0, is_granted=number < grants))
    assert bench.machine.role is role


def test_a_vote_that_comes_twice_counts_once_and_a_strangers_not_at_all() -> None:
    """§3.4."""
    bench = Bench(voters=(A, B, C, D, E))
    bench.time_out()
    for voter in (B, C):
        bench.hear(voter, PreVoteReply(term=Term(0), epoch=0, for_term=Term(0), is_granted=True))
    for sender in (B, B, NodeId("n-x")):
        bench.hear(sender, VoteReply(term=Term(1), epoch=0, is_granted=True))
    assert bench.machine.role is Role.CANDIDATE


@pytest.mark.parametrize(
    ("own", "last_index", "last_term", "is_granted"),
    [
        ((), 0, 0, True),
        ((1,), 1, 1, True),
        ((1,), 2, 1, True),
        ((1, 1), 1, 1, False),
        ((1, 1), 1, 2, True),
        ((1, 2), 5, 1, False),
        ((1, 2), 2, 2, True),
        ((1,), 0, 0, False),
    ],
)
def test_a_vote_is_refused_when_the_candidates_log_is_older(
    own: tuple[int, ...], last_index: int, last_term: int, is_granted: bool
) -> None:
    """§3.6.1."""
    effects = Bench(*own, term=3).hear(B, vote_request(4, last_index, last_term))
    assert sent(effects) == [VoteReply(term=Term(4), epoch=0, is_granted=is_granted)]
    saved = HardState(term=Term(4), voted_for=B if is_granted else None)
    assert effects[0] == SaveHardState(hard_state=saved)
    pre = PreVote(term=Term(3), epoch=0, last_index=LogIndex(last_index), last_term=Term(last_term))
    bench = Bench(*own, term=3)
    assert sent(bench.hear(B, pre)) == [PreVoteReply(term=Term(3), epoch=0, for_term=Term(3), is_granted=is_granted)]
    assert bench.machine.term == 3


@pytest.mark.parametrize(
    ("voted_for", "term", "is_granted"),
    [(None, 3, True), (B, 3, True), (C, 3, False), (C, 4, True), (A, 3, False), (None, 2, False)],
)
def test_a_node_votes_once_a_term(voted_for: NodeId | None, term: int, is_granted: bool) -> None:
    """§3.4."""
    bench = Bench(1, term=3, voted_for=voted_for)
    (reply,) = sent(bench.hear(B, vote_request(term, 1, 1)))
    assert reply == VoteReply(term=Term(max(term, 3)), epoch=0, is_granted=is_granted)


def test_a_vote_outlives_a_restart() -> None:
    """§3.8."""
    bench = Bench(1, term=3, voted_for=B)
    assert sent(bench.hear(C, vote_request(3, 9, 3))) == [VoteReply(term=Term(3), epoch=0, is_granted=False)]


def test_a_vote_that_could_not_be_saved_was_not_given() -> None:
    """§3.8."""
    bench = Bench(1, term=3)
    bench.hear(B, vote_request(4, 1, 1))
    effects = bench.step(SaveFailed(detail="no room"))
    assert not sent(effects)
    assert (bench.machine.term, bench.machine.role) == (3, Role.FOLLOWER)
    assert sent(bench.hear(C, vote_request(4, 1, 1))) == [VoteReply(term=Term(4), epoch=0, is_granted=True)]


@pytest.mark.parametrize(
    ("waited", "is_transfer", "is_granted"), [(0.5, False, False), (1.1, False, True), (0.1, True, True)]
)
def test_who_hears_a_leader_takes_no_notice_of_candidates(waited: float, is_transfer: bool, is_granted: bool) -> None:
    """§4.2.3."""
    bench = Bench(1)
    bench.hear(B, heartbeat(1))
    bench.now = Instant(bench.now + waited * T)
    replies = sent(bench.hear(C, vote_request(2, 1, 1, is_transfer=is_transfer)))
    assert replies == ([VoteReply(term=Term(2), epoch=0, is_granted=True)] if is_granted else [])
    assert bench.machine.term == (2 if is_granted else 1)


def test_a_leader_that_a_quorum_answers_is_not_deposed_by_a_candidate() -> None:
    """§4.2.3."""
    bench = Bench()
    bench.lead()
    assert sent(bench.hear(C, vote_request(9, 99, 9))) == []
    assert bench.machine.is_leader
    assert bench.machine.term == 1


def test_a_candidate_follows_a_leader_of_its_term() -> None:
    """§3.4."""
    bench = Bench()
    bench.time_out()
    bench.hear(B, PreVoteReply(term=Term(0), epoch=0, for_term=Term(0), is_granted=True))
    assert bench.machine.role is Role.CANDIDATE
    bench.hear(C, append(1, (0, 0), 1))
    assert (bench.machine.role, bench.machine.leader, bench.machine.last_index) == (Role.FOLLOWER, C, 1)


def test_a_second_leader_of_the_same_term_is_not_believed() -> None:
    """§3.4: there is one leader a term at most."""
    bench = Bench()
    bench.hear(B, append(1, (0, 0), 1))
    bench.hear(C, append(1, (1, 1), 1))
    assert (bench.machine.leader, bench.machine.last_index) == (B, 1)


def test_a_leader_that_no_quorum_answers_steps_down() -> None:
    """§6.2."""
    bench = Bench()
    bench.lead()
    silent_since = bench.now
    while bench.machine.is_leader:
        bench.time_out()
        assert bench.now <= silent_since + T + RaftConfig().heartbeat_s
    assert bench.machine.leader is None
    assert bench.machine.term == 1


def test_one_answer_of_three_keeps_a_leader() -> None:
    """§6.2."""
    bench = Bench()
    bench.lead()
    for number in range(1, 30):
        bench.time_out()
        bench.hear(C, HeartbeatReply(term=Term(1), epoch=0, round=number))
    assert bench.machine.is_leader
