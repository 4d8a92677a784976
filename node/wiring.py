"""What one part of a node tells another: plain calls, in the order in which things happen.

No policy: the machines decide. The reconciler's driver and the replica's driver call
in here, and so do the probes and the runtimes.
"""

from collections.abc import Mapping
from typing import Any, assert_never

import msgspec
import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.replica import AppliedCommand
from node.beliefs import BeliefTable
from node.bell import Bell
from node.changes import blobs_of
from node.endings import EndedJobs
from node.group.contents import ContentSharing
from node.group.recovery import Recovery
from node.health.probes import HealthDriver, ProbeSet, exec_through
from node.health.verdict import HealthTransition
from node.history import Happening, happenings
from node.isolation.driver import Isolation
from node.isolation.watch import with_isolation
from node.linking import OwnCopies, is_final, is_routed_otherwise, verdict_of
from node.membership import Membership
from node.proxy.farewell import Farewells
from node.proxy.server import ProxyServer
from node.reconciler.driver import ReconcilerDriver
from node.reconciler.events import (
    Assignment,
    Happened,
    RuntimeReported,
    StartProbes,
    StatusChanged,
    StatusDropped,
    StopProbes,
)
from node.routing import Routing
from node.runtime.base import Runtime, RuntimeEvent, RuntimeStateChanged, Workload
from node.secrets import SecretValues
from node.singletons.driver import Singletons
from node.store.events import EventLog
from node.store.identity import Identity
from node.workload_files import WorkloadFiles
from orca.errors import OrcaError
from orca.model.allocation import Allocation, AllocationStatus, Endpoint
from orca.model.event import EventKind, Severity
from orca.model.ids import AllocationId, LogIndex, display_name
from orca.model.node import NodeFacts
from orca.model.spec import Protocol, RuntimeKind
from orca.sources import Clock

_log = structlog.get_logger("orca.node")
RECORDS_MAX = 4096
RECORD_RETRY_S = 2.0


