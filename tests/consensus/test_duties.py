"""What a leader does of itself: leases end, the schema rises."""

import math
import random

import msgspec
import pytest

from consensus.duties import PAUSE_S, LeaderDuties
from consensus.raft import RaftConfig, RaftMachine, Tick
from consensus.state.apply import apply
from consensus.state.cluster import ClusterState
from consensus.state.commands import AcquireLease, AdmitNode, ExpireLeases, RaiseSchema, RenewLeases, base
from consensus.storage import LoadedLog
from orca.model.ids import LeaseName, LogIndex, NodeId
from orca.model.units import Instant, WallMs
from tests.consensus.intent import CountingIds

A = NodeId("a")
NOW = WallMs(1_800_000_000_000)


def leader() -> RaftMachine:
    machine = RaftMachine(A, frozenset({A}), LoadedLog(), RaftConfig(), random.Random(1))
    machine.step(Tick(), Instant(0.0))
    assert machine.is_leader
    return machine


def with_lease(ttl_ms: int = 10_000, clock_ms: int = 0) -> ClusterState:
    state = ClusterState()
    apply(state, LogIndex(1), AdmitNode(node=A, name="a", schema=base.SCHEMA, at_ms=NOW))
    lease = AcquireLease(lease=LeaseName("one"), node=A, holder="h", ttl_ms=ttl_ms, clock_ms=clock_ms, at_ms=NOW)
    assert not apply(state, LogIndex(2), lease).error
    return state


def test_a_lease_that_nobody_renews_ends_by_the_leaders_own_clock() -> None:
    duties, state, raft = LeaderDuties(CountingIds()), with_lease(), leader()
    duties.follow(raft, state, Instant(50.0))
    assert duties.next_command(state, Instant(50.0), NOW) is None
    due_at = duties.due_at(state)
    assert 60.0 < due_at < 61.0, "ten seconds and the drift that is allowed for"
    assert duties.next_command(state, Instant(60.0), NOW) is None
    command = duties.next_command(state, Instant(due_at), NOW)
    assert isinstance(command, ExpireLeases)
    assert duties.next_command(state, Instant(due_at), NOW) is None, "one at a time"
    apply(state, LogIndex(3), command)
    assert not state.leases
    duties.ended(Instant(due_at))
    assert duties.due_at(state) == math.inf


def test_a_shorter_lease_that_comes_later_ends_in_time_too() -> None:
    duties, state, raft = LeaderDuties(CountingIds()), with_lease(ttl_ms=600_000), leader()
    duties.follow(raft, state, Instant(0.0))
    assert duties.next_command(state, Instant(0.0), NOW) is None
    assert duties.due_at(state) > 600.0
    short = AcquireLease(lease=LeaseName("two"), node=A, holder="h", ttl_ms=1_000, clock_ms=100, at_ms=NOW)
    apply(state, LogIndex(3), short)
    assert duties.due_at(state) <= 1.1, "nothing that is new may end unseen"
    assert duties.next_command(state, Instant(1.0), NOW) is None
    assert duties.due_at(state) == pytest.approx(1.15)
    command = duties.next_command(state, Instant(1.15), NOW)
    assert isinstance(command, ExpireLeases)
    assert [lease.lease for lease in command.leases] == ["two"]


def test_a_renewal_that_came_first_keeps_the_lease() -> None:
    duties, state, raft = LeaderDuties(CountingIds()), with_lease(), leader()
    duties.follow(raft, state, Instant(0.0))
    late = duties.next_command(state, Instant(20.0), NOW)
    assert isinstance(late, ExpireLeases)
    renewal = RenewLeases(node=A, leases=late.leases, clock_ms=20_000, at_ms=NOW)
    apply(state, LogIndex(3), renewal)
    apply(state, LogIndex(4), late)
    assert LeaseName("one") in state.leases


def test_a_new_leader_begins_with_the_lease_time_of_the_log() -> None:
    """So a change of leader prolongs leases and never shortens one."""
    duties, state, raft = LeaderDuties(CountingIds()), with_lease(clock_ms=500_000), leader()
    assert duties.lease_time_ms(Instant(9.0)) is None
    duties.follow(raft, state, Instant(9.0))
    assert duties.lease_time_ms(Instant(11.0)) == 502_000
    follower = RaftMachine(A, frozenset({A, NodeId("b")}), LoadedLog(), RaftConfig(), random.Random(1))
    duties.follow(follower, state, Instant(12.0))
    assert duties.lease_time_ms(Instant(12.0)) is None
    assert duties.next_command(state, Instant(999.0), NOW) is None


def test_the_schema_rises_when_every_node_knows_it_and_a_refusal_does_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "SCHEMA", 3)
    duties, state, raft = LeaderDuties(CountingIds()), ClusterState(), leader()
    duties.follow(raft, state, Instant(0.0))
    apply(state, LogIndex(1), AdmitNode(node=A, name="a", schema=3, at_ms=NOW))
    apply(state, LogIndex(2), AdmitNode(node=NodeId("b"), name="b", at_ms=NOW))
    assert duties.next_command(state, Instant(0.0), NOW) is None, "b knows schema 1 only"
    apply(state, LogIndex(3), AdmitNode(node=NodeId("b"), name="b", schema=2, at_ms=NOW))
    command = duties.next_command(state, Instant(0.0), NOW)
    assert isinstance(command, RaiseSchema)
    assert command.to == 2
    duties.ended(Instant(1.0))
    assert duties.next_command(state, Instant(1.0 + PAUSE_S / 2), NOW) is None
    again = duties.next_command(state, Instant(1.0 + PAUSE_S), NOW)
    assert isinstance(again, RaiseSchema)
    assert msgspec.structs.replace(again, request_id=command.request_id) == command
