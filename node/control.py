"""What the API can do on this node: the one door between requests and the parts.

Reads answer at once from this node's copy of intent and from its beliefs, and say so.
Writes become one command each and return when it is committed and applied.
"""

import heapq
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
import trio

from consensus.driver import ReplicaDriver
from consensus.state.cluster import ServiceRecord
from consensus.state.commands import Command, RemoveService, RestartService, ScaleService, StartService, StopService
from node import changes
from node.beliefs import BeliefTable
from node.building import ImageBuilder
from node.group.quorum import Quorum
from node.membership import Membership
from node.overview import Moment
from node.runtime.base import ExecRequest, ExecSession, InstanceStats, LogLine, Runtime
from node.store.blobs import BlobStore
from node.store.events import EventLog
from node.views import node_views, revision_views, service_view
from orca.errors import InvalidRequestError, NotAvailableError, NotFoundError, OrcaError
from orca.model.allocation import Allocation
from orca.model.ids import AllocationId, BlobDigest, ClusterId, NodeId, ProjectName, RequestId, ServiceId
from orca.model.spec import RuntimeKind
from orca.model.units import WallMs
from orca.model.view import (
    AllocationsReply,
    ChangeReply,
    ChangeRequest,
    DeployRequest,
    EventsReply,
    HistoryReply,
    ImageBuild,
    LogRecord,
    NodeView,
    Observation,
    PlanReply,
    RollbackRequest,
    ScaleRequest,
    ServiceReply,
    ServicesReply,
    ServiceView,
    StatsReply,
    StatsView,
    StatusReply,
)
from orca.sources import Clock, IdSource

REPLICAS_MAX = 10_000
LOG_BUFFER = 256
STATS_DEADLINE_S = 5.0


