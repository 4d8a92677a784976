"""The histories of several nodes as one. Pure.

What the cluster decided is in the history of every node that lived then, so an event that came from the log is
shown once, whoever tells it first. What members saw of each other is shown once for several
that saw the same within `SAME_MS`. A page back goes by a cursor with a place in each node's history, and with what
was told on pages before and some node may tell again further back: entries of the log that a node has not come down to
yet, and what was seen shortly before the page's first event.
"""

import math
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from orca.errors import InvalidRequestError
from orca.model.event import CLUSTER_KINDS, NodeEvent
from orca.model.ids import NodeId

SAME_MS: Final = 10_000
REMEMBERED_MAX: Final = 2_000
TOLD_MAX: Final = 400
"""In a cursor, the newest: with the places of some four hundred nodes they fit a URL."""

_TOLD: Final = re.compile(r"([0-9a-f]{1,8})-([is])([0-9]{1,18})")
_PLACE: Final = re.compile(r"(.+)\.([0-9]{1,18})")


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was shown: a checksum of what it is, and the index of its entry, or else when it was seen."""

    mark: int
    index: int | None = None
    at_ms: int | None = None


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page begins: the lowest sequence of each node that was looked at, and what was told already."""

    places: Mapping[NodeId, int] = {}
    told: tuple[Told, ...] = ()


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
    """Tells what was told already, of the last `REMEMBERED_MAX` events.

    What several members saw at about the same time is one happening; what one of them saw twice is two.
    """

    def __init__(self, told: Iterable[Told] = ()) -> None:
        self._seen: dict[tuple[object, ...], tuple[int, set[NodeId]]] = {}
        self._earlier: dict[tuple[int, int | None], int | None] = {(one.mark, one.index): one.at_ms for one in told}

    def is_new(self, event: NodeEvent) -> bool:
        """Whether nobody told of it before; it counts as told from now on."""
        key = _identity(event)
        mark = (_mark(event), event.log_index)
        if mark in self._earlier:
            at_ms = self._earlier[mark]
            return at_ms is not None and abs(event.at_ms - at_ms) > SAME_MS
        before_ms, observers = self._seen.pop(key, (None, set()))
        is_new = before_ms is None or (
            event.log_index is None and (event.node in observers or abs(event.at_ms - before_ms) > SAME_MS)
        )
        self._seen[key] = event.at_ms, {event.node} if is_new else observers | {event.node}
        if len(self._seen) > REMEMBERED_MAX:
            del self._seen[next(iter(self._seen))]
        return is_new


def merge_pages(pages: Iterable[NodePage], cursor: Cursor, limit: int) -> MergedPage:
    """The newest `limit` events of all pages.

    Each page has to be the newest `limit` of its node below its place, or all that there are.
    """
    known = tuple(pages)
    every = sorted((event for page in known for event in page.events), key=_order)
    repetitions = Repetitions(cursor.told)
    events = [event for event in every if repetitions.is_new(event)]
    chosen = events[-limit:]
    cut = _order(chosen[0]) if len(events) > limit else None
    earlier = dict(cursor.places)
    is_more = False
    lowest = oldest_ms = -math.inf  # entries from here on, and what was seen after this, no node tells any more
    for page in known:
        left = [event for event in page.events if cut is not None and _order(event) < cut]
        taken = page.events[len(left) :]
        if taken:
            earlier[page.node] = taken[0].sequence
        if left or len(page.events) >= limit:
            is_more = True
            lowest = max(lowest, min((one.log_index for one in taken if one.log_index is not None), default=math.inf))
            oldest_ms = max(oldest_ms, taken[0].at_ms if taken else math.inf)
    later = Cursor(places={page.node: page.last_sequence for page in known})
    told = _still_told([*cursor.told, *(_told(event) for event in reversed(chosen))], lowest, oldest_ms)
    before = write_cursor(Cursor(places=earlier, told=told)) if is_more else ""
    return MergedPage(events=tuple(chosen), earlier=before, later=write_cursor(later))


def _still_told(told: Iterable[Told | None], lowest: float, oldest_ms: float) -> tuple[Told, ...]:
    """What may come again: entries below `lowest`, and what was seen about `oldest_ms` or before."""
    kept = [
        one
        for one in told
        if one is not None
        and (one.index < lowest if one.index is not None else (one.at_ms or 0) <= oldest_ms + SAME_MS)
    ]
    return tuple(kept[-TOLD_MAX:])


def _told(event: NodeEvent) -> Told | None:
    """How `event` is remembered; None for what only its own node tells."""
    if event.log_index is not None:
        return Told(mark=_mark(event), index=event.log_index)
    return Told(mark=_mark(event), at_ms=event.at_ms) if event.kind in CLUSTER_KINDS else None


def write_cursor(cursor: Cursor) -> str:
    """As it stands in a URL."""
    parts = [f"{node}.{sequence}" for node, sequence in sorted(cursor.places.items())]
    parts += [f"{one.mark:x}-{'s' if one.index is None else 'i'}{one.index or one.at_ms or 0}" for one in cursor.told]
    return "~".join(parts)


def read_cursor(text: str) -> Cursor:
    """What `write_cursor` wrote; raises InvalidRequestError."""
    places: dict[NodeId, int] = {}
    told: list[Told] = []
    for part in text.split("~") if text else ():
        if (found := _TOLD.fullmatch(part)) is not None:
            number = int(found[3])
            is_entry = found[2] == "i"
            told.append(
                Told(mark=int(found[1], 16), index=number if is_entry else None, at_ms=None if is_entry else number)
            )
        elif (found := _PLACE.fullmatch(part)) is not None:
            places[NodeId(found[1])] = int(found[2])
        else:
            raise InvalidRequestError("the cursor cannot be read; give `earlier` or `later` of a reply back as it was")
    return Cursor(places=places, told=tuple(told))


def _mark(event: NodeEvent) -> int:
    return zlib.crc32(repr(_identity(event)).encode())


def _order(event: NodeEvent) -> tuple[int, str, int]:
    return event.at_ms, event.node, event.sequence


def _identity(event: NodeEvent) -> tuple[object, ...]:
    if event.log_index is not None:
        return "log", event.log_index, event.kind, event.service, event.allocation, event.message
    if event.kind in CLUSTER_KINDS:
        return "seen", event.kind, event.message
    return "own", event.node, event.sequence
