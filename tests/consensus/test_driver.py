"""The replica's driver with a store in memory: who waits gets one honest answer."""

import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

import consensus.asking
from consensus.driver import ReplicaDriver
from consensus.replica import AppliedCommand, Replica
from consensus.scheduler.beliefs import Beliefs
from consensus.state.cluster import Outcome
from consensus.state.commands import AcquireLease, AdmitNode, PutServices, SpecEntry, StopService
from consensus.storage import Entry, HardState, LogWrite, MemoryLogStore
from orca.errors import (
    NotAvailableError,
    PayloadTooLargeError,
    PeerProtocolError,
    ProposalLostError,
    StoreFullError,
)
from orca.model.ids import LeaseName, LogIndex, NodeId, RequestId, ServiceId, Term
from orca.model.units import Instant, WallMs
from orca.model.view import RolloutState
from orca.sources import IdSource
from tests.consensus.intent import CountingIds, make_spec, template
from tests.consensus.scheduler.fake_world import make_node

NODE = NodeId("n-a")


class Clock:
    def now(self) -> Instant:
        return Instant(trio.current_time())

    def wall(self) -> WallMs:
        return WallMs(1_800_000_000_000 + int(trio.current_time() * 1000))


class SameIds:
    """A broken source of ids."""

    def fresh(self) -> str:
        return "twice"


class Rig:
    """A driver, its store, and all that it said."""

    def __init__(self, store: MemoryLogStore | None = None, ids: IdSource | None = None, **limits: int) -> None:
        self.store = store or MemoryLogStore()
        self.beliefs = Beliefs(nodes={NODE: make_node("a")})
        self.commands: list[AppliedCommand] = []
        self.notes: list[str] = []
        self.refusals: list[str] = []
        self.restores = 0
        self.group_changes = 0
        self.epochs: list[int] = []
        self.writes: list[LogWrite] = []
        self.tries = 0
        self.gate: threading.Event | None = None
        replica = Replica(NODE, frozenset({NODE}), self.store.load(), random.Random(1), ids or CountingIds(), **limits)
        self.driver = ReplicaDriver(replica, Clock(), write=self.write, beliefs=lambda: self.beliefs, listener=self)

    async def write(self, batch: LogWrite) -> None:
        await trio.to_thread.run_sync(self._write, batch)

    def _write(self, batch: LogWrite) -> None:
        self.tries += 1
        if self.gate is not None:
            assert self.gate.wait(20), "nobody opened the gate"
        self.store.write(batch)
        self.writes.append(batch)

    def applied(self, commands: list[AppliedCommand]) -> None:
        self.commands += commands

    def restored(self) -> None:
        self.restores += 1

    def group_changed(self) -> None:
        self.group_changes += 1

    def outranked(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def noted(self, message: str) -> None:
        self.notes.append(message)

    def store_refused(self, reason: str) -> None:
        self.refusals.append(reason)

    async def admit(self, name: str = "a") -> Outcome:
        return await self.driver.propose(AdmitNode(node=NODE, name=name, at_ms=WallMs(0)))

    async def put(self, image: str = "web:1", **fields: Any) -> Outcome:
        spec = make_spec(image=image, **fields)
        entry = SpecEntry(spec=spec, template=template(spec))
        request = RequestId(f"r{time.monotonic_ns()}")
        return await self.driver.propose(
            PutServices(request_id=request, at_ms=Clock().wall(), actor="ann", entries=(entry,))
        )


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.driver.run)
        yield rig
        nursery.cancel_scope.cancel()


