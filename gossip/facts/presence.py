"""Facts of those who have gone: hidden when their time to live is over, forgotten after a while.

Hidden facts come back when their owner does, since it never stopped saying them. What was
forgotten comes back only from its owner: facts of nodes that are no members are not taken
in, so nobody who forgot later can bring them back.
"""

from typing import Final

import msgspec

from gossip.facts.writer import WriterState
from orca.model.units import Instant

_NEVER: Final = Instant(float("inf"))


class _Departed(msgspec.Struct):
    """One departed writer; changed in place."""

    hide_at: dict[str, Instant]
    hidden: dict[str, None]
    forget_at: Instant

    def deadline(self) -> Instant:
        """When something is next to be done about it."""
        return min(self.forget_at, min(self.hide_at.values(), default=_NEVER))


class Presence:
    """When what of whom disappears."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._departed: dict[str, _Departed] = {}
        self._deadline = _NEVER

    def depart(self, node: str, state: WriterState, now: Instant) -> None:
        """The writer has gone; its facts are `state`."""
        hide_at = {
            key: Instant(now + held.item.ttl_s)
            for key, held in state.items.items()
            if held.item.value is not None and held.item.ttl_s is not None
        }
        self._departed[node] = _Departed(hide_at=hide_at, hidden={}, forget_at=Instant(now + self._keep_s))
        self._deadline = min(self._deadline, self._departed[node].deadline())

    def appear(self, node: str) -> list[str]:
        """The writer is back: the keys that are hidden no more."""
        departed = self._departed.pop(node, None)
        return [] if departed is None else list(departed.hidden)

    def is_hidden(self, node: str, key: str) -> bool:
        """Whether that fact is not shown at present."""
        departed = self._departed.get(node)
        return departed is not None and key in departed.hidden

    def hide_due(self, now: Instant) -> list[tuple[str, str]]:
        """Facts whose time to live has just ended, as (writer, key); they are hidden from now on."""
        due: list[tuple[str, str]] = []
        if now < self._deadline:
            return due
        for node, departed in self._departed.items():
            for key in [key for key, at in departed.hide_at.items() if at <= now]:
                del departed.hide_at[key]
                departed.hidden[key] = None
                due.append((node, key))
        return due

    def forget_due(self, now: Instant) -> list[str]:
        """Writers that are to be forgotten; confirm each with `forgotten`."""
        if now < self._deadline:
            return []
        due = [node for node, departed in self._departed.items() if departed.forget_at <= now]
        ahead = (departed.deadline() for node, departed in self._departed.items() if departed.forget_at > now)
        self._deadline = min(ahead, default=_NEVER)
        return due

    def longest_gone(self) -> str | None:
        """The writer that has been gone for the longest, to make room."""
        return next(iter(self._departed), None)

    def forgotten(self, node: str) -> None:
        """Nothing of that writer is held any more."""
        del self._departed[node]

    def deadline(self) -> Instant:
        """When something is next to be done; may be too early, never too late."""
        return self._deadline

    def check_invariants(self) -> None:
        """Raise AssertionError when a fact is both hidden and due to be."""
        for node, departed in self._departed.items():
            assert not departed.hide_at.keys() & departed.hidden.keys(), f"facts of {node} are hidden twice"
