"""What Ongaro's thesis asks of one node: log replication and commit; the section stands in the docstring."""

import pytest

from consensus.raft import (
    Apply,
    MessageReceived,
    MessagesReceived,
    ProposalId,
    Proposed,
    ProposedMany,
    SaveEntries,
    collect_write,
)
from consensus.raft.messages import (
    AppendEntries,
    AppendReply,
    TimeoutNow,
    VoteReply,
)
from consensus.storage import Entry
from orca.model.ids import LogIndex, NodeId, Term
from tests.consensus.raft.bench import A, B, Bench, C, D, E, append, heartbeat, sent

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


def test_entries_that_are_committed_in_the_step_of_an_election_are_counted_once() -> None:
    """A heartbeat, the word to campaign and the winning vote in one step; the invariants count the bytes."""
    bench = Bench(1, 1)
    letters = (
        MessageReceived(sender=B, message=heartbeat(1, commit=2)),
        MessageReceived(sender=B, message=TimeoutNow(term=Term(1), epoch=0)),
        MessageReceived(sender=C, message=VoteReply(term=Term(2), epoch=0, is_granted=True)),
    )
    bench.step(MessagesReceived(messages=letters))
    assert bench.machine.is_leader
    assert bench.machine.applied_index == 2
