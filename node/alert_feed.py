"""The histories of all nodes as one, followed for whoever works alerts out all the time.

What was read of a node stays when that node dies; what it told before this began is missing until it answers, and
`is_blind` says so.
"""

from collections import deque
from collections.abc import AsyncIterator
from typing import Final

import structlog
import trio

from node.api.call import Call, NoBody
from node.api.caller import Caller
from node.api.control import Control
from node.api.event_pages import Repetitions
from node.api.events import open_news, page_of_all
from node.api.far import Connector, FarNodes
from node.api.params import EVENTS_LIMIT_MAX, EventsQuery
from node.bell import Bell
from orca.errors import OrcaError
from orca.http import Request
from orca.model.event import NodeEvent
from orca.model.ids import NodeId
from orca.model.trust import ApiRole
from orca.model.view import NodeSilence

HISTORY_MAX: Final = 2 * EVENTS_LIMIT_MAX
RETRY_S: Final = 2.0
_log = structlog.get_logger("orca.alerts")


class AlertFeed:
    """Events from the newest thousand on. `run` fills it; `news` is rung when there is more."""

    def __init__(self, control: Control, connect: Connector) -> None:
        self._control = control
        self._far = FarNodes(control, connect)
        self._caller = Caller(actor="alerts", origin="local", role=ApiRole.VIEWER)
        self._events: deque[NodeEvent] = deque(maxlen=HISTORY_MAX)
        self._unread: set[NodeId] = set()
        self.news = Bell()
        self.is_ready = False
        """Whether the histories were read at all."""

    @property
    def events(self) -> tuple[NodeEvent, ...]:
        """As of now."""
        return tuple(self._events)

    @property
    def is_blind(self) -> bool:
        """Whether some node's history is missing."""
        return not self._unread.isdisjoint(self._far.others())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._follow()
            except OrcaError as error:
                _log.info("the histories cannot be read now", reason=error.message)
            await trio.sleep(RETRY_S)

    async def _follow(self) -> None:
        page = await page_of_all(self._call(EventsQuery(everywhere=True, limit=EVENTS_LIMIT_MAX)))
        repetitions = Repetitions()
        self._events.clear()
        self._events.extend(one for one in page.events if repetitions.is_new(one))
        self._unread = {one.node for one in page.silent}
        self.is_ready = True
        self.news.ring()
        query = EventsQuery(everywhere=True, limit=EVENTS_LIMIT_MAX, follow=True, later=page.later)
        async with open_news(self._call(query)) as news:
            async for one in news:
                if isinstance(one, NodeSilence):
                    continue
                self._unread.discard(one.node)
                if repetitions.is_new(one):
                    self._events.append(one)
                    self.news.ring()

    def _call(self, query: EventsQuery) -> Call[EventsQuery, NoBody]:
        request = Request("GET", "/v1/events", (), "", _nothing())
        return Call(self._control, request, self._caller, {}, query, NoBody(), far=self._far)


async def _nothing() -> AsyncIterator[bytes]:
    pieces: tuple[bytes, ...] = ()
    for piece in pieces:
        yield piece
