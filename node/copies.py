"""The copies of services: where all of them are, and what can be asked of those that this node runs."""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import msgspec
import trio

from consensus.driver import ReplicaDriver
from node import changes
from node.beliefs import BeliefTable
from node.merging import merged
from node.runtime.base import ExecRequest, ExecSession, InstanceStats, LogLine, Runtime
from node.selection import Placed, Selection
from orca.errors import NotAvailableError, NotFoundError, OrcaError
from orca.model.allocation import Allocation
from orca.model.ids import AllocationId, NodeId
from orca.model.spec import RuntimeKind
from orca.model.units import WallMs
from orca.model.view import LogRecord, StatsView
from orca.sources import Clock

LOG_BUFFER: Final = 256
STATS_DEADLINE_S: Final = 5.0


class LocalCopies:
    """Looks in the cluster's state for all copies, and into the runtimes for this node's own."""

    def __init__(
        self,
        node: NodeId,
        clock: Clock,
        replica: ReplicaDriver,
        beliefs: BeliefTable,
        runtimes: Mapping[RuntimeKind, Runtime],
    ) -> None:
        self._node = node
        self._clock = clock
        self._replica = replica
        self._beliefs = beliefs
        self._runtimes = runtimes
        self._usage: dict[AllocationId, InstanceStats] = {}

    def placed(self, selection: Selection) -> tuple[Placed, ...]:
        """The copies that are meant, by service and slot. Raises NotFoundError for a name that nothing has."""
        return tuple(
            Placed(
                allocation=copy.id,
                service=copy.service,
                slot=copy.slot,
                node=copy.node,
                is_started=self._has_started(copy.id),
            )
            for copy in self._find(selection)
        )

    def _has_started(self, allocation: AllocationId) -> bool:
        status = self._beliefs.statuses.get(allocation)
        return status is not None and status.started_at_ms is not None

    def _find(self, selection: Selection) -> list[Allocation]:
        state = self._replica.state
        if selection.allocation is not None:
            copy = state.allocations.get(selection.allocation)
            if copy is None or not selection.takes(copy):
                raise NotFoundError(f"there is no allocation {selection.allocation}; `orca ps` lists them")
            return [copy]
        found = [one for one in state.allocations.values() if selection.takes(one)]
        if selection.service is not None and not found:
            changes.existing(state, selection.service)
        return sorted(found, key=lambda one: (one.service, one.slot, one.id))

    def _own(self, selection: Selection) -> list[Allocation]:
        return [copy for copy in self._find(selection) if copy.node == self._node]

    @asynccontextmanager
    async def logs(
        self, selection: Selection, *, follow: bool, tail: int | None, since_ms: WallMs | None
    ) -> AsyncIterator[AsyncIterator[LogRecord]]:
        """The output of the copies that are meant and run here, merged by time.

        With `follow` lines come as they are written and new copies join. Raises
        NotFoundError when there is nothing of that name.
        """
        copies = self._own(selection)
        async with trio.open_nursery() as nursery:
            if follow:
                send, receive = trio.open_memory_channel[LogRecord](LOG_BUFFER)
                nursery.start_soon(self._follow_all, selection, tail, since_ms, send)
                yield receive
            else:
                readers = []
                for copy in copies:
                    send, receive = trio.open_memory_channel[LogRecord](LOG_BUFFER)
                    nursery.start_soon(self._read_logs, copy, False, tail, since_ms, send)
                    readers.append(receive)
                yield merged(readers)
            nursery.cancel_scope.cancel()

    def _runtime_of(self, allocation: Allocation) -> Runtime:
        kind = self._replica.state.spec_of(allocation).runtime
        runtime = self._runtimes.get(kind)
        if runtime is None:
            raise NotAvailableError(f"{kind.value} is switched off on this node")
        return runtime

    async def _follow_all(
        self,
        selection: Selection,
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
                    copies = self._own(selection)
                except NotFoundError:
                    return
                for copy in copies:
                    if copy.id not in seen and self._has_started(copy.id):
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

    def exec(self, allocation: AllocationId, request: ExecRequest) -> AbstractAsyncContextManager[ExecSession]:
        """Run a command in a copy. Raises NotFoundError, InvalidRequestError (Wasm)."""
        (copy,) = self._find(Selection(allocation=allocation))
        return self._runtime_of(copy).exec(allocation, request)

    async def stats(self, selection: Selection) -> tuple[StatsView, ...]:
        """What copies use now; cpu is over the time since it was last asked, or since the start."""
        return await self.measure(self._own(selection))

    async def measure(self, copies: Sequence[Allocation]) -> tuple[StatsView, ...]:
        """The same of these, which this node runs."""
        found: dict[AllocationId, StatsView] = {}
        async with trio.open_nursery() as nursery:
            for copy in copies:
                nursery.start_soon(self._measure, copy, found)
        living = self._replica.state.allocations
        self._usage = {name: one for name, one in self._usage.items() if name in living}
        return tuple(found[copy.id] for copy in copies if copy.id in found)

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


def _record(copy: Allocation, line: LogLine) -> LogRecord:
    return LogRecord(
        service=copy.service,
        allocation=copy.id,
        slot=copy.slot,
        at_ms=line.at_ms,
        stream=line.stream.value,
        text=line.text,
    )
