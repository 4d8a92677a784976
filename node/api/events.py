"""`GET /v1/events`: pages of the node's history, or all that follows as server-sent events."""

from collections.abc import AsyncGenerator
from functools import partial

import msgspec
import trio

from node.api.call import Call, NoBody
from node.api.control import Control
from node.api.params import EVENTS_LIMIT_MAX, EventsQuery
from node.api.sse import KEEP_ALIVE, sse_message, sse_response, wait_or_keep_alive
from orca.errors import InvalidRequestError
from orca.http import Request, StreamResponse
from orca.model.view import EventsReply


async def list_events(call: Call[EventsQuery, NoBody]) -> EventsReply | StreamResponse:
    """One page, or a stream when `follow` or the `Accept` field asks for one.

    A browser that lost a stream says in `Last-Event-ID` what it saw last; that wins over
    `after`, which is still in its URL from the first time.
    """
    query = call.query
    if query.follow or "text/event-stream" in (call.request.header("accept") or ""):
        if query.before is not None:
            raise InvalidRequestError("the query parameter 'before' is for pages; a stream goes on for ever")
        last = _last_event_id(call.request)
        if last is not None:
            query = msgspec.structs.replace(query, after=last)
        return sse_response(partial(_follow, call.control, query))
    return await _page(call.control, query, query.after, query.limit)


async def _follow(control: Control, query: EventsQuery) -> AsyncGenerator[bytes, None]:
    after, limit = query.after, query.limit
    said_at = trio.current_time()
    while True:
        page = await _page(control, query, after, limit)
        for event in page.events:
            yield sse_message("event", event, event.sequence)
            said_at = trio.current_time()
        after, limit = max(page.last_sequence, after or 0), EVENTS_LIMIT_MAX
        while await wait_or_keep_alive(partial(_has_event, control, after), said_at) is None:
            yield KEEP_ALIVE
            said_at = trio.current_time()


async def _page(control: Control, query: EventsQuery, after: int | None, limit: int) -> EventsReply:
    return await control.events(
        after=after,
        before=query.before,
        limit=limit,
        service=query.service,
        allocation=query.allocation,
        is_of_cluster=query.cluster,
    )


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
