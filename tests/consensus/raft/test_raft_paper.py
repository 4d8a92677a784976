"""What Ongaro's thesis asks of one node, rule by rule; the section stands in the docstring."""

import random

import msgspec
import pytest

from consensus.raft import (
    AddLearner,
    Apply,
    Effect,
    LeaderChanged,
    MembershipProposed,
    Message,
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
    SaveEntries,
    SaveFailed,
    SaveHardState,
    SendMessage,
    Tick,
    TransferRequested,
    collect_write,
)
from consensus.raft.messages import (
    AppendEntries,
    AppendReply,
    EpochNotice,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from consensus.storage import Entry, HardState, LoadedLog
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant
from tests.contracts.log_store import entries_from

A, B, C, D, E = (NodeId(name) for name in ("n-a", "n-b", "n-c", "n-d", "n-e"))
START = Instant(100.0)
T = RaftConfig().election_timeout_s


class Bench:
    """One machine, of which every step is saved, and a clock."""

    def __init__(
        self,
        *terms: int,
        term: int = 0,
        voted_for: NodeId | None = None,
        epoch: int = 0,
        voters: tuple[NodeId, ...] = (A, B, C),
        config: RaftConfig | None = None,
    ) -> None:
        hard_state = HardState(term=Term(term or max(terms, default=0)), voted_for=voted_for, epoch=epoch)
        loaded = LoadedLog(hard_state=hard_state, entries=entries_from(1, *terms))
        self.machine = RaftMachine(A, frozenset(voters), loaded, config or RaftConfig(), random.Random(7))
        self.now = START
        self.step(Tick())

    def step(self, event: object) -> list[Effect]:
        effects = self.machine.step(event, self.now)  # type: ignore[arg-type]
        self.machine.check_invariants()
        collect_write(effects)
        return effects

    def hear(self, sender: NodeId, message: Message) -> list[Effect]:
        return self.step(MessageReceived(sender=sender, message=message))

    def time_out(self) -> list[Effect]:
        """Its own timer ends."""
        deadline = self.machine.deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        return self.step(Tick())

    def lead(self) -> list[Effect]:
        """Win an election with the votes of all others."""
        self.time_out()
        others = [voter for voter in self.machine.membership.voters if voter != A]
        term = self.machine.term
        for voter in others:
            self.hear(voter, PreVoteReply(term=term, epoch=self.machine.epoch, for_term=term, is_granted=True))
        effects: list[Effect] = []
        for voter in others:
            effects += self.hear(voter, VoteReply(term=Term(term + 1), epoch=self.machine.epoch, is_granted=True))
        assert self.machine.is_leader
        return effects

    def stored(self, sender: NodeId, index: int) -> list[Effect]:
        """`sender` stores the log up to `index`."""
        reply = AppendReply(term=self.machine.term, epoch=0, is_accepted=True, index=LogIndex(index))
        return self.hear(sender, reply)


def sent(effects: list[Effect], to: NodeId | None = None) -> list[Message]:
    return [e.message for e in effects if isinstance(e, SendMessage) and to in (None, e.to)]


def vote_request(term: int, last_index: int, last_term: int, *, is_transfer: bool = False) -> RequestVote:
    return RequestVote(
        term=Term(term), epoch=0, last_index=LogIndex(last_index), last_term=Term(last_term), is_transfer=is_transfer
    )


def append(term: int, after: tuple[int, int], *terms: int, commit: int = 0) -> AppendEntries:
    return AppendEntries(
        term=Term(term),
        epoch=0,
        prev_index=LogIndex(after[0]),
        prev_term=Term(after[1]),
        entries=entries_from(after[0] + 1, *terms),
        commit_index=LogIndex(commit),
    )


def heartbeat(term: int, commit: int = 0, number: int = 1) -> Heartbeat:
    return Heartbeat(term=Term(term), epoch=0, commit_index=LogIndex(commit), round=number)


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


# Replication (§3.5, §3.6).


def test_a_new_leader_appends_a_no_op_and_sends_it() -> None:
    """§6.4, and §3.6.2."""
    bench = Bench(1, 1)
    effects = bench.lead()
    no_op = Entry(term=Term(2), index=LogIndex(3), payload=b"")
    expected = AppendEntries(
        term=Term(2), epoch=0, prev_index=LogIndex(2), prev_term=Term(1), entries=(no_op,), commit_index=LogIndex(0)
    )
    assert sent(effects) == [expected, expected]
    assert SaveEntries(entries=(no_op,)) in effects


def test_a_leaders_entries_leave_before_they_are_on_its_own_disk() -> None:
    """§10.2.1."""
    bench = Bench()
    bench.lead()
    bench.stored(B, 1)
    bench.stored(C, 1)
    before, write, after = collect_write(bench.step(Proposed(proposal_id=ProposalId(1), payload=b"x")))
    assert [type(one.message) for one in before] == [AppendEntries, AppendEntries]
    assert write is not None
    assert not sent(after)


def test_a_followers_answer_waits_for_its_disk() -> None:
    """§3.8."""
    before, write, after = collect_write(Bench().hear(B, append(1, (0, 0), 1)))
    assert not before
    assert write is not None
    assert sent(after) == [AppendReply(term=Term(1), epoch=0, is_accepted=True, index=LogIndex(1))]


@pytest.mark.parametrize(
    ("own", "after", "terms", "kept", "truncated_from"),
    [
        ((1, 1), (2, 1), (2,), (1, 1, 2), None),
        ((1, 1), (1, 1), (1,), (1, 1), None),
        ((1, 1, 1), (1, 1), (1,), (1, 1, 1), None),  # an old message takes nothing away
        ((1, 1, 1), (1, 1), (2,), (1, 2), 2),
        ((1, 1, 1), (1, 1), (1, 2), (1, 1, 2), 3),
        ((1, 1, 1), (0, 0), (2, 2), (2, 2), 1),
        ((1, 1), (2, 1), (), (1, 1), None),
        ((), (0, 0), (1, 1), (1, 1), None),
    ],
)
def test_a_follower_replaces_what_conflicts_and_nothing_else(
    own: tuple[int, ...],
    after: tuple[int, int],
    terms: tuple[int, ...],
    kept: tuple[int, ...],
    truncated_from: int | None,
) -> None:
    """§3.5, steps 3 and 4."""
    bench = Bench(*own, term=3)
    effects = bench.hear(B, append(3, after, *terms))
    assert [bench.machine._log.term_at(LogIndex(index + 1)) for index in range(len(kept))] == list(kept)
    assert bench.machine.last_index == len(kept)
    (reply,) = sent(effects)
    assert reply == AppendReply(term=Term(3), epoch=0, is_accepted=True, index=LogIndex(after[0] + len(terms)))
    saves = [effect for effect in effects if isinstance(effect, SaveEntries)]
    assert [save.truncate_from for save in saves] == ([] if kept == own else [truncated_from])


@pytest.mark.parametrize(
    ("own", "after", "hint"),
    [
        ((1,), (5, 3), (1, 1)),
        ((1, 2, 2), (3, 1), (1, 1)),
        ((1, 1, 4, 4), (4, 3), (2, 1)),
        ((), (4, 3), (0, 0)),
        ((2, 2), (1, 1), (0, 0)),
    ],
)
def test_a_follower_says_where_the_logs_may_agree(
    own: tuple[int, ...], after: tuple[int, int], hint: tuple[int, int]
) -> None:
    """§3.5, at its end: a whole term at a time."""
    (reply,) = sent(Bench(*own, term=5).hear(B, append(5, after, 5)))
    assert reply == AppendReply(
        term=Term(5),
        epoch=0,
        is_accepted=False,
        index=LogIndex(after[0]),
        hint_index=LogIndex(hint[0]),
        hint_term=Term(hint[1]),
    )


def test_a_committed_entry_is_never_removed() -> None:
    """§3.6.3: that it would have to be says that something is broken for good."""
    bench = Bench()
    bench.hear(B, append(1, (0, 0), 1, 1, commit=2))
    reply = sent(bench.hear(B, append(1, (0, 0), 1)))
    assert reply == [AppendReply(term=Term(1), epoch=0, is_accepted=True, index=LogIndex(2))]
    with pytest.raises(AssertionError, match="is committed up to 2, and conflicts"):
        bench.machine._remove_conflict(LogIndex(2))


@pytest.mark.parametrize(
    ("commit", "after", "terms", "committed"), [(5, (1, 1), (1,), 2), (1, (1, 1), (1,), 1), (5, (3, 1), (), 3)]
)
def test_a_follower_commits_what_was_compared_and_no_more(
    commit: int, after: tuple[int, int], terms: tuple[int, ...], committed: int
) -> None:
    """§3.5, step 5: entries after those of the message may be another leader's."""
    bench = Bench(1, 1, 1, term=1)
    bench.hear(B, append(1, after, *terms, commit=commit))
    assert bench.machine.commit_index == committed


@pytest.mark.parametrize(
    ("own", "stored", "committed"),
    [
        ((1, 1), {B: 2}, 0),  # on a majority, but of an earlier term
        ((1, 1), {B: 3}, 3),
        ((1, 1), {B: 2, C: 2}, 0),
        ((), {}, 0),
        ((), {C: 1}, 1),
    ],
)
def test_a_leader_commits_only_with_an_entry_of_its_term(
    own: tuple[int, ...], stored: dict[NodeId, int], committed: int
) -> None:
    """§3.6.2, figure 3.7."""
    bench = Bench(*own)
    bench.lead()
    for sender, index in stored.items():
        bench.stored(sender, index)
    assert bench.machine.commit_index == committed


@pytest.mark.parametrize(
    ("voters", "stored", "committed"),
    [
        ((A, B), {}, 0),
        ((A, B), {B: 3}, 3),
        ((A, B, C, D), {B: 3}, 0),
        ((A, B, C, D), {B: 3, C: 2}, 2),
        ((A, B, C, D, E), {B: 3, C: 1}, 1),
        ((A, B, C, D, E), {B: 3, C: 2, D: 3}, 3),
    ],
)
def test_commit_is_what_a_quorum_stores(voters: tuple[NodeId, ...], stored: dict[NodeId, int], committed: int) -> None:
    """§3.5."""
    bench = Bench(voters=voters)
    bench.lead()
    bench.step(ProposedMany(proposals=tuple(Proposed(proposal_id=ProposalId(n), payload=b"x") for n in (1, 2))))
    for sender, index in stored.items():
        bench.stored(sender, index)
    assert bench.machine.commit_index == committed


def test_an_old_answer_takes_nothing_back() -> None:
    """§3.5: messages may come late and twice."""
    bench = Bench()
    bench.lead()
    bench.step(Proposed(proposal_id=ProposalId(1), payload=b"x"))
    bench.stored(B, 2)
    bench.stored(B, 1)
    bench.hear(B, AppendReply(term=Term(1), epoch=0, is_accepted=False, index=LogIndex(1)))
    progress = {one.node: one for one in bench.machine.progress()}
    assert (progress[B].match_index, progress[B].next_index) == (2, 3)


def test_what_a_peer_cannot_store_is_not_believed() -> None:
    bench = Bench()
    bench.lead()
    bench.stored(B, 99)
    assert bench.machine.commit_index == 0


def test_many_letters_are_answered_after_one_write() -> None:
    """Group commit: one sync serves all that waited."""
    bench = Bench()
    letters = tuple(MessageReceived(sender=B, message=append(1, (n, 1 if n else 0), 1, commit=n)) for n in range(5))
    effects = bench.step(MessagesReceived(messages=letters))
    _, write, after = collect_write(effects)
    assert write is not None
    assert [entry.index for entry in write.entries] == [1, 2, 3, 4, 5]
    assert sent(after) == [AppendReply(term=Term(1), epoch=0, is_accepted=True, index=LogIndex(5))]
    assert [entry.index for effect in after if isinstance(effect, Apply) for entry in effect.entries] == [1, 2, 3, 4]


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
