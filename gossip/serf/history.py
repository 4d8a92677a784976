"""The last 512 times of events and of queries: what was seen need not be seen twice.

A ring with one slot for each Lamport time. Anything older than the ring, or below a
minimum that a joiner sets, is old; what is in its slot already is a duplicate. The ring of
events also travels in every push/pull, so its content is bounded in entries and in bytes.
"""

import enum
from typing import Final

import msgspec

from gossip.messages import PastEvent, PastEvents
from gossip.serf.clock import LamportClock

SLOTS: Final = 512
ENTRIES_PER_SLOT_MAX: Final = 64
"""Different things of one time; only senders that had not heard of each other share a time."""
EVENT_BYTES_MAX: Final = 1 << 20
"""Names and payloads of the whole ring: it is sent with every push/pull."""
ENTRY_OVERHEAD_BYTES: Final = 64
"""Counted for each event, so that empty ones are not free."""


class Sight(enum.Enum):
    """What a ring thinks of something that arrived."""

    NEW = "new"
    OLD = "old"
    DUPLICATE = "duplicate"
    CROWDED = "crowded"


class _Slot(msgspec.Struct):
    """What was seen of one time; changed in place."""

    ltime: int
    seen: dict[PastEvent | int, None]


class Ring:
    """De-duplicates things of one clock. Things are events, or ids of queries."""

    def __init__(self, clock: LamportClock) -> None:
        self._clock = clock
        self._slots: dict[int, _Slot] = {}
        self._bytes = 0
        self.minimum = 0
        """Things of earlier times are old whatever the ring holds."""

    def see(self, ltime: int, thing: PastEvent | int) -> Sight:
        """Note `thing`, whose time the clock has witnessed, and say whether it is new."""
        if ltime < self.minimum or ltime < self._clock.time - SLOTS:
            return Sight.OLD
        slot = self._slots.get(ltime % SLOTS)
        if slot is None or slot.ltime != ltime:
            if slot is not None and slot.ltime > ltime:
                return Sight.OLD
            self._clear(ltime % SLOTS)
            slot = self._slots[ltime % SLOTS] = _Slot(ltime=ltime, seen={})
        if thing in slot.seen:
            return Sight.DUPLICATE
        if len(slot.seen) >= ENTRIES_PER_SLOT_MAX or not self._has_room(thing, ltime):
            return Sight.CROWDED
        slot.seen[thing] = None
        self._bytes += _length(thing)
        return Sight.NEW

    def past_events(self) -> tuple[PastEvents, ...]:
        """The events in the ring, oldest time first."""
        oldest = max(self.minimum, self._clock.time - SLOTS)
        filled = sorted((slot for slot in self._slots.values() if slot.ltime >= oldest), key=lambda slot: slot.ltime)
        past = (
            PastEvents(ltime=slot.ltime, events=tuple(seen for seen in slot.seen if isinstance(seen, PastEvent)))
            for slot in filled
        )
        return tuple(events for events in past if events.events)

    def check_invariants(self) -> None:
        """Raise AssertionError when the ring is out of bounds."""
        assert len(self._slots) <= SLOTS, f"{len(self._slots)} slots, {SLOTS} allowed"
        assert 0 <= self._bytes <= EVENT_BYTES_MAX, f"{self._bytes} bytes in the ring, {EVENT_BYTES_MAX} allowed"
        for place, slot in self._slots.items():
            assert slot.ltime % SLOTS == place, f"time {slot.ltime} stands in slot {place}"
            assert len(slot.seen) <= ENTRIES_PER_SLOT_MAX, f"time {slot.ltime} has {len(slot.seen)} entries"

    def _has_room(self, thing: PastEvent | int, ltime: int) -> bool:
        """Make room by forgetting earlier times; False when this is the earliest itself."""
        while self._bytes + _length(thing) > EVENT_BYTES_MAX:
            place, oldest = min(self._slots.items(), key=lambda item: item[1].ltime)
            if oldest.ltime >= ltime:
                return False
            self.minimum = max(self.minimum, oldest.ltime + 1)  # what was forgotten must not look new
            self._clear(place)
        return True

    def _clear(self, place: int) -> None:
        slot = self._slots.pop(place, None)
        if slot is not None:
            self._bytes -= sum(_length(thing) for thing in slot.seen)


def _length(thing: PastEvent | int) -> int:
    if isinstance(thing, PastEvent):
        return ENTRY_OVERHEAD_BYTES + len(thing.name) + len(thing.payload)
    return 0
