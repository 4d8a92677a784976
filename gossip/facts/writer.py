"""What is known of one writer, and when a delta may be applied to it.

The state is a triple (incarnation, version, gc version) and the items. It claims: of this
life of the writer, the newest word on every key up to `version` is here, except that
removals up to `gc_version` may be missing, and that a key which was spoken of again later may
show an earlier word or none (a delta that was cut does not have what was overwritten). A
delta keeps that claim only when it connects:

- it begins where we end or before, and
- no removal that it may lack falls between our version and its own.

When it does not connect, but begins at 0 and its sender has forgotten removals that we never
saw, it is a *reset*: we start over with its items, because among ours may be some that were
removed. A long state arrives in pieces, so after a reset our version may for a while be
below our gc version; until it has passed it, only deltas with the same gc version connect,
for an older one may bring items back that the reset has just left out. Every reset raises
the gc version, so they come to an end. A higher incarnation begins at nothing.
"""

import enum
from collections.abc import Iterator
from typing import Final

import msgspec

from gossip.facts.frames import Delta, Item, Reach
from orca.model.units import Instant

ITEM_OVERHEAD_BYTES: Final = 64
"""Counted for each item beside key and value, so that empty ones are not free."""


class Fit(enum.Enum):
    """How a delta meets a state."""

    EXTENDS = "extends"
    RESETS = "resets"
    STALE = "stale"
    GAP = "gap"


class Held(msgspec.Struct, frozen=True):
    """An item and since when it is here."""

    item: Item
    since: Instant


class WriterState:
    """The facts of one writer; `items` is in order of version."""

    def __init__(self, writer: str, incarnation: int = 0) -> None:
        self.writer = writer
        self.incarnation = incarnation
        self.version = 0
        self.gc_version = 0
        self.items: dict[str, Held] = {}
        self.bytes = 0

    @property
    def reach(self) -> Reach:
        """How far we know this writer."""
        return Reach(self.writer, self.incarnation, self.version, self.gc_version)

    @property
    def is_partial(self) -> bool:
        """Whether a reset has not come to its end yet."""
        return self.version < self.gc_version

    def fit(self, delta: Delta) -> Fit:
        """What applying `delta` would be."""
        if delta.incarnation != self.incarnation:
            if delta.incarnation < self.incarnation:
                return Fit.STALE
            return Fit.RESETS if delta.from_version == 0 else Fit.GAP
        if delta.from_version == 0 and delta.gc_version > max(self.version, self.gc_version):
            return Fit.RESETS
        if delta.to_version <= self.version:
            return Fit.STALE
        connects = (
            delta.from_version <= self.version
            and delta.gc_version <= max(self.version, self.gc_version)
            and (not self.is_partial or delta.gc_version == self.gc_version)
        )
        return Fit.EXTENDS if connects else Fit.GAP

    def after(self, delta: Delta, now: Instant) -> "WriterState":
        """The state after a delta that extends or resets; this one stays as it is."""
        following = WriterState(self.writer, delta.incarnation)
        if self.fit(delta) is Fit.RESETS:
            following.gc_version = delta.gc_version
        else:
            following.version = self.version
            following.gc_version = self.gc_version
            following.bytes = self.bytes
            following.items = dict(self.items)
        for item in delta.items:
            if item.version > following.version:
                following.put(item, now)
        following.version = delta.to_version
        return following

    def put(self, item: Item, now: Instant) -> None:
        """Take in the newest item of this writer."""
        assert item.version > self.version, f"{item.key} has version {item.version}, {self.version} is known"
        self._drop(item.key)
        self.items[item.key] = Held(item, now)
        self.bytes += item_bytes(item)
        self.version = item.version

    def above(self, version: int) -> list[Item]:
        """The items with versions above that, in order."""
        found = list(self.newest_first(version))
        found.reverse()
        return found

    def newest_first(self, version: int) -> Iterator[Item]:
        """The same from the other end, for whoever needs only so many; nothing may be put meanwhile."""
        for held in reversed(self.items.values()):
            if held.item.version <= version:
                return
            yield held.item

    def base_for(self, known: Reach) -> int | None:
        """The version above which somebody who knows `known` needs our items; None when we have nothing for it.

        May forget removals, so that what we have connects.
        """
        if known.incarnation > self.incarnation or self.version == 0:
            return None
        if known.incarnation < self.incarnation or self.gc_version > max(known.version, known.gc_version):
            return 0
        if known.version < known.gc_version and self.gc_version < known.gc_version:
            # It was reset by somebody who had forgotten more than we; forgetting as much lets us connect.
            if self.version < known.gc_version:
                return None
            self.forget_removals(known.gc_version)
        return known.version if known.version < self.version else None

    def forget_removals(self, version: int) -> None:
        """Drop the removals up to `version`, which must be known."""
        assert version <= self.version, f"removals up to {version} cannot be forgotten at {self.version}"
        for key in [
            key for key, held in self.items.items() if held.item.value is None and held.item.version <= version
        ]:
            self._drop(key)
        self.gc_version = max(self.gc_version, version)

    def expire_removals(self, since: Instant) -> None:
        """Drop the removals that are here since before `since`."""
        old = [held.item.version for held in self.items.values() if held.item.value is None and held.since <= since]
        if old and not self.is_partial:
            self.forget_removals(max(old))

    def oldest_removal(self) -> Instant:
        """Since when the first removal is here; infinite when there is none."""
        return min(
            (held.since for held in self.items.values() if held.item.value is None), default=Instant(float("inf"))
        )

    def check_invariants(self) -> None:
        """Raise AssertionError when the state contradicts itself."""
        versions = [held.item.version for held in self.items.values()]
        assert versions == sorted(set(versions)), f"the versions of {self.writer} are in order: {versions}"
        assert not versions or versions[-1] <= self.version, f"{self.writer} has items above its version"
        assert self.bytes == sum(item_bytes(held.item) for held in self.items.values()), "bytes are counted right"
        assert all(held.item.key == key for key, held in self.items.items()), "items stand under their keys"

    def _drop(self, key: str) -> None:
        held = self.items.pop(key, None)
        if held is not None:
            self.bytes -= item_bytes(held.item)


def item_bytes(item: Item) -> int:
    """What an item is counted with against the limits."""
    return ITEM_OVERHEAD_BYTES + len(item.key) + (0 if item.value is None else len(item.value))