async def eventually(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not is_so():  # noqa: ASYNC110 - what it waits for has no event
            await trio.sleep(0.005)


async def test_a_lease_that_nobody_renews_is_ended_by_the_leader() -> None:
    async with running(Rig()) as rig:
        await rig.admit()
        lease = AcquireLease(lease=LeaseName("one"), node=NODE, holder="h", ttl_ms=1000, clock_ms=0, at_ms=WallMs(0))
        outcome = await rig.driver.propose(lease)
        assert not outcome.error
        assert rig.driver.state.leases
        await eventually(lambda: not rig.driver.state.leases)
        assert rig.driver.state.clock_ms >= 1050


async def test_a_command_that_an_older_release_would_not_understand_is_not_proposed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(StopService, "since", 2)
    async with running(Rig()) as rig:
        await rig.admit()
        stop = StopService(request_id=RequestId("r"), at_ms=WallMs(0), actor="ann", service=ServiceId("default/web"))
        with pytest.raises(NotAvailableError, match="needs schema 2"):
            await rig.driver.propose(stop)


async def test_several_changes_at_once_have_ends_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Rig()) as rig:
        await rig.admit()
        monkeypatch.setattr(consensus.asking, "PROPOSALS_MAX", 3)
        names = [AdmitNode(node=NODE, name=name, at_ms=WallMs(0)) for name in ("b", "", "d", "e")]
        first, bad, last, late = await rig.driver.propose_all(names)
        assert isinstance(first, Outcome)
        assert not first.error
        assert isinstance(bad, Outcome)
        assert bad.error == "invalid_request"
        assert isinstance(last, Outcome)
        assert rig.driver.state.nodes[NODE].name == "d"
        assert isinstance(late, NotAvailableError), "there was room for three"


async def test_a_change_is_answered_when_it_is_on_disk_and_applied() -> None:
    async with running(Rig()) as rig:
        outcome = await rig.put()
        assert not outcome.error
        assert rig.store.load().entries[-1].payload, "it is in the store"
        assert ServiceId("default/web") in rig.driver.state.services
        assert rig.commands[0].outcome == outcome


async def test_a_refusal_is_an_outcome_like_any_other() -> None:
    async with running(Rig()) as rig:
        await rig.put()
        revision = rig.driver.state.services[ServiceId("default/web")].current.revision
        outcome = await rig.put(image="web:1")
        assert not outcome.error
        assert outcome.changes[0].revision == revision


async def test_changes_that_wait_for_the_disk_share_the_next_write() -> None:
    async with running(Rig()) as rig:
        rig.gate = threading.Event()
        outcomes: list[Outcome] = []

        async def admit(number: int) -> None:
            outcomes.append(await rig.admit(str(number)))

        before = len(rig.writes)
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(admit, number)
            await eventually(lambda: rig.tries == before + 1)
            await trio.testing.wait_all_tasks_blocked()
            rig.gate.set()
        assert len(outcomes) == 50
        entries = [len(write.entries) for write in rig.writes[before:]]
        assert sum(entries) == 50
        assert len(entries) <= 2


async def test_a_full_store_is_a_definite_no_and_costs_nothing_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus.driver, "RETRY_S", 0.05)
    async with running(Rig()) as rig:
        await rig.put(replicas=0)
        await trio.testing.wait_all_tasks_blocked(0.02)
        rig.store.bytes_max = 0
        with pytest.raises(StoreFullError) as caught:
            await rig.put(image="web:2")
        assert caught.value.is_definite
        rig.driver.beliefs_changed()
        tries = rig.tries
        await trio.sleep(0.3)
        assert rig.tries - tries <= 10, "it spins on a full disk"
        assert rig.refusals
        rig.store.bytes_max = None
        assert not (await rig.put(image="web:3")).error
        assert rig.driver.state.services[ServiceId("default/web")].current.revision == 2


async def test_a_plan_that_found_no_room_on_disk_is_made_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus.driver, "RETRY_S", 0.05)
    async with running(Rig()) as rig:
        rig.beliefs = Beliefs()
        await rig.put()
        await trio.testing.wait_all_tasks_blocked(0.02)
        rig.store.bytes_max = 0
        rig.beliefs = Beliefs(nodes={NODE: make_node("a")})
        rig.driver.beliefs_changed()
        await eventually(lambda: bool(rig.refusals))
        tries = rig.tries
        await trio.sleep(0.3)
        assert rig.tries - tries <= 10, "it spins on a full disk"
        rig.store.bytes_max = None
        await eventually(lambda: len(rig.driver.state.allocations) == 1)


