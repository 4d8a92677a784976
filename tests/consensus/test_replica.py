"""The replica as a pure machine: what is planned, when, and what a restart finds."""

import random

import pytest

from consensus.raft import Apply, LeaderChanged, Proposed, ProposedMany, collect_write
from consensus.replica import Replica, Tick
from consensus.scheduler.beliefs import Beliefs
from consensus.state.commands import AdmitNode, PutServices, SpecEntry
from consensus.storage import Entry, HardState, LoadedLog, LogWrite, MemoryLogStore
from orca.errors import PeerProtocolError, StoreCorruptError
from orca.model.ids import LogIndex, NodeId, RequestId, Term
from orca.model.spec import ServiceSpec
from orca.model.units import Instant, WallMs
from tests.consensus.intent import CountingIds, make_spec, template
from tests.consensus.scheduler.fake_world import make_node

NODE = NodeId("n-a")
BELIEFS = Beliefs(nodes={NODE: make_node("a")})


class Bench:
    """A replica and its store, without a driver."""

    def __init__(self, store: MemoryLogStore | None = None, **limits: int) -> None:
        self.store = store or MemoryLogStore()
        loaded = self.store.load()
        self.replica = Replica(NODE, frozenset({NODE}), loaded, random.Random(1), CountingIds(), **limits)
        self.step(Tick())

    def step(self, event: object) -> None:
        _, write, rest = collect_write(self.replica.step(event, Instant(1.0)))  # type: ignore[arg-type]
        if write is not None:
            self.store.write(write)
        for effect in rest:
            if isinstance(effect, Apply):
                self.replica.take_applied(effect.entries)
            elif isinstance(effect, LeaderChanged):
                self.replica.mark_dirty()
        self.replica.check_invariants()

    def put(self, *specs: ServiceSpec, request: str = "r") -> None:
        entries = tuple(SpecEntry(spec=spec, template=template(spec)) for spec in specs)
        command = PutServices(request_id=RequestId(request), at_ms=WallMs(1), actor="ann", entries=entries)
        self.step(self.replica.propose(command))

    def plan(self, now_ms: int = 1000) -> Proposed | None:
        return self.replica.plan(BELIEFS, WallMs(now_ms))


def test_one_plan_is_in_flight_at_a_time_and_the_next_sees_what_it_did() -> None:
    bench = Bench()
    bench.put(make_spec())
    plan = bench.plan()
    assert plan is not None
    assert bench.plan() is None, "the first one is on its way"
    bench.step(plan)
    assert bench.replica.plan_ended(plan.proposal_id)
    assert len(bench.replica.state.allocations) == 1
    assert bench.plan() is None, "nothing is left to decide"


def test_nothing_is_planned_again_before_something_changed_or_its_time_has_come() -> None:
    bench = Bench()
    bench.put(make_spec())
    plan = bench.plan()
    assert plan is not None
    bench.step(plan)
    bench.replica.plan_ended(plan.proposal_id)
    assert bench.plan() is None
    wake_at_ms = bench.replica.plan_wake_at_ms()
    assert wake_at_ms is not None
    assert not bench.replica.is_plan_due(WallMs(wake_at_ms - 1))
    assert bench.replica.is_plan_due(wake_at_ms)
    bench.replica.mark_dirty()
    assert bench.replica.is_plan_due(WallMs(0))


def test_a_replica_that_does_not_lead_plans_nothing() -> None:
    replica = Replica(NODE, frozenset({NODE}), LoadedLog(), random.Random(1), CountingIds())
    assert replica.plan(BELIEFS, WallMs(0)) is None


def test_a_rollout_gets_its_time_again_from_a_replica_that_was_away_for_an_hour() -> None:
    bench = Bench()
    bench.put(make_spec(deploy={"deadline_s": 10}))
    later = Bench(bench.store.crash())
    plan = later.plan(3_600_000)
    assert plan is not None
    later.step(plan)
    (record,) = later.replica.state.services.values()
    assert record.rollout.state.value == "progressing"
    assert later.replica.plan_wake_at_ms() == 3_610_000


def test_a_restart_finds_everything_that_was_saved_also_after_a_compaction() -> None:
    bench = Bench(log_entries_kept=5)
    for number in range(12):
        bench.put(make_spec(image=f"web:{number}"), request=f"r{number}")
        if bench.replica.is_compaction_due:
            bench.step(bench.replica.compaction()())
            assert not bench.replica.is_compaction_due
    loaded = bench.store.load()
    assert loaded.snapshot is not None
    assert len(loaded.entries) < 5
    assert Bench(bench.store.crash()).replica.state == bench.replica.state


def test_a_few_large_changes_are_reason_enough_to_compact() -> None:
    bench = Bench(log_bytes_kept=10_000)
    bench.put(make_spec(env={"A": "x" * 20_000}))
    assert bench.replica.is_compaction_due


def test_many_proposals_of_one_step_are_applied_in_order() -> None:
    bench = Bench()
    names = [bench.replica.propose(AdmitNode(node=NODE, name=str(number), at_ms=WallMs(0))) for number in range(9)]
    bench.step(ProposedMany(proposals=tuple(names)))
    assert bench.replica.state.nodes[NODE].name == "8"


def test_an_entry_of_a_newer_release_stops_the_replica_before_it_skips_anything() -> None:
    store = MemoryLogStore()
    entry = Entry(term=Term(1), index=LogIndex(1), payload=b"\x81\xa4type\xa3new")
    store.write(LogWrite(hard_state=HardState(term=Term(1)), entries=(entry,)))
    with pytest.raises(PeerProtocolError, match="update this node"):
        Bench(store)


def test_a_damaged_snapshot_is_never_taken_for_an_empty_state() -> None:
    bench = Bench()
    bench.put(make_spec())
    bench.step(bench.replica.compaction()())
    loaded = bench.store.load()
    assert loaded.snapshot is not None
    damaged = bytearray(loaded.snapshot.payload)
    damaged[-1] ^= 1
    broken = LoadedLog(
        hard_state=loaded.hard_state,
        snapshot=type(loaded.snapshot)(meta=loaded.snapshot.meta, payload=bytes(damaged)),
        entries=loaded.entries,
    )
    with pytest.raises(StoreCorruptError):
        Replica(NODE, frozenset({NODE}), broken, random.Random(1), CountingIds())