class Wiring:
    """Holds the parts of a node together.

    `replica`, `reconciler`, `membership`, `contents`, `recovery`, `secrets`, `farewells`, `singletons`, `isolation` are
    set by the agent before anything runs: they need this object to be made.
    """

    replica: ReplicaDriver
    reconciler: ReconcilerDriver
    membership: Membership
    contents: ContentSharing
    recovery: Recovery
    secrets: SecretValues
    farewells: Farewells
    singletons: Singletons
    isolation: Isolation

    def __init__(  # noqa: PLR0913 - it joins all parts
        self,
        *,
        identity: Identity,
        clock: Clock,
        beliefs: BeliefTable,
        events: EventLog,
        health: HealthDriver,
        proxy: ProxyServer,
        runtimes: Mapping[RuntimeKind, Runtime],
        files: WorkloadFiles,
        ended: EndedJobs,
        facts: NodeFacts,
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._beliefs = beliefs
        self._events = events
        self._health = health
        self._proxy = proxy
        self._runtimes = runtimes
        self._files = files
        self._ended = ended
        self._facts = facts
        self._copies = OwnCopies(identity.node)
        self._routing = Routing(identity.node)
        self._is_live = False
        self._is_store_full = False
        self._records_send, self._records = trio.open_memory_channel[AllocationStatus | AllocationId](RECORDS_MAX)
        self.regrouped = Bell()
        """Rung when another node leads, or others belong to the group."""
        self.decided = Bell()
        """Rung then too, and when the state has changed."""
        beliefs.put_node(facts)

    # ---------------------------------------------------------------- from the gossip

    def peers_changed(self) -> None:
        """Other nodes said something that may change routes or plans."""
        if self._is_live:
            self.route()
            self.replica.beliefs_changed()

    # ------------------------------------------------------------- from the replica

    def go_live(self) -> None:
        """The log has been read to its end: from now on what is applied is new."""
        self._is_live = True
        self.membership.tell_node(self._facts)
        self._store_took()
        self._assign()

    def applied(self, commands: list[AppliedCommand]) -> None:
        """The state has changed by `commands`."""
        self.decided.ring()
        if not self._is_live:
            return
        self._store_took()
        for command in commands:
            for happening in happenings(self.replica.state, command):
                self._record(happening, log_index=command.index)
        self._assign()

    def restored(self) -> None:
        """The state came whole from a peer: what happened meanwhile is not told one by one."""
        self.decided.ring()
        if self._is_live:
            self._store_took()
            self._assign()

    def group_changed(self) -> None:
        """Another node leads, or others belong to the group."""
        self._beliefs.bump()
        self.regrouped.ring()
        self.decided.ring()

    def outranked(self, epoch: int) -> None:
        """The group was started anew by hand, without this node: what it knows is another past."""
        self.recovery.outranked(epoch)

    def noted(self, message: str) -> None:
        """A replica has something to say."""
        _log.info(message)

    def removed(self, reason: str) -> None:
        """The cluster has done without this node: it says so, and keeps what it runs."""
        self._put_facts(accepts_work=False, refusal=reason)
        self._record(Happening(kind=EventKind.NODE_REMOVED, message=reason, severity=Severity.ERROR))

    def store_refused(self, reason: str) -> None:
        """The store took no write: take no new work until it does again."""
        _log.error("the store took no write", reason=reason)
        if not self._is_store_full:
            self._is_store_full = True
            self._put_facts(accepts_work=False, refusal=f"its store takes no write: {reason}")
            self._record(Happening(kind=EventKind.STORE_FULL, message=reason, severity=Severity.ERROR))

    def _store_took(self) -> None:
        """A write went through: there is room again."""
        if self._is_store_full:
            self._is_store_full = False
            self._put_facts(accepts_work=True, refusal="")

    def permits_changed(self) -> None:
        """A lease was had, or was lost."""
        if self._is_live:
            self._assign()

    def _assign(self) -> None:
        state = self.replica.state
        permits = with_isolation(self.singletons.permits(state), self.isolation.permits(state))
        changed = self._copies.changed(state, permits)
        if changed is not None:
            self.reconciler.post(changed)
        self._beliefs.bump()
        self.route()

    # ---------------------------------------------------------- from the reconciler

    def perform(self, effect: StartProbes | StopProbes | StatusChanged | StatusDropped | Happened) -> None:
        """Take in what the reconciler tells others."""
        match effect:
            case StartProbes():
                self._start_probes(effect)
            case StopProbes():
                self._health.stop(effect.allocation)
            case StatusChanged():
                self._put_status(effect.status)
                self.singletons.told(effect.status)
            case StatusDropped():
                self._beliefs.drop_status(effect.allocation)
                self.membership.drop_status(effect.allocation)
                self._keep(effect.allocation)
                self.replica.beliefs_changed()
            case Happened():
                assignment = effect.assignment
                self._record(
                    _happening(effect, None if assignment is None else assignment.allocation), effect.exit_code
                )
            case _:
                assert_never(effect)

    async def workload(self, assignment: Assignment) -> Workload:
        """What a runtime needs, with the spec's files written. Raises NotAvailableError."""
        allocation, spec = assignment.allocation, assignment.spec
        await self.contents.ensure(blobs_of(spec))
        secrets = await self.secrets.of(allocation.id, spec)
        directory = ""
        if spec.files:
            fence = assignment.permit.fence
            directory = await trio.to_thread.run_sync(self._files.write, allocation.id, spec, secrets, fence)
        return Workload(
            allocation=allocation.id,
            service=allocation.service,
            revision=allocation.revision,
            template=allocation.template,
            slot=allocation.slot,
            cluster=self._identity.cluster,
            node=self._identity.node,
            spec=spec,
            files_dir=directory,
            secrets=secrets,
            fence=assignment.permit.fence,
        )

    async def drain(self, assignment: Assignment, timeout_s: float) -> None:
        """Return when no node has a request on its way to the copy any more, or time is over."""
        self.route()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.farewells.ask_all, assignment.allocation.id, timeout_s)
            cut_off = await self._proxy.drain(assignment.allocation.id, timeout_s)
        if cut_off:
            allocation = assignment.allocation
            name = f"{display_name(allocation.service)}.{allocation.slot + 1}"
            _log.warning("requests were cut off by the end of a drain", copy=name, requests=cut_off)

    async def forget_files(self, allocation: AllocationId) -> None:
        """The instance is removed; what was written for it may go."""
        await trio.to_thread.run_sync(self._files.remove, allocation)

    def _put_status(self, status: AllocationStatus) -> None:
        before = self._beliefs.statuses.get(status.allocation)
        if not self._beliefs.put_status(status):
            return
        self.membership.tell_status(status)
        if is_final(status):
            self._keep(status)
        if is_routed_otherwise(before, status):
            self.route()
        self.replica.beliefs_changed()

    def _keep(self, record: AllocationStatus | AllocationId) -> None:
        try:
            self._records_send.send_nowait(record)
        except trio.WouldBlock:
            _log.error("too many ended jobs wait for the disk; this one may run again after a restart")

    async def keep_records(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write the ends of jobs to disk until cancelled."""
        task_status.started()
        async for record in self._records:
            while not await self._write_record(record):  # noqa: ASYNC110 - a full disk sends no event
                await trio.sleep(RECORD_RETRY_S)

    async def _write_record(self, record: AllocationStatus | AllocationId) -> bool:
        try:
            if isinstance(record, AllocationStatus):
                await self._ended.keep(record)
            else:
                await self._ended.forget(record)
        except OrcaError as error:
            # Lost, it would let a job run twice.
            self.store_refused(error.message)
            return False
        self._store_took()
        return True

    # ------------------------------------------------ from runtimes and from the probes

    def runtime_published(self, event: RuntimeEvent) -> None:
        """A runtime has something to say."""
        if isinstance(event, RuntimeStateChanged):
            self._runtime_changed(event)
        self.reconciler.post(RuntimeReported(event=event))

    def _runtime_changed(self, event: RuntimeStateChanged) -> None:
        new = event.state
        old = next((one for one in self._facts.runtimes if one.kind is new.kind), None)
        others = tuple(one for one in self._facts.runtimes if one.kind is not new.kind)
        self._put_facts(runtimes=(*others, new))
        if old is not None and old.is_available == new.is_available:
            return
        if new.is_available:
            message = f"{new.kind.value} {new.version} is available"
            self._record(Happening(kind=EventKind.RUNTIME_UP, message=message))
        else:
            message = f"{new.kind.value} is not available: {new.reason}"
            self._record(Happening(kind=EventKind.RUNTIME_DOWN, message=message, severity=Severity.WARNING))

    def _start_probes(self, effect: StartProbes) -> None:
        spec, endpoints = effect.spec, effect.endpoints

        def where() -> tuple[Endpoint, ...]:
            return endpoints

        self._health.start(
            effect.allocation,
            ProbeSet(startup=spec.startup, readiness=spec.readiness, liveness=spec.liveness),
            endpoints=where,
            main_port=spec.main_port,
            exec_=exec_through(self._runtimes[spec.runtime], effect.allocation),
            publish=self._health_changed,
        )

    def _health_changed(self, allocation: AllocationId, transition: HealthTransition) -> None:
        self.reconciler.post(verdict_of(allocation, transition))

    # ----------------------------------------------------------------------- derived

    def route(self) -> None:
        """Give the proxy the routes of this moment."""
        table = self._routing.changed(self.replica.state, self._beliefs)
        if table is not None:
            self._proxy.set_table(table)

    def endpoint(self, allocation: AllocationId, port: int) -> Endpoint | None:
        """Where a port of a copy that this node is to run listens; for requests from other nodes."""
        placed, status = self.replica.state.allocations.get(allocation), self._beliefs.statuses.get(allocation)
        if placed is None or placed.node != self._identity.node or status is None:
            return None
        return next((one for one in status.endpoints if one.port == port and one.protocol is Protocol.TCP), None)

    def facts(self) -> NodeFacts:
        """What this node says of itself."""
        return self._facts

    def tell_api(self, url: str) -> None:
        """The API is served at `url`."""
        self._put_facts(api=url)

    def _put_facts(self, **changes: Any) -> None:
        self._facts = msgspec.structs.replace(self._facts, **changes)
        self.membership.tell_node(self._facts)
        if self._beliefs.put_node(self._facts) and self._is_live:
            self.replica.beliefs_changed()

    def record(self, kind: EventKind, message: str, severity: Severity = Severity.INFO) -> None:
        """Note something about the node itself, or about its peers."""
        self._record(Happening(kind=kind, message=message, severity=severity))

    def _record(self, happening: Happening, exit_code: int | None = None, log_index: LogIndex | None = None) -> None:
        self._events.append(
            happening.kind,
            happening.message,
            at_ms=self._clock.wall(),
            severity=happening.severity,
            service=happening.service,
            allocation=happening.allocation,
            revision=happening.revision,
            exit_code=exit_code,
            log_index=log_index,
        )
        log = {Severity.INFO: _log.info, Severity.WARNING: _log.warning, Severity.ERROR: _log.error}
        log[happening.severity](happening.message, kind=happening.kind.value)


def _happening(effect: Happened, allocation: Allocation | None) -> Happening:
    if allocation is None:
        return Happening(kind=effect.kind, message=effect.message, severity=effect.severity)
    return Happening(
        kind=effect.kind,
        message=effect.message,
        severity=effect.severity,
        service=allocation.service,
        allocation=allocation.id,
        revision=allocation.revision,
    )