async def test_a_node_whose_store_is_full_does_not_act_on_the_state_of_its_last_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(Rig()) as rig:
        await rig.put()
    store = rig.store.crash()

    def refuse(batch: LogWrite) -> None:
        raise StoreFullError("no room")

    again = Rig(store)
    monkeypatch.setattr(again.driver, "_write", refuse)
    has_started = False

    async with trio.open_nursery() as nursery:

        async def run() -> None:
            nonlocal has_started
            await nursery.start(again.driver.run)
            has_started = True

        nursery.start_soon(run)
        await eventually(lambda: len(again.refusals) >= 2)
        assert not has_started
        monkeypatch.setattr(again.driver, "_write", again.write)
        await eventually(lambda: has_started)
        assert ServiceId("default/web") in again.driver.state.services
        nursery.cancel_scope.cancel()


async def test_a_restart_keeps_everything_that_was_answered_and_the_log_stays_short() -> None:
    async with running(Rig(log_entries_kept=10)) as rig:
        for number in range(60):
            await rig.put(image=f"web:{number}", replicas=0)
        await rig.admit("new name")
        await eventually(lambda: len(rig.store.load().entries) <= 10)
        state = rig.driver.state
    store = rig.store.crash()
    assert store.load().snapshot is not None
    async with running(Rig(store)) as again:
        assert again.driver.state.services == state.services
        assert again.driver.state.requests == state.requests
        assert again.driver.state.nodes[NODE].name == "new name"


async def test_a_change_whose_caller_left_happens_all_the_same_and_nobody_waits_for_it() -> None:
    async with running(Rig()) as rig:
        rig.gate = threading.Event()
        with trio.move_on_after(0.05):
            await rig.admit("left")
        assert not rig.driver._answers._promises
        rig.gate.set()
        await eventually(lambda: rig.driver.state.nodes.get(NODE) is not None)


async def test_a_caller_who_has_no_more_time_learns_that_the_change_may_still_happen() -> None:
    async with running(Rig()) as rig:
        rig.gate = threading.Event()
        with pytest.raises(ProposalLostError) as caught:
            await rig.driver.propose(AdmitNode(node=NODE, name="a", at_ms=WallMs(0)), deadline_s=0.05)
        assert not caught.value.is_definite
        rig.gate.set()


async def test_a_node_that_stops_says_so_to_those_who_wait_and_takes_nothing_more() -> None:
    rig = Rig()
    errors: list[str] = []

    async def admit() -> None:
        try:
            await rig.admit()
        except ProposalLostError as error:
            errors.append(error.message)

    async with trio.open_nursery() as waiters:
        waiters.start_soon(admit)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.cancel()
            nursery.start_soon(rig.driver.run)
    assert errors == ["this node stopped before the change was confirmed; it may still have happened"]
    with pytest.raises(NotAvailableError, match="stopping"):
        await rig.admit()


async def test_more_changes_than_fit_into_the_queue_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus.asking, "PROPOSALS_MAX", 2)
    rig = Rig()
    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(rig.admit, str(number))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(NotAvailableError, match="2 changes are waiting"):
            await rig.admit("third")
        nursery.cancel_scope.cancel()


async def test_a_change_that_fits_into_no_entry_is_refused_by_name() -> None:
    async with running(Rig()) as rig:
        with pytest.raises(PayloadTooLargeError, match="at most"):
            await rig.put(env={"A": "x" * (5 * 2**20)})


async def test_an_entry_of_a_newer_release_stops_the_node_with_a_clear_error() -> None:
    store = MemoryLogStore()
    entry = Entry(term=Term(1), index=LogIndex(1), payload=b"\x81\xa4type\xa3new")
    store.write(LogWrite(hard_state=HardState(term=Term(1)), entries=(entry,)))
    rig = Rig(store)
    with pytest.raises(PeerProtocolError, match="update this node"):
        await rig.driver.run()


async def test_a_plan_that_is_refused_is_not_proposed_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus.driver, "RETRY_S", 0.05)
    async with running(Rig(ids=SameIds())) as rig:
        await rig.put(replicas=2)
        await eventually(lambda: any("refused" in note for note in rig.notes))
        tries = rig.tries
        await trio.sleep(0.3)
        assert rig.tries - tries <= 10, "it fills the log with plans that nobody wants"


async def test_time_alone_fails_a_rollout_that_gets_nowhere(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.rate = 20
    async with running(Rig()) as rig:
        await rig.put(deploy={"deadline_s": 5})
        await eventually(
            lambda: rig.driver.state.services[ServiceId("default/web")].rollout.state is RolloutState.FAILED
        )
