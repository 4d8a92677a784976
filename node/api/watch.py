"""`GET /v1/watch`: the named services now and whenever they change."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

import trio

from node.api.call import Call, NoBody
from node.api.caller import Caller
from node.api.control import Control
from node.api.handlers import seen_by
from node.api.params import WatchQuery
from node.api.silences import unaged
from node.api.sse import KEEP_ALIVE, sse_message, sse_response, wait_or_keep_alive
from orca.http import StreamResponse
from orca.model.ids import ServiceId
from orca.model.view import ServiceView

PAUSE_S: Final = 0.1
"""Changes that come faster are told together: at most about ten answers a second."""


async def watch_services(call: Call[WatchQuery, NoBody]) -> StreamResponse:
    """The stream; a service that does not exist is simply not in it."""
    return sse_response(partial(_services, call.control, call.caller, call.query.service))


async def _services(control: Control, caller: Caller, only: tuple[ServiceId, ...]) -> AsyncGenerator[bytes, None]:
    told: tuple[ServiceView, ...] | None = None
    seen = control.change_count()
    said_at = trio.current_time()
    while True:
        reply = seen_by(caller, control, await control.services(only=only))
        shown = unaged(reply.services)
        if shown != told:
            told = shown
            yield sse_message("services", reply)
            said_at = trio.current_time()
        await trio.sleep(PAUSE_S)
        changed = await wait_or_keep_alive(partial(control.wait_change, seen), said_at)
        if changed is None:
            yield KEEP_ALIVE
            said_at = trio.current_time()
        else:
            seen = changed
