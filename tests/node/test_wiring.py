"""What the parts of a node tell each other, with the real parts and a state of the test's own."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import trio

import node.wiring
from consensus.driver import ReplicaDriver
from consensus.replica import AppliedCommand
from consensus.state.cluster import ClusterState
from consensus.state.commands import AdmitNode
from node.beliefs import BeliefTable
from node.endings import EndedJobs
from node.health.probes import HealthDriver
from node.isolation.driver import Isolation
from node.membership import Membership
from node.membership.facts import KnownFacts
from node.mesh.driver import Mesh
from node.proxy.server import ProxyServer
from node.reconciler.driver import ReconcilerDriver
from node.reconciler.events import AssignmentsChanged, Event, HealthChanged, HealthVerdict, StartProbes, StatusChanged
from node.singletons.deadlines import Deadlines
from node.singletons.desk import LeaseDesk
from node.singletons.driver import Singletons
from node.sources import SystemClock, SystemIds
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.events import EventLog
from node.store.identity import start_identity
from node.wiring import Wiring
from node.workload_files import WorkloadFiles
from orca.config import GossipSection
from orca.errors import StoreFullError
from orca.model.allocation import AllocationStatus, Phase
from orca.model.event import EventKind
from orca.model.ids import AllocationId, LogIndex, NodeId, ServiceId, SpecRevision
from orca.model.node import NodeFacts
from orca.model.spec import RuntimeKind
from orca.model.units import WallMs
from tests.consensus.intent import Cluster, make_spec
from tests.consensus.scheduler.fake_world import make_node
from tests.fakes.runtime import FakeRuntime


@dataclass
class Decisions:
    """The part of a replica's driver that others see."""

    cluster: Cluster = field(default_factory=Cluster)
    planned: int = 0

    @property
    def state(self) -> ClusterState:
        return self.cluster.state

    def beliefs_changed(self) -> None:
        self.planned += 1


class Group:
    """A group that was heard just now."""

    has_heard = True

    def age_s(self) -> float:
        return 0.0


@dataclass
class Inbox:
    """The part of a reconciler's driver that others see."""

    events: list[Event] = field(default_factory=list)

    def post(self, event: Event) -> None:
        self.events.append(event)

    def assignments(self) -> AssignmentsChanged:
        return [one for one in self.events if isinstance(one, AssignmentsChanged)][-1]


class Parts:
    """A wiring and what it joins."""

    def __init__(self, environment: Environment, path: Path) -> None:
        clock = SystemClock()
        self.identity = start_identity(environment, SystemIds(), "one")
        self.decisions = Decisions()
        self.inbox = Inbox()
        self.beliefs = BeliefTable()
        self.events = EventLog(environment, self.identity.node)
        self.ended = EndedJobs(environment)
        self.health = HealthDriver(clock)
        self.facts: NodeFacts = make_node("a")
        self.wiring = Wiring(
            identity=self.identity,
            clock=clock,
            beliefs=self.beliefs,
            events=self.events,
            health=self.health,
            proxy=ProxyServer(clock, random.Random(1)),
            runtimes={RuntimeKind.DOCKER: FakeRuntime()},
            files=WorkloadFiles(path / "files", lambda digest: path / digest, name="n-test", memory=()),
            ended=self.ended,
            facts=self.facts,
        )
        self.wiring.replica = cast("ReplicaDriver", self.decisions)
        self.wiring.reconciler = cast("ReconcilerDriver", self.inbox)
        self.wiring.singletons = Singletons(
            self.identity.node,
            clock.now,
            LeaseDesk(self.identity.node, self.wiring.replica, cast("Mesh", None), clock),
            Deadlines(path / "leases", "", ()),
            changed=self.wiring.permits_changed,
        )
        self.wiring.isolation = Isolation(self.identity.node, Group(), changed=self.wiring.permits_changed)
        self.wiring.membership = Membership(
            GossipSection(), self.identity, clock, environment, KnownFacts(self.beliefs), self.wiring.record
        )

    def accepts_work(self) -> bool:
        return self.beliefs.nodes[self.facts.id].accepts_work

    def applied(self) -> None:
        command = AdmitNode(node=NodeId("n-9"), name="nine", at_ms=WallMs(0))
        outcome = self.decisions.cluster.apply(command)
        index = LogIndex(self.decisions.cluster.index)
        self.wiring.applied([AppliedCommand(index=index, command=command, outcome=outcome)])


