"""A node without a vote takes in what others say is committed."""

import random
from typing import Any

from consensus.raft import EntriesLearned, RaftConfig, RaftMachine, Role, SnapshotLearned, Tick
from consensus.raft.effects import Apply, Outranked, RestoreSnapshot, SaveEntries
from consensus.storage import Entry, HardState, LoadedLog, Membership, Snapshot, SnapshotMeta
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant


def entry(index: int, term: int = 1) -> Entry:
    return Entry(term=Term(term), index=LogIndex(index), payload=b"%d" % index)


def make(loaded: LoadedLog | None = None, voters: frozenset[NodeId] = frozenset()) -> RaftMachine:
    return RaftMachine(NodeId("z"), voters, loaded or LoadedLog(), RaftConfig(), random.Random(1))


def learn(machine: RaftMachine, *entries: Entry, term: int = 1, epoch: int = 0, leader: str | None = None) -> list[Any]:
    event = EntriesLearned(
        epoch=epoch, term=Term(term), entries=entries, leader=None if leader is None else NodeId(leader)
    )
    effects = machine.step(event, Instant(1.0))
    machine.check_invariants()
    return effects


def applied(effects: list[Any]) -> list[int]:
    return [one.index for effect in effects if isinstance(effect, Apply) for one in effect.entries]


def snapshot(index: int, term: int = 1) -> Snapshot:
    meta = SnapshotMeta(
        last_index=LogIndex(index), last_term=Term(term), membership=Membership(voters=(NodeId("a"),), learners=())
    )
    return Snapshot(meta=meta, payload=b"state")


def test_committed_entries_are_saved_and_applied_in_one_step() -> None:
    machine = make()
    effects = learn(machine, entry(1), entry(2))
    assert any(isinstance(effect, SaveEntries) for effect in effects)
    assert applied(effects) == [1, 2]
    assert applied(learn(machine, entry(2), entry(3))) == [3]


def test_a_gap_is_not_filled_with_hope() -> None:
    machine = make()
    assert applied(learn(machine, entry(5))) == []
    assert machine.last_index == 0


def test_who_leads_is_known_for_proposals_to_pass_on() -> None:
    machine = make()
    learn(machine, entry(1), leader="a")
    assert machine.leader == "a"


def test_whoever_campaigns_learns_of_no_leader_whom_it_does_not_hear_itself() -> None:
    """A voter that only its peers' feed reaches: it asks for votes, and does not follow meanwhile."""
    machine = make(voters=frozenset({NodeId("a"), NodeId("b"), NodeId("z")}))
    for seconds in range(10):
        machine.step(Tick(), Instant(float(seconds)))
    assert machine.role is Role.PRE_CANDIDATE
    machine.step(EntriesLearned(epoch=0, term=machine.term, entries=(), leader=NodeId("a")), Instant(9.0))
    machine.check_invariants()
    assert machine.leader is None
    assert machine.role is Role.PRE_CANDIDATE


def test_a_later_term_is_followed() -> None:
    machine = make()
    learn(machine, entry(1, 1), term=1, leader="a")
    learn(machine, entry(2, 4), term=4, leader="b")
    assert (machine.term, machine.leader) == (4, "b")


def test_an_uncommitted_entry_of_its_own_gives_way_to_a_committed_one() -> None:
    """A voter that was away, and removed meanwhile: what it stored was never committed."""
    loaded = LoadedLog(hard_state=HardState(term=Term(2)), entries=(entry(1, 1), entry(2, 2)))
    machine = make(loaded, frozenset({NodeId("a"), NodeId("b"), NodeId("z")}))
    effects = learn(machine, entry(1, 1), entry(2, 3), term=3)
    assert applied(effects) == [1, 2]
    assert machine.term == 3


def test_entries_between_what_is_committed_here_and_what_comes_are_not_taken_for_committed() -> None:
    loaded = LoadedLog(hard_state=HardState(term=Term(2)), entries=(entry(1, 1), entry(2, 2)))
    machine = make(loaded, frozenset({NodeId("a"), NodeId("b"), NodeId("z")}))
    assert applied(learn(machine, entry(3, 3), term=3)) == [], "entry 2 of term 2 may be another's entry 2"
    assert machine.commit_index == 0


def test_a_snapshot_replaces_what_is_behind_it_and_nothing_else() -> None:
    machine = make()
    effects = machine.step(SnapshotLearned(epoch=0, snapshot=snapshot(7, 2)), Instant(1.0))
    assert any(isinstance(effect, RestoreSnapshot) for effect in effects)
    assert machine.applied_index == 7
    assert machine.step(SnapshotLearned(epoch=0, snapshot=snapshot(6, 2)), Instant(1.0)) == []
    machine.check_invariants()


def test_a_leader_learns_from_nobody() -> None:
    machine = make(voters=frozenset({NodeId("z")}))
    machine.step(Tick(), Instant(0.0))
    assert machine.is_leader
    before = machine.last_index
    learn(machine, entry(before + 1, 9), term=9)
    assert machine.last_index == before


def test_a_blank_node_takes_the_epoch_and_one_with_a_log_is_outranked() -> None:
    blank = make()
    assert applied(learn(blank, entry(1), epoch=2)) == [1]
    assert blank.epoch == 2
    effects = learn(blank, entry(2), epoch=3)
    assert [effect.epoch for effect in effects if isinstance(effect, Outranked)] == [3]
    assert learn(blank, entry(2), epoch=3) == []


def test_a_node_that_knows_a_term_and_nothing_else_still_takes_the_epoch() -> None:
    """It heard of a term from somebody who did not know yet that the group was started anew."""
    machine = make()
    learn(machine, term=4, leader=NodeId("old"))
    assert (machine.term, machine.leader, machine.epoch) == (4, NodeId("old"), 0)
    assert applied(learn(machine, entry(1), epoch=2)) == [1]
    assert (machine.epoch, machine.leader) == (2, None)


def test_entries_of_an_older_epoch_are_ignored() -> None:
    machine = make()
    learn(machine, entry(1), epoch=2)
    assert applied(learn(machine, entry(2), epoch=1)) == []
