import random

import pytest

from consensus.raft import (
    Accepted,
    Apply,
    LeaderChanged,
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
    Role,
    SaveEntries,
    SaveFailed,
    SaveHardState,
    SaveSnapshot,
    SnapshotTaken,
    Tick,
    collect_write,
)
from consensus.storage import Entry, HardState, LoadedLog, LogWrite, Membership, Snapshot, SnapshotMeta
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant
from tests.contracts.log_store import entries_from, snapshot_at

NODE = NodeId("n-a")
NOW = Instant(100.0)


def make_machine(
    loaded: LoadedLog | None = None, config: RaftConfig | None = None, applied: LogIndex | None = None
) -> RaftMachine:
    return RaftMachine(
        NODE, frozenset({NODE}), loaded or LoadedLog(), config or RaftConfig(), random.Random(1), applied=applied
    )


def make_leader(loaded: LoadedLog | None = None, config: RaftConfig | None = None) -> RaftMachine:
    machine = make_machine(loaded, config)
    machine.step(Tick(), NOW)
    machine.check_invariants()
    return machine


def proposal(number: int, payload: bytes = b"set") -> Proposed:
    return Proposed(proposal_id=ProposalId(number), payload=payload)


def test_first_tick_saves_the_new_term_and_the_vote_before_anything_else() -> None:
    """Thesis §3.8."""
    machine = make_machine()
    assert machine.role is Role.FOLLOWER
    deadline = machine.deadline()
    assert deadline is not None
    assert deadline <= NOW
    effects = machine.step(Tick(), NOW)
    no_op = Entry(term=Term(1), index=LogIndex(1), payload=b"")
    assert effects[:4] == [
        SaveHardState(hard_state=HardState(term=Term(1), voted_for=NODE)),
        SaveEntries(entries=(no_op,)),
        LeaderChanged(term=Term(1), leader=NODE),
        Apply(entries=(no_op,)),
    ]
    assert machine.is_leader
    assert machine.deadline() is None
    machine.check_invariants()


def test_entries_of_earlier_terms_are_committed_only_with_an_entry_of_the_new_term() -> None:
    """Thesis §3.6.2."""
    loaded = LoadedLog(hard_state=HardState(term=Term(4), voted_for=NODE, epoch=3), entries=entries_from(1, 2, 4, 4))
    machine = make_machine(loaded)
    assert machine.commit_index == 0
    effects = machine.step(Tick(), NOW)
    no_op = Entry(term=Term(5), index=LogIndex(4), payload=b"")
    assert effects[0] == SaveHardState(hard_state=HardState(term=Term(5), voted_for=NODE, epoch=3))
    assert effects[1] == SaveEntries(entries=(no_op,))
    assert effects[3] == Apply(entries=(*loaded.entries, no_op))
    assert machine.commit_index == machine.applied_index == 4


def test_entries_that_a_snapshot_or_an_earlier_machine_applied_are_not_applied_again() -> None:
    loaded = LoadedLog(hard_state=HardState(term=Term(2)), snapshot=snapshot_at(3, 1), entries=entries_from(4, 1, 2, 2))
    for applied, expected in ((None, [4, 5, 6, 7]), (LogIndex(5), [6, 7]), (LogIndex(6), [7])):
        machine = make_machine(loaded, applied=applied)
        handed_out = [
            e.index for effect in machine.step(Tick(), NOW) if isinstance(effect, Apply) for e in effect.entries
        ]
        assert handed_out == expected


@pytest.mark.parametrize("applied", [2, 7])
def test_applied_index_outside_the_log_is_a_bug(applied: int) -> None:
    loaded = LoadedLog(hard_state=HardState(term=Term(2)), snapshot=snapshot_at(3, 1), entries=entries_from(4, 1, 2, 2))
    with pytest.raises(AssertionError, match="cannot have been applied"):
        make_machine(loaded, applied=LogIndex(applied))


def test_many_proposals_are_saved_in_one_write_and_applied_after_it() -> None:
    machine = make_leader()
    effects = machine.step(ProposedMany(proposals=(proposal(1, b"a"), proposal(2, b"b"))), NOW)
    entries = (
        Entry(term=Term(1), index=LogIndex(2), payload=b"a"),
        Entry(term=Term(1), index=LogIndex(3), payload=b"b"),
    )
    assert effects == [
        SaveEntries(entries=entries),
        Accepted(proposal_id=ProposalId(1), term=Term(1), index=LogIndex(2)),
        Accepted(proposal_id=ProposalId(2), term=Term(1), index=LogIndex(3)),
        Apply(entries=entries),
    ]
    _, write, rest = collect_write(effects)
    assert write == LogWrite(entries=entries)
    assert rest == effects[1:]


def test_proposals_and_reads_before_the_election_are_rejected() -> None:
    machine = make_machine()
    assert machine.step(proposal(1), NOW) == [
        ProposalRejected(proposal_id=ProposalId(1), reason=RejectReason.NOT_LEADER, leader=None)
    ]
    assert machine.step(ReadRequested(read_id=ReadId(5)), NOW) == [
        ReadRejected(read_id=ReadId(5), reason=RejectReason.NOT_LEADER, leader=None)
    ]
    assert machine.last_index == 0


def test_too_large_proposal_is_rejected_and_its_neighbours_are_not() -> None:
    machine = make_leader(config=RaftConfig(payload_bytes_max=4))
    effects = machine.step(ProposedMany(proposals=(proposal(1, b"12345"), proposal(2, b"1234"))), NOW)
    assert [type(effect) for effect in effects] == [SaveEntries, ProposalRejected, Accepted, Apply]
    rejected = effects[1]
    assert isinstance(rejected, ProposalRejected)
    assert (rejected.proposal_id, rejected.reason) == (1, RejectReason.TOO_LARGE)
    assert "5 bytes, at most 4" in rejected.detail
    assert [type(e) for e in machine.step(proposal(3, b"12345"), NOW)] == [ProposalRejected]