@asynccontextmanager
async def joined(tmp_path: Path) -> AsyncIterator[Parts]:
    with (
        DataDirectory.open(tmp_path / "data") as directory,
        Environment.open(directory, map_bytes_max=2**20) as environment,
    ):
        parts = Parts(environment, tmp_path)
        async with trio.open_nursery() as nursery:
            await nursery.start(parts.wiring.keep_records)
            await nursery.start(parts.health.run)
            yield parts
            nursery.cancel_scope.cancel()


async def eventually(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not is_so():  # noqa: ASYNC110 - what it waits for has no event
            await trio.sleep(0.005)


def status(phase: Phase, version: int = 1) -> AllocationStatus:
    return AllocationStatus(
        allocation=AllocationId("a"),
        service=ServiceId("default/web"),
        node=NodeId("n-1"),
        revision=SpecRevision(1),
        phase=phase,
        version=version,
    )


async def test_nothing_is_assigned_before_the_log_was_read_and_nothing_is_trusted_of_an_empty_state(
    tmp_path: Path,
) -> None:
    async with joined(tmp_path) as parts:
        parts.wiring.applied([])
        assert not parts.inbox.events
        parts.wiring.go_live()
        assert parts.inbox.assignments() == AssignmentsChanged(assignments=(), is_trusted=False)
        parts.applied()
        assert parts.inbox.assignments().is_trusted


async def test_a_node_whose_store_is_full_takes_no_new_work_until_a_write_goes_through(tmp_path: Path) -> None:
    async with joined(tmp_path) as parts:
        parts.wiring.go_live()
        parts.wiring.store_refused("no room")
        parts.wiring.store_refused("no room")
        assert not parts.accepts_work()
        parts.applied()
        assert parts.accepts_work()


async def test_a_store_that_was_full_only_while_the_node_started_does_not_keep_it_from_work(tmp_path: Path) -> None:
    async with joined(tmp_path) as parts:
        parts.wiring.store_refused("no room")
        assert not parts.accepts_work()
        parts.wiring.go_live()
        assert parts.accepts_work()


async def test_the_end_of_a_job_reaches_the_disk_also_when_the_disk_is_full_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.wiring, "RECORD_RETRY_S", 0.01)
    async with joined(tmp_path) as parts:
        keep, tries = parts.ended.keep, 0

        async def keep_later(one: AllocationStatus) -> None:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise StoreFullError("no room")
            await keep(one)

        monkeypatch.setattr(parts.ended, "keep", keep_later)
        parts.wiring.perform(StatusChanged(status=status(Phase.COMPLETED)))
        await eventually(lambda: AllocationId("a") in parts.ended.load())
        await eventually(parts.accepts_work)


async def test_a_status_makes_the_leader_plan_again_and_the_same_one_does_not(tmp_path: Path) -> None:
    async with joined(tmp_path) as parts:
        parts.wiring.perform(StatusChanged(status=status(Phase.RUNNING, version=2)))
        parts.wiring.perform(StatusChanged(status=status(Phase.RUNNING, version=2)))
        assert parts.decisions.planned == 1
        assert parts.beliefs.statuses[AllocationId("a")].phase is Phase.RUNNING


async def test_what_probes_conclude_reaches_the_reconciler(tmp_path: Path) -> None:
    async with joined(tmp_path) as parts:
        parts.wiring.perform(StartProbes(allocation=AllocationId("a"), spec=make_spec(), endpoints=()))
        ready = HealthChanged(allocation=AllocationId("a"), verdict=HealthVerdict.READY)
        await eventually(lambda: ready in parts.inbox.events)


async def test_an_event_of_the_node_is_in_its_history(tmp_path: Path) -> None:
    async with joined(tmp_path) as parts, trio.open_nursery() as nursery:
        await nursery.start(parts.events.run)
        parts.wiring.record(EventKind.NODE_STARTED, "one started")
        await eventually(lambda: parts.events.last_sequence == 1)
        nursery.cancel_scope.cancel()
