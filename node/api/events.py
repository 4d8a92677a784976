"""`GET /v1/events`: pages of the history of this node or of all, or all that follows as server-sent events."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec
import trio

from node.api.call import Call, NoBody, Route
from node.api.caller import Caller
from node.api.control import Control
from node.api.event_pages import NodePage, Repetitions, merge_pages, read_cursor
from node.api.far import ANSWER_S, FarNodes
from node.api.params import EVENTS_LIMIT_MAX, EventsQuery
from node.api.sse import KEEP_ALIVE, sse_message, sse_response, sse_stream, wait_or_keep_alive
from orca.errors import InvalidRequestError, OrcaError
from orca.http import Request, StreamResponse
from orca.model.event import NodeEvent
from orca.model.ids import NodeId
from orca.model.view import EventsReply, NodeSilence

LOOK_S: Final = 2.0
"""How soon a follower notices a node that is new, or back."""
BUFFER: Final = 256
News: TypeAlias = NodeEvent | NodeSilence


async def list_events(call: Call[EventsQuery, NoBody]) -> EventsReply | StreamResponse:
    """One page, or a stream when `follow` or the `Accept` field asks for one.

    A browser that lost a stream says in `Last-Event-ID` what it saw last; that wins over
    `after`, which is still in its URL from the first time.
    """
    query = call.query
    _check(query)
    if query.follow or "text/event-stream" in (call.request.header("accept") or ""):
        if query.before is not None or query.earlier:
            raise InvalidRequestError("'before' and 'earlier' are for pages; a stream goes on for ever")
        if query.everywhere:
            return sse_stream(_open_all(call))
        last = _last_event_id(call.request)
        if last is not None:
            query = msgspec.structs.replace(query, after=last)
        return sse_response(partial(_follow, call.control, call.caller, query))
    if query.everywhere:
        return await page_of_all(call)
    return await _page(call.control, call.caller, query, query.after, query.limit)


def _check(query: EventsQuery) -> None:
    if query.everywhere and (query.after is not None or query.before is not None):
        raise InvalidRequestError("each node counts for itself: with 'everywhere' pages go by 'earlier' and 'later'")
    if not query.everywhere and (query.earlier or query.later):
        raise InvalidRequestError(
            "'earlier' and 'later' go with 'everywhere'; one node's pages go by 'after', 'before'"
        )


# This node's own


async def _follow(control: Control, caller: Caller, query: EventsQuery) -> AsyncGenerator[bytes, None]:
    after, limit = query.after, query.limit
    said_at = trio.current_time()
    while True:
        page = await _page(control, caller, query, after, limit)
        for event in page.events:
            yield sse_message("event", event, event.sequence)
            said_at = trio.current_time()
        after, limit = max(page.last_sequence, after or 0), EVENTS_LIMIT_MAX
        while await wait_or_keep_alive(partial(_has_event, control, after), said_at) is None:
            yield KEEP_ALIVE
            said_at = trio.current_time()


async def _page(control: Control, caller: Caller, query: EventsQuery, after: int | None, limit: int) -> EventsReply:
    ask = partial(control.events, service=query.service, allocation=query.allocation, is_of_cluster=query.cluster)
    if not caller.projects:
        return await ask(after=after, before=query.before, limit=limit)
    # What others may not see takes no room: looked for by pages until there is enough or nothing left.
    found: list[NodeEvent] = []
    reply = await ask(after=after, before=query.before, limit=EVENTS_LIMIT_MAX)
    newest = reply.last_sequence
    while True:
        seen = [event for event in reply.events if event.service is not None and caller.sees_service(event.service)]
        found = seen + found if after is None else found + seen
        is_whole = len(reply.events) < EVENTS_LIMIT_MAX
        if len(found) >= limit or is_whole:
            break
        if after is None:
            reply = await ask(after=None, before=reply.events[0].sequence, limit=EVENTS_LIMIT_MAX)
        else:
            after = reply.events[-1].sequence
            reply = await ask(after=after, before=query.before, limit=EVENTS_LIMIT_MAX)
            newest = reply.last_sequence
    kept = found[-limit:] if query.after is None and after is None else found[:limit]
    if after is not None and len(found) > limit:
        newest = kept[-1].sequence
    return EventsReply(observation=control.observation(), events=tuple(kept), last_sequence=newest)


async def _has_event(control: Control, after: int) -> bool:
    await control.wait_event(after)
    return True


def _last_event_id(request: Request) -> int | None:
    text = request.header("last-event-id")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequestError(f"the field Last-Event-ID is {text[:40]!r}; it must be the id of an event, a number")
    return int(text)


# Those of all nodes


async def page_of_all(call: Call[EventsQuery, Any]) -> EventsReply:
    """The newest events of all nodes, below the cursor where there is one."""
    query, observation = call.query, call.control.observation()
    cursor = read_cursor(query.earlier)
    bounds = cursor.places
    pages: dict[NodeId, NodePage] = {}
    silent: list[NodeSilence] = []

    async def own() -> None:
        mine = msgspec.structs.replace(query, before=bounds.get(observation.observer))
        reply = await _page(call.control, call.caller, mine, None, query.limit)
        pages[observation.observer] = _node_page(observation.observer, reply)

    async def other(far: FarNodes, node: NodeId) -> None:
        try:
            with trio.fail_after(ANSWER_S):
                async with far.client(node, call.caller) as client:
                    reply = await client.events(
                        before=bounds.get(node),
                        limit=query.limit,
                        service=query.service,
                        allocation=query.allocation,
                        is_of_cluster=query.cluster,
                    )
        except (OrcaError, trio.TooSlowError) as error:
            silent.append(far.silence(node, error))
        else:
            pages[node] = _node_page(node, reply)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(own)
        if call.far is not None:
            for node in call.far.others():
                nursery.start_soon(other, call.far, node)
    merged = merge_pages(pages.values(), cursor, query.limit)
    return EventsReply(
        observation=observation,
        events=merged.events,
        last_sequence=pages[observation.observer].last_sequence,
        earlier=merged.earlier,
        later=merged.later,
        silent=tuple(sorted(silent, key=lambda one: one.name)),
    )


def _node_page(node: NodeId, reply: EventsReply) -> NodePage:
    return NodePage(node=node, events=reply.events, last_sequence=reply.last_sequence)


@asynccontextmanager
async def open_news(call: Call[EventsQuery, Any]) -> AsyncGenerator[trio.MemoryReceiveChannel[News], None]:
    """Events of all nodes as they come, what several nodes tell several times; and which node stops to answer."""
    send, receive = trio.open_memory_channel[News](BUFFER)
    follower = _Follower(call, send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        async with receive:
            yield receive
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _open_all(call: Call[EventsQuery, Any]) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """Events of all nodes as they come, each once; `silent` for a node that stops to answer."""
    async with open_news(call) as news, aclosing(_told(news)) as pieces:
        yield pieces


async def _told(receive: trio.MemoryReceiveChannel[News]) -> AsyncGenerator[bytes, None]:
    repetitions = Repetitions()
    said_at = trio.current_time()
    while True:
        news = await wait_or_keep_alive(receive.receive, said_at)
        if news is None:
            yield KEEP_ALIVE
        elif isinstance(news, NodeSilence):
            yield sse_message("silent", news)
        elif repetitions.is_new(news):
            yield sse_message("event", news)
        else:
            continue
        said_at = trio.current_time()


class _Follower:
    """Follows each node from its place in the cursor, and again whenever it comes back."""

    def __init__(self, call: Call[EventsQuery, Any], send: trio.MemorySendChannel[News]) -> None:
        self._call = call
        self._query = call.query
        self._send = send
        self._places = dict(read_cursor(call.query.later).places)
        self._followed: dict[NodeId, None] = {}

    async def run(self) -> None:
        """Until cancelled."""
        call = self._call
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_own, call.control.observation().observer)
            while call.far is not None:
                for node in call.far.others():
                    if node not in self._followed:
                        self._followed[node] = None
                        nursery.start_soon(self._follow_other, call.far, node)
                await trio.sleep(LOOK_S)

    async def _follow_own(self, own: NodeId) -> None:
        call, after = self._call, self._places.get(own)
        while True:
            limit = self._query.limit if after is None else EVENTS_LIMIT_MAX
            page = await _page(call.control, call.caller, self._query, after, limit)
            for event in page.events:
                await self._send.send(event)
            after = max(page.last_sequence, after or 0)
            await call.control.wait_event(after)

    async def _follow_other(self, far: FarNodes, node: NodeId) -> None:
        is_silent = False
        while node in far.others():
            try:
                async with (
                    far.client(node, self._call.caller) as client,
                    client.follow_events(
                        after=self._places.get(node),
                        service=self._query.service,
                        allocation=self._query.allocation,
                        is_of_cluster=self._query.cluster,
                    ) as events,
                ):
                    is_silent = False
                    async for event in events:
                        self._places[node] = event.sequence
                        await self._send.send(event)
            except OrcaError as error:
                if not is_silent:
                    is_silent = True
                    await self._send.send(far.silence(node, error))
            await trio.sleep(LOOK_S)
        del self._followed[node]


EVENT_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/events",
        handler=list_events,
        summary="What happened, by pages, or as it happens",
        tag="cluster",
        reply=EventsReply,
        query=EventsQuery,
    ),
)