class Control:
    """Everything that a request can ask of this node."""

    def __init__(  # noqa: PLR0913 - the door to all parts
        self,
        *,
        cluster: ClusterId,
        node: NodeId,
        clock: Clock,
        ids: IdSource,
        replica: ReplicaDriver,
        beliefs: BeliefTable,
        events: EventLog,
        blobs: BlobStore,
        runtimes: Mapping[RuntimeKind, Runtime],
        membership: Membership,
        quorum: Quorum,
        age_s: Callable[[], float],
        builder: ImageBuilder | None,
        describe_node: Callable[[], NodeView],
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._clock = clock
        self._ids = ids
        self._replica = replica
        self._beliefs = beliefs
        self._events = events
        self._blobs = blobs
        self._runtimes = runtimes
        self.membership = membership
        self.quorum = quorum
        self._age_s = age_s
        self._builder = builder
        self._describe_node = describe_node
        self._usage: dict[AllocationId, InstanceStats] = {}

    # -------------------------------------------------------------------- reads

    def observation(self) -> Observation:
        """Who says so, and how fresh it is."""
        return Observation(
            observer=self._node,
            at_ms=self._clock.wall(),
            state_revision=self._replica.state.revision,
            age_ms=round(self._age_s() * 1000),
        )

    def _view(self, record: ServiceRecord) -> ServiceView:
        blocked = self._replica.blocked.get(record.id, "")
        return service_view(self._replica.state, record, self._beliefs.statuses, blocked)

    def _moment(self) -> Moment:
        return Moment(self._replica.state, self._beliefs.statuses, self._replica.blocked)

    async def status(self) -> StatusReply:
        """The whole cluster at a glance."""
        leader = self._replica.leader
        nodes = node_views(self._replica.state, self._describe_node(), self._beliefs.nodes, leader)
        found = await self.services()
        return StatusReply(
            observation=found.observation, cluster=self._cluster, leader=leader, nodes=nodes, services=found.services
        )

    def node(self) -> NodeView:
        """What this node says of itself."""
        return self._describe_node()

    async def services(self, project: ProjectName | None = None, only: tuple[ServiceId, ...] = ()) -> ServicesReply:
        """Services by id: all, those of one project, or those named (unknown ones are left out)."""
        known = self._replica.state.services
        chosen = [known[name] for name in sorted(set(only) or known) if name in known]
        if project is not None:
            chosen = [record for record in chosen if record.spec.project == project]
        observation = self.observation()
        return ServicesReply(observation=observation, services=await self._moment().services(chosen))

    def service(self, service: ServiceId) -> ServiceReply:
        """One service. Raises NotFoundError."""
        record = changes.existing(self._replica.state, service)
        return ServiceReply(observation=self.observation(), service=self._view(record), spec=record.spec)

    def history(self, service: ServiceId) -> HistoryReply:
        """The revisions of one service, newest first. Raises NotFoundError."""
        record = changes.existing(self._replica.state, service)
        return HistoryReply(observation=self.observation(), service=service, revisions=revision_views(record))

    async def allocations(self, service: ServiceId | None = None) -> AllocationsReply:
        """Copies by service and slot, those of removed services that still stop included."""
        state = self._replica.state
        chosen = [one for one in state.allocations.values() if service is None or one.service == service]
        if service is not None and not chosen:
            changes.existing(state, service)
        observation = self.observation()
        return AllocationsReply(observation=observation, allocations=await self._moment().allocations(chosen))

    def plan(self, request: DeployRequest) -> PlanReply:
        """What `deploy` would do now. Changes nothing. Raises InvalidSpecError."""
        state = self._replica.state
        changes.check_specs(state, request.specs, lambda _: True)
        return PlanReply(
            observation=self.observation(),
            services=changes.plan_services(state, self._beliefs.view(), request),
        )

    def change_count(self) -> int:
        """A counter of visible changes."""
        return self._beliefs.changes

    async def wait_change(self, after: int) -> int:
        """The counter, once it is higher than `after`."""
        return await self._beliefs.wait_change(after)

    # ------------------------------------------------------------------- writes

    async def deploy(self, request: DeployRequest, *, actor: str) -> ChangeReply:
        """Put all specs or none. Raises InvalidSpecError, ConflictError, NotAvailableError."""
        changes.check_specs(self._replica.state, request.specs, self._blobs.has)
        request_id = self._request_id(request.request_id)
        return await self._change(changes.put_command(request, request_id, actor, self._clock.wall()))

    async def scale(self, service: ServiceId, request: ScaleRequest, *, actor: str) -> ChangeReply:
        """Ask for another number of copies."""
        if not 0 <= request.replicas <= REPLICAS_MAX:
            raise InvalidRequestError(f"replicas is {request.replicas}; it must be 0 to {REPLICAS_MAX}")
        return await self._change(
            ScaleService(
                request_id=self._request_id(request.request_id),
                at_ms=self._clock.wall(),
                actor=actor,
                service=service,
                replicas=request.replicas,
            )
        )

    async def stop(self, service: ServiceId, request: ChangeRequest, *, actor: str) -> ChangeReply:
        """Keep the service, stop its copies."""
        return await self._change(
            StopService(
                request_id=self._request_id(request.request_id),
                at_ms=self._clock.wall(),
                actor=actor,
                service=service,
            )
        )

    async def start(self, service: ServiceId, request: ChangeRequest, *, actor: str) -> ChangeReply:
        """Undo `stop`."""
        return await self._change(
            StartService(
                request_id=self._request_id(request.request_id),
                at_ms=self._clock.wall(),
                actor=actor,
                service=service,
            )
        )

    async def restart(self, service: ServiceId, request: ChangeRequest, *, actor: str) -> ChangeReply:
        """Replace every copy by the rules of its deploy section."""
        record = changes.existing(self._replica.state, service)
        return await self._change(
            RestartService(
                request_id=self._request_id(request.request_id),
                at_ms=self._clock.wall(),
                actor=actor,
                service=service,
                template=f"{changes.template_hash(record.spec)}+{self._ids.fresh()}",
            )
        )

    async def rollback(self, service: ServiceId, request: RollbackRequest, *, actor: str) -> ChangeReply:
        """Make an earlier revision the newest again."""
        record = changes.existing(self._replica.state, service)
        request_id = self._request_id(request.request_id)
        return await self._change(changes.rollback_command(record, request, request_id, actor, self._clock.wall()))

    async def remove(self, service: ServiceId, request: ChangeRequest, *, actor: str) -> ChangeReply:
        """Forget the service; its copies stop."""
        return await self._change(
            RemoveService(
                request_id=self._request_id(request.request_id),
                at_ms=self._clock.wall(),
                actor=actor,
                service=service,
            )
        )

    def _request_id(self, given: RequestId | None) -> RequestId:
        return RequestId(self._ids.fresh()) if given is None else given

    async def _change(self, command: Command) -> ChangeReply:
        outcome = await self._replica.propose(command)
        changes.raise_refusal(outcome)
        return ChangeReply(observation=self.observation(), changes=outcome.changes)

    # ------------------------------------------------------------------- events

    async def events(
        self,
        *,
        after: int | None,
        before: int | None,
        limit: int,
        service: ServiceId | None,
        allocation: AllocationId | None,
        is_of_cluster: bool = False,
    ) -> EventsReply:
        """Events after `after`, or the last `limit`; oldest first, and only those below `before`."""
        # Taken before reading: what comes meanwhile must be looked at next time.
        newest = self._events.last_sequence
        found = tuple(
            self._events.read(
                after, limit, service=service, allocation=allocation, before=before, is_of_cluster=is_of_cluster
            )
        )
        last = found[-1].sequence if found else (after or 0)
        if len(found) < limit and before is None:
            # All that did not match has been looked at too, and nobody should wait for it again.
            last = max(last, newest)
        return EventsReply(observation=self.observation(), events=found, last_sequence=last)

    async def wait_event(self, after: int) -> None:
        """Return once there is an event with a higher sequence."""
        await self._events.wait_after(after)

    # --------------------------------------------------------------------- logs

    @asynccontextmanager
    async def logs(
        self,
        *,
        service: ServiceId | None,
        allocation: AllocationId | None,
        follow: bool,
        tail: int | None,
        since_ms: WallMs | None,
    ) -> AsyncIterator[AsyncIterator[LogRecord]]:
        """The output of one copy, or of all copies of a service, merged by time.

        With `follow` lines come as they are written and new copies join. Raises
        NotFoundError when there is nothing of that name.
        """
        copies = self._copies(service, allocation)
        async with trio.open_nursery() as nursery:
            if follow:
                send, receive = trio.open_memory_channel[LogRecord](LOG_BUFFER)
                nursery.start_soon(self._follow_all, service, allocation, tail, since_ms, send)
                yield receive
            else:
                readers = []
                for copy in copies:
                    send, receive = trio.open_memory_channel[LogRecord](LOG_BUFFER)
                    nursery.start_soon(self._read_logs, copy, False, tail, since_ms, send)
                    readers.append(receive)
                yield _merge(readers)
            nursery.cancel_scope.cancel()

    def _copies(self, service: ServiceId | None, allocation: AllocationId | None) -> list[Allocation]:
        state = self._replica.state
        if allocation is not None:
            if allocation not in state.allocations:
                raise NotFoundError(f"there is no allocation {allocation}; `orca ps` lists them")
            return [state.allocations[allocation]]
        found = [one for one in state.allocations.values() if service is None or one.service == service]
        if service is not None and not found:
            changes.existing(state, service)
        return sorted(found, key=lambda one: (one.service, one.slot, one.id))

    def _runtime_of(self, allocation: Allocation) -> Runtime:
        kind = self._replica.state.spec_of(allocation).runtime
        runtime = self._runtimes.get(kind)
        if runtime is None:
            raise NotAvailableError(f"{kind.value} is switched off on this node")
        return runtime

    async def _follow_all(
        self,
        service: ServiceId | None,
        allocation: AllocationId | None,
        tail: int | None,
        since_ms: WallMs | None,
        send: trio.MemorySendChannel[LogRecord],
    ) -> None:
        """Follow every copy there is and every one that comes, until none is left to come."""
        seen: dict[AllocationId, None] = {}
        async with trio.open_nursery() as nursery, send:
            while True:
                count = self._beliefs.changes
                try:
                    copies = self._copies(service, allocation)
                except NotFoundError:
                    return
                for copy in copies:
                    status = self._beliefs.statuses.get(copy.id)
                    if copy.id not in seen and status is not None and status.started_at_ms is not None:
                        seen[copy.id] = None
                        nursery.start_soon(self._read_logs, copy, True, tail, since_ms, send.clone())
                await self._beliefs.wait_change(count)

    async def _read_logs(
        self,
        copy: Allocation,
        follow: bool,
        tail: int | None,
        since_ms: WallMs | None,
        send: trio.MemorySendChannel[LogRecord],
    ) -> None:
        async with send:
            try:
                runtime = self._runtime_of(copy)
                async with runtime.logs(copy.id, follow=follow, tail=tail, since_ms=since_ms) as lines:
                    async for line in lines:
                        await send.send(_record(copy, line))
            except (OrcaError, trio.BrokenResourceError) as error:
                if isinstance(error, OrcaError) and not isinstance(error, NotFoundError):
                    problem = LogRecord(
                        service=copy.service,
                        allocation=copy.id,
                        slot=copy.slot,
                        at_ms=self._clock.wall(),
                        stream="orca",
                        text=f"its output cannot be read: {error.message}",
                    )
                    with trio.move_on_after(1):
                        await send.send(problem)

    # -------------------------------------------------------------- exec and stats

    def exec(self, allocation: AllocationId, request: ExecRequest) -> AbstractAsyncContextManager[ExecSession]:
        """Run a command in a copy. Raises NotFoundError, InvalidRequestError (Wasm)."""
        (copy,) = self._copies(None, allocation)
        return self._runtime_of(copy).exec(allocation, request)

    async def stats(self, *, service: ServiceId | None, allocation: AllocationId | None) -> StatsReply:
        """What copies use now; cpu is over the time since it was last asked, or since the start."""
        copies = self._copies(service, allocation)
        found: dict[AllocationId, StatsView] = {}
        async with trio.open_nursery() as nursery:
            for copy in copies:
                nursery.start_soon(self._measure, copy, found)
        living = self._replica.state.allocations
        self._usage = {name: one for name, one in self._usage.items() if name in living}
        return StatsReply(
            observation=self.observation(),
            stats=tuple(found[copy.id] for copy in copies if copy.id in found),
        )

    async def _measure(self, copy: Allocation, found: dict[AllocationId, StatsView]) -> None:
        nothing = StatsView(allocation=copy.id, service=copy.service, slot=copy.slot, cpu_milli=0, memory_bytes=0)
        status = self._beliefs.statuses.get(copy.id)
        if status is None or status.started_at_ms is None:
            return
        try:
            with trio.fail_after(STATS_DEADLINE_S):
                now = await self._runtime_of(copy).stats(copy.id)
        except NotFoundError:
            return
        except (OrcaError, trio.TooSlowError) as error:
            problem = error.message if isinstance(error, OrcaError) else f"no answer within {STATS_DEADLINE_S:g} s"
            found[copy.id] = msgspec.structs.replace(nothing, problem=problem)
            return
        before = self._usage.get(copy.id)
        since_ms, cpu_before = (before.at_ms, before.cpu_ns) if before is not None else (status.started_at_ms, 0)
        elapsed_ms = max(1, now.at_ms - since_ms)
        self._usage[copy.id] = now
        found[copy.id] = StatsView(
            allocation=copy.id,
            service=copy.service,
            slot=copy.slot,
            cpu_milli=max(0, math.ceil((now.cpu_ns - cpu_before) / 1000 / elapsed_ms)),
            memory_bytes=now.memory_bytes,
            memory_bytes_max=now.memory_bytes_max,
            received_bytes=now.received_bytes,
            sent_bytes=now.sent_bytes,
            processes=now.processes,
        )

    # ------------------------------------------------------------ blobs and builds

    async def put_blob(self, digest: BlobDigest, chunks: AsyncIterator[bytes]) -> bool:
        """Keep content under its own hash; True when it is new here."""
        if self._blobs.has(digest):
            async for _ in chunks:
                pass
            return False
        await self._blobs.put(chunks, digest)
        return True

    def has_blob(self, digest: BlobDigest) -> bool:
        """Whether this node has the content."""
        return self._blobs.has(digest)

    def build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Build an image on this node. Raises NotAvailableError without Docker."""
        if self._builder is None:
            raise NotAvailableError("Docker is switched off on this node; images cannot be built here")
        return self._builder.build(tar, request)


def _record(copy: Allocation, line: LogLine) -> LogRecord:
    return LogRecord(
        service=copy.service,
        allocation=copy.id,
        slot=copy.slot,
        at_ms=line.at_ms,
        stream=line.stream.value,
        text=line.text,
    )


async def _merge(readers: list[trio.MemoryReceiveChannel[LogRecord]]) -> AsyncIterator[LogRecord]:
    """Lines of all `readers` by time; each one's own lines keep their order."""
    heap: list[tuple[int, int, LogRecord]] = []
    for number in range(len(readers)):
        await _pull(readers, number, heap)
    while heap:
        _, number, record = heapq.heappop(heap)
        yield record
        await _pull(readers, number, heap)


async def _pull(
    readers: list[trio.MemoryReceiveChannel[LogRecord]], number: int, heap: list[tuple[int, int, LogRecord]]
) -> None:
    try:
        record = await readers[number].receive()
    except trio.EndOfChannel:
        return
    heapq.heappush(heap, (record.at_ms, number, record))
