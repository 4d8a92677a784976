"""Broadcasts on their way: each is sent a limited number of times, the least sent first.

The rule of memberlist's queue (SWIM §4.1 with a limit of λ·log n): an entry leaves the
queue when it was put into `limit` packets, counted per packet and not per round. Of the
entries with the fewest transmissions the longest that still fits is taken, of equally
long ones the newest. A newer entry under the same key replaces the older one, since both
say something about the same thing and only the last word counts.

The queue is bounded in entries and refuses what could never fit a packet: memberlist keeps
such a broadcast for ever. Pure and without a clock of its own; `put` may be told the time,
so that `expire` can drop what waited too long.
"""

import math
from bisect import bisect_right, insort
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

from orca.model.units import Instant

PAYLOAD_BYTES_MAX: Final = 1300
"""What surely fits a packet of 1,400 bytes beside label, seal, CRC and compound header."""
ENTRIES_MAX: Final = 4096
"""Serf's limit on each of its queues; beyond it a cluster only gossips about its own past."""
_NEVER: Final = Instant(float("-inf"))


def transmit_limit(multiplier: int, members: int) -> int:
    """How many packets carry one broadcast in a group of `members`: `multiplier · ceil(log10(n + 1))`."""
    return multiplier * math.ceil(math.log10(members + 1))


class _Entry(NamedTuple):
    serial: int
    key: Hashable | None
    payload: bytes
    on_done: Callable[[], None] | None
    put_at: Instant


class TransmitQueue:
    """Bounded queue of broadcasts; see the module docstring for the order.

    `on_done` of an entry is called exactly once, when the entry leaves the queue for
    whatever reason (sent often enough, replaced, dropped, expired, cleared): who waits for
    it need not wait any longer. It must not put or take.
    """

    def __init__(self, entries_max: int = ENTRIES_MAX, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
        assert entries_max > 0, f"a queue of {entries_max} entries holds nothing"
        assert payload_bytes_max > 0, f"payloads of at most {payload_bytes_max} bytes say nothing"
        self._entries_max = entries_max
        self._payload_bytes_max = payload_bytes_max
        self._entries: dict[int, _Entry] = {}
        self._serial_of: dict[Hashable, int] = {}
        self._sent: dict[int, int] = {}
        # Per number of transmissions: (length, serial) in order, so that the last that fits is the one to take.
        self._tiers: dict[int, list[tuple[int, int]]] = {}
        self._serial = 0
        self.refused_count = 0
        self.dropped_count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._serial_of

    @property
    def payload_bytes(self) -> int:
        """The sum of the lengths of what waits."""
        return sum(len(entry.payload) for entry in self._entries.values())

    def put(
        self,
        key: Hashable | None,
        payload: bytes,
        on_done: Callable[[], None] | None = None,
        *,
        now: Instant = _NEVER,
    ) -> bool:
        """Queue `payload`; an entry of the same `key` (None: of no other) is replaced.

        False, and `on_done` called at once, when the payload is longer than a packet takes.
        When the queue is full the entry that was sent most often makes room.
        """
        if len(payload) > self._payload_bytes_max:
            self.refused_count += 1
            if on_done is not None:
                on_done()
            return False
        if key is not None and key in self._serial_of:
            self._remove(self._serial_of[key])
        while len(self._entries) >= self._entries_max:
            self.dropped_count += 1
            self._remove(self._last())
        self._serial += 1
        entry = _Entry(self._serial, key, payload, on_done, now)
        self._entries[entry.serial] = entry
        if key is not None:
            self._serial_of[key] = entry.serial
        self._place(entry, 0)
        return True

    def take(self, overhead_bytes: int, room_bytes: int, limit: int) -> list[bytes]:
        """Payloads for one packet with `room_bytes` left; each costs its length and `overhead_bytes`.

        Every payload returned counts as sent once; none comes twice in one call. Those sent
        `limit` times leave the queue.
        """
        taken: list[tuple[_Entry, int]] = []
        room = room_bytes
        for sent in sorted(self._tiers):
            tier = self._tiers[sent]
            while tier:
                place = bisect_right(tier, (room - overhead_bytes, self._serial + 1)) - 1
                if place < 0:
                    break
                entry = self._entries[tier.pop(place)[1]]
                taken.append((entry, sent + 1))
                room -= overhead_bytes + len(entry.payload)
            if not tier:
                del self._tiers[sent]
        for entry, sent in taken:
            if sent < limit:
                self._place(entry, sent)
        for entry, sent in taken:  # callbacks last: they see the queue as it will stay
            if sent >= limit:
                self._forget(entry)
        return [entry.payload for entry, _ in taken]

    def drop(self, key: Hashable) -> bool:
        """Remove the entry of `key`; False when there is none."""
        serial = self._serial_of.get(key)
        if serial is None:
            return False
        self._remove(serial)
        return True

    def expire(self, put_before: Instant) -> int:
        """Drop what was put before that time and is still here; returns how many."""
        stale = [entry.serial for entry in self._entries.values() if entry.put_at < put_before]
        for serial in stale:
            self._remove(serial)
        return len(stale)

    def clear(self) -> None:
        """Drop everything."""
        for serial in list(self._entries):
            self._remove(serial)

    def check_invariants(self) -> None:
        """Raise AssertionError when the tables do not fit each other."""
        placed = [serial for tier in self._tiers.values() for _, serial in tier]
        assert sorted(placed) == sorted(self._entries), "every entry stands in exactly one tier"
        assert len(self._entries) <= self._entries_max, f"{len(self._entries)} entries, {self._entries_max} allowed"
        assert sorted(self._sent) == sorted(self._entries), "every entry has a count of transmissions"
        for sent, tier in self._tiers.items():
            assert tier, "no empty tier is kept"
            assert tier == sorted(tier), f"tier {sent} is in order"
        for key, serial in self._serial_of.items():
            assert self._entries[serial].key == key, f"key {key!r} points to its entry"

    def _place(self, entry: _Entry, sent: int) -> None:
        self._sent[entry.serial] = sent
        insort(self._tiers.setdefault(sent, []), (len(entry.payload), entry.serial))

    def _last(self) -> int:
        """The entry that would be taken last: most often sent, shortest, oldest."""
        return self._tiers[max(self._tiers)][0][1]

    def _remove(self, serial: int) -> None:
        entry = self._entries[serial]
        sent = self._sent[serial]
        tier = self._tiers[sent]
        tier.remove((len(entry.payload), serial))
        if not tier:
            del self._tiers[sent]
        self._forget(entry)

    def _forget(self, entry: _Entry) -> None:
        del self._entries[entry.serial]
        del self._sent[entry.serial]
        if entry.key is not None and self._serial_of.get(entry.key) == entry.serial:
            del self._serial_of[entry.key]
        if entry.on_done is not None:
            entry.on_done()
