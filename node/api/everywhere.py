"""Logs, figures and commands of copies wherever they run: this node's own, and what others answer, put together.

A node that does not answer is said in the answer, with the age of what is known of it, and what
others have is given all the same.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Final

import msgspec
import trio

from node.api.call import Call
from node.api.far import ANSWER_S, FarNodes, words_of
from node.api.params import LogsQuery
from node.merging import merged
from node.runtime.base import ExecRequest, ExecSession
from node.selection import Placed, Selection
from orca.errors import NotFoundError, OrcaError
from orca.model.ids import AllocationId, NodeId
from orca.model.units import WallMs
from orca.model.view import LogRecord, NodeSilence, StatsView

BUFFER: Final = 256
RETRY_S: Final = 2.0


def selection_of(call: Call[Any, Any]) -> Selection:
    """The copies that a call's query means, among those that the caller may see."""
    return Selection(service=call.query.service, allocation=call.query.allocation, projects=call.caller.projects)


def _by_node(call: Call[Any, Any], placed: Sequence[Placed]) -> dict[NodeId, list[Placed]]:
    """The copies that others run, by node."""
    own = call.control.observation().observer
    found: dict[NodeId, list[Placed]] = {}
    for one in placed:
        if one.node != own:
            found.setdefault(one.node, []).append(one)
    return found


# Logs


@asynccontextmanager
async def open_logs(call: Call[LogsQuery, Any]) -> AsyncGenerator[AsyncIterator[LogRecord], None]:
    """Lines of all copies that are meant, by time; with `follow` as they come, also of copies to come."""
    query, selection = call.query, selection_of(call)
    since_ms = None if query.since_ms is None else WallMs(query.since_ms)
    others = _by_node(call, call.control.copies.placed(selection))
    own = call.control.copies.logs(selection, follow=query.follow, tail=query.tail, since_ms=since_ms)
    if call.far is None or not (others or query.follow):
        async with own as records:
            yield records
        return
    gatherer = _LogGatherer(call, call.far, selection, since_ms)
    async with trio.open_nursery() as nursery:
        if query.follow:
            send, receive = trio.open_memory_channel[LogRecord](BUFFER)
            nursery.start_soon(gatherer.follow, own, send)
            yield receive
        else:
            readers = []
            send, receive = trio.open_memory_channel[LogRecord](BUFFER)
            readers.append(receive)
            nursery.start_soon(gatherer.carry_own, own, send)
            for node, placed in others.items():
                send, receive = trio.open_memory_channel[LogRecord](BUFFER)
                readers.append(receive)
                nursery.start_soon(gatherer.read, node, placed, send)
            async with aclosing(merged(readers)) as lines:
                yield lines
        nursery.cancel_scope.cancel()