def test_empty_proposal_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="empty"):
        make_leader().step(proposal(1, b""), NOW)


def test_read_is_answered_from_all_that_was_acknowledged() -> None:
    """Thesis §6.4."""
    machine = make_leader()
    machine.step(proposal(1), NOW)
    assert machine.step(ReadRequested(read_id=ReadId(9)), NOW) == [ReadReady(read_id=ReadId(9), index=LogIndex(2))]


def test_long_log_is_applied_in_pieces() -> None:
    machine = make_machine(
        LoadedLog(hard_state=HardState(term=Term(1)), entries=entries_from(1, *[1] * 9)),
        config=RaftConfig(apply_entries_max=4),
    )
    pieces = [effect.entries for effect in machine.step(Tick(), NOW) if isinstance(effect, Apply)]
    assert [len(piece) for piece in pieces] == [4, 4, 2]
    assert [entry.index for piece in pieces for entry in piece] == list(range(1, 11))


def test_compaction_forgets_what_the_snapshot_stands_for() -> None:
    machine = make_leader()
    machine.step(ProposedMany(proposals=(proposal(1, b"abc"), proposal(2, b"de"))), NOW)
    assert (machine.tail_entries, machine.tail_bytes) == (3, 5)
    effects = machine.step(SnapshotTaken(upto=LogIndex(2), payload=b"state"), NOW)
    group = Membership(voters=(NODE,))
    meta = SnapshotMeta(last_index=LogIndex(2), last_term=Term(1), membership=group)
    assert effects == [SaveSnapshot(snapshot=Snapshot(meta=meta, payload=b"state"))]
    assert (machine.snapshot_index, machine.tail_entries, machine.tail_bytes) == (2, 1, 2)
    machine.check_invariants()
    assert machine.step(SnapshotTaken(upto=LogIndex(2), payload=b"late"), NOW) == []
    with pytest.raises(AssertionError):
        machine.step(SnapshotTaken(upto=LogIndex(4), payload=b"state"), NOW)


def test_ticks_of_a_leader_change_nothing() -> None:
    machine = make_leader()
    assert machine.step(Tick(), Instant(NOW + 1000)) == []
    assert machine.term == 1


def test_failed_save_of_proposals_rejects_them_and_keeps_the_leader() -> None:
    machine = make_leader()
    machine.step(proposal(1), NOW)
    machine.step(ProposedMany(proposals=(proposal(2), proposal(3))), NOW)
    effects = machine.step(SaveFailed(detail="no room"), NOW)
    assert [(e.proposal_id, e.reason, e.detail) for e in effects if isinstance(e, ProposalRejected)] == [
        (2, RejectReason.SAVE_FAILED, "no room"),
        (3, RejectReason.SAVE_FAILED, "no room"),
    ]
    machine.check_invariants()
    assert (machine.is_leader, machine.last_index, machine.applied_index) == (True, 2, 2)
    accepted = machine.step(proposal(4), NOW)[1]
    assert accepted == Accepted(proposal_id=ProposalId(4), term=Term(1), index=LogIndex(3))


def test_failed_save_of_an_election_is_tried_again_after_a_pause() -> None:
    machine = make_machine(LoadedLog(hard_state=HardState(term=Term(6)), entries=entries_from(1, 6)))
    machine.step(Tick(), NOW)
    machine.step(SaveFailed(detail="no room"), NOW)
    machine.check_invariants()
    assert (machine.role, machine.leader, machine.term, machine.commit_index) == (Role.FOLLOWER, None, 6, 0)
    deadline = machine.deadline()
    assert deadline is not None
    assert NOW + 0.75 <= deadline <= NOW + 1.5
    assert machine.step(Tick(), Instant(deadline - 0.01)) == []
    assert isinstance(machine.step(Tick(), deadline)[0], SaveHardState)
    assert machine.is_leader


def test_failed_save_of_a_snapshot_keeps_the_whole_log() -> None:
    machine = make_leader()
    machine.step(ProposedMany(proposals=(proposal(1, b"abc"), proposal(2, b"de"))), NOW)
    machine.step(SnapshotTaken(upto=LogIndex(3), payload=b"state"), NOW)
    machine.step(SaveFailed(detail="no room"), NOW)
    machine.check_invariants()
    assert (machine.snapshot_index, machine.tail_entries, machine.tail_bytes, machine.is_leader) == (0, 3, 5, True)


def test_failed_save_without_a_save_is_a_bug() -> None:
    machine = make_leader()
    machine.step(ReadRequested(read_id=ReadId(1)), NOW)
    with pytest.raises(AssertionError, match="saved nothing"):
        machine.step(SaveFailed(detail="no room"), NOW)


def test_log_of_a_later_term_than_the_hard_state_is_refused() -> None:
    with pytest.raises(AssertionError, match="entry of term 3 in term 2"):
        make_machine(LoadedLog(hard_state=HardState(term=Term(2)), entries=entries_from(1, 3)))


def test_save_after_another_effect_is_a_bug() -> None:
    save = SaveHardState(hard_state=HardState())
    with pytest.raises(AssertionError, match="only messages"):
        collect_write([LeaderChanged(term=Term(1), leader=None), save])
    assert collect_write([]) == ([], None, [])


def test_config_refuses_numbers_that_are_not_positive() -> None:
    for wrong in ({"election_timeout_s": 0.0}, {"payload_bytes_max": 0}, {"apply_entries_max": 0}):
        with pytest.raises(ValueError, match="positive"):
            RaftConfig(**wrong)
