"""The histories of several nodes as one. Pure.

What the cluster decided is in the history of every node that lived then, so an event that came from the log is
shown once, whoever tells it first. What members saw of each other is shown once for several
that saw the same within `SAME_MS`. A page back goes by a cursor with a place in each node's history.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from orca.errors import InvalidRequestError
from orca.model.event import CLUSTER_KINDS, NodeEvent
from orca.model.ids import NodeId

SAME_MS: Final = 10_000
REMEMBERED_MAX: Final = 2_000
Cursor = Mapping[NodeId, int]


class NodePage(msgspec.Struct, frozen=True, kw_only=True):
    """What one node gave: events, oldest first, and the last sequence that it looked at."""

    node: NodeId
    events: tuple[NodeEvent, ...]
    last_sequence: int


class MergedPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events of several nodes, oldest first; `earlier` is empty when there is nothing before them."""

    events: tuple[NodeEvent, ...]
    earlier: str
    later: str


class Repetitions:
    """Tells what was told already, of the last `REMEMBERED_MAX` events."""

    def __init__(self) -> None:
        self._seen: dict[tuple[object, ...], int] = {}

    def is_new(self, event: NodeEvent) -> bool:
        """Whether nobody told of it before; it counts as told from now on."""
        key = _identity(event)
        before = self._seen.pop(key, None)
        self._seen[key] = event.at_ms
        if len(self._seen) > REMEMBERED_MAX:
            del self._seen[next(iter(self._seen))]
        if before is None:
            return True
        return event.log_index is None and abs(event.at_ms - before) > SAME_MS


def merge_pages(pages: Iterable[NodePage], bounds: Cursor, limit: int) -> MergedPage:
    """The newest `limit` events of all pages.

    Each page has to be the newest `limit` of its node below its bound, or all that there are.
    """
    known = tuple(pages)
    every = sorted((event for page in known for event in page.events), key=_order)
    repetitions = Repetitions()
    events = [event for event in every if repetitions.is_new(event)]
    chosen = events[-limit:]
    cut = _order(chosen[0]) if len(events) > limit else None
    earlier = dict(bounds)
    is_more = False
    for page in known:
        left = [event for event in page.events if cut is not None and _order(event) < cut]
        taken = page.events[len(left) :]
        if taken:
            earlier[page.node] = taken[0].sequence
        is_more = is_more or bool(left) or len(page.events) >= limit
    later = {page.node: page.last_sequence for page in known}
    return MergedPage(events=tuple(chosen), earlier=write_cursor(earlier) if is_more else "", later=write_cursor(later))


def write_cursor(places: Cursor) -> str:
    """As it stands in a URL."""
    return "~".join(f"{node}.{sequence}" for node, sequence in sorted(places.items()))


def read_cursor(text: str) -> dict[NodeId, int]:
    """What `write_cursor` wrote; raises InvalidRequestError."""
    found: dict[NodeId, int] = {}
    for part in text.split("~") if text else ():
        node, _, number = part.rpartition(".")
        if not node or not number.isascii() or not number.isdigit() or len(number) > 18:
            raise InvalidRequestError("the cursor cannot be read; give `earlier` or `later` of a reply back as it was")
        found[NodeId(node)] = int(number)
    return found


def _order(event: NodeEvent) -> tuple[int, str, int]:
    return event.at_ms, event.node, event.sequence


def _identity(event: NodeEvent) -> tuple[object, ...]:
    if event.log_index is not None:
        return "log", event.log_index, event.kind, event.service, event.allocation, event.message
    if event.kind in CLUSTER_KINDS:
        return "seen", event.kind, event.message
    return "own", event.node, event.sequence