class _LogGatherer:
    """Carries lines of several nodes into channels."""

    def __init__(
        self, call: Call[LogsQuery, Any], far: FarNodes, selection: Selection, since_ms: WallMs | None
    ) -> None:
        self._control = call.control
        self._caller = call.caller
        self._query = call.query
        self._call = call
        self._far = far
        self._selection = selection
        self._since_ms = since_ms

    async def carry_own(
        self, own: AbstractAsyncContextManager[AsyncIterator[LogRecord]], send: trio.MemorySendChannel[LogRecord]
    ) -> None:
        """The part of this node; a failure of it is a line."""
        async with send:
            try:
                async with own as records:
                    async for record in records:
                        await send.send(record)
            except OrcaError as error:
                node = self._control.observation().observer
                for one in self._control.copies.placed(self._selection):
                    if one.node == node:
                        await send.send(self._line(one, f"its output cannot be read: {error.message}"))

    async def read(self, node: NodeId, placed: Sequence[Placed], send: trio.MemorySendChannel[LogRecord]) -> None:
        """The part of `node`, to its end."""
        async with send:
            try:
                async with (
                    self._far.client(node, self._caller) as client,
                    client.logs(
                        service=self._query.service,
                        allocation=self._query.allocation,
                        tail=self._query.tail,
                        since_ms=self._since_ms,
                    ) as records,
                ):
                    while True:
                        with trio.fail_after(ANSWER_S):
                            record = await anext(records, None)
                        if record is None:
                            return
                        await send.send(record)
            except (OrcaError, trio.TooSlowError) as error:
                await self._tell_silence(self._far.silence(node, error), placed, send)

    async def follow(
        self, own: AbstractAsyncContextManager[AsyncIterator[LogRecord]], send: trio.MemorySendChannel[LogRecord]
    ) -> None:
        """All parts as they grow, and those of nodes that get a copy later."""
        followed: dict[NodeId, None] = {}
        async with trio.open_nursery() as nursery, send:
            nursery.start_soon(self.carry_own, own, send.clone())
            while True:
                count = self._control.change_count()
                try:
                    others = _by_node(self._call, self._control.copies.placed(self._selection))
                except NotFoundError:
                    return  # it was removed: what still stops is followed to its end
                for node in others:
                    if node not in followed:
                        followed[node] = None
                        nursery.start_soon(self._follow_node, node, followed, send.clone())
                await self._control.wait_change(count)

    async def _follow_node(
        self, node: NodeId, followed: dict[NodeId, None], send: trio.MemorySendChannel[LogRecord]
    ) -> None:
        """The part of `node`, again whenever it comes back, until it has no copy any more."""
        tail, since_ms = self._query.tail, self._since_ms
        is_silent = False
        async with send:
            while True:
                began_ms = self._control.observation().at_ms
                try:
                    async with (
                        self._far.client(node, self._caller) as client,
                        client.logs(
                            service=self._query.service,
                            allocation=self._query.allocation,
                            follow=True,
                            tail=tail,
                            since_ms=since_ms,
                        ) as records,
                    ):
                        tail, since_ms = None, since_ms if tail is None else WallMs(began_ms)
                        async for record in records:
                            is_silent = False
                            since_ms = WallMs(record.at_ms + 1)  # what was given is not given twice
                            await send.send(record)
                    placed = self._placed_on(node)
                except OrcaError as error:
                    placed = self._placed_on(node)
                    if placed and not is_silent:
                        is_silent = True
                        await self._tell_silence(self._far.silence(node, error), placed, send)
                if not placed:
                    del followed[node]
                    return
                await trio.sleep(RETRY_S)

    def _placed_on(self, node: NodeId) -> list[Placed]:
        try:
            return [one for one in self._control.copies.placed(self._selection) if one.node == node]
        except NotFoundError:
            return []

    async def _tell_silence(
        self, silence: NodeSilence, placed: Sequence[Placed], send: trio.MemorySendChannel[LogRecord]
    ) -> None:
        for one in placed:
            await send.send(self._line(one, f"its output is missing: {words_of(silence)}"))

    def _line(self, copy: Placed, text: str) -> LogRecord:
        return LogRecord(
            service=copy.service,
            allocation=copy.allocation,
            slot=copy.slot,
            at_ms=self._control.observation().at_ms,
            stream="orca",
            text=text,
        )


# Figures


async def gather_stats(call: Call[Any, Any]) -> tuple[StatsView, ...]:
    """What the copies that are meant use now; those of a node that does not answer say so."""
    selection = selection_of(call)
    placed = call.control.copies.placed(selection)
    others = _by_node(call, placed) if call.far is not None else {}
    found: dict[AllocationId, StatsView] = {}

    async def own() -> None:
        found.update({one.allocation: one for one in await call.control.copies.stats(selection)})

    async def other(far: FarNodes, node: NodeId) -> None:
        try:
            with trio.fail_after(ANSWER_S):
                async with far.client(node, call.caller) as client:
                    reply = await client.stats(service=call.query.service, allocation=call.query.allocation)
        except (OrcaError, trio.TooSlowError) as error:
            problem = words_of(far.silence(node, error))
            missing = [_unknown(one, problem) for one in others[node] if one.is_started]
            found.update({one.allocation: one for one in missing})
        else:
            found.update({one.allocation: one for one in reply.stats})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(own)
        for node in others:
            assert call.far is not None, "others are asked only where there is a way"
            nursery.start_soon(other, call.far, node)
    order = {one.allocation: number for number, one in enumerate(placed)}
    return tuple(sorted(found.values(), key=lambda one: order.get(one.allocation, len(order))))


def _unknown(copy: Placed, problem: str) -> StatsView:
    nothing = StatsView(allocation=copy.allocation, service=copy.service, slot=copy.slot, cpu_milli=0, memory_bytes=0)
    return msgspec.structs.replace(nothing, problem=problem)


# Commands


def open_session(call: Call[Any, Any], copy: Placed, request: ExecRequest) -> AbstractAsyncContextManager[ExecSession]:
    """A command inside `copy`, on whichever node it runs."""
    is_own = copy.node == call.control.observation().observer
    if call.far is None or is_own:
        return call.control.copies.exec(copy.allocation, request)
    return call.far.exec(copy.node, call.caller, copy.allocation, request)
