"""Many news of one kind become one: only the last word on each member, only the newest event of a name.

What arrives is held until nothing more came for a quiet time, or until the first has waited
for the whole period. Off (a period of 0) by default: every delay here is one more second
until a dead node's traffic goes elsewhere.
"""

from typing import Final

from gossip.serf.effects import StatusChanged, UserEventReceived
from gossip.serf.members import SerfMember, StatusChange
from orca.model.units import Instant

EVENTS_HELD_MAX: Final = 4096
_NEVER: Final = Instant(float("inf"))


class _Window:
    """Until when news are held."""

    def __init__(self, period_s: float, quiet_s: float) -> None:
        self._period_s = period_s
        self._quiet_s = quiet_s
        self._ends_at = _NEVER
        self._quiet_at = _NEVER

    def extend(self, now: Instant) -> None:
        """Something came."""
        if self._ends_at == _NEVER:
            self._ends_at = Instant(now + self._period_s)
        self._quiet_at = Instant(now + self._quiet_s)

    def deadline(self) -> Instant:
        """When what is held is due."""
        return min(self._ends_at, self._quiet_at)

    def close(self) -> None:
        """Nothing is held any more."""
        self._ends_at = self._quiet_at = _NEVER


class MemberCoalescer:
    """Holds changes of members; on flush one `StatusChanged` for each kind, without what was said before."""

    def __init__(self, period_s: float, quiet_s: float) -> None:
        self._window = _Window(period_s, quiet_s)
        self._latest: dict[str, tuple[StatusChange, SerfMember]] = {}
        self._told: dict[str, StatusChange] = {}

    def add(self, kind: StatusChange, member: SerfMember, now: Instant) -> None:
        """Hold one change."""
        self._latest[member.node] = (kind, member)
        self._window.extend(now)

    def deadline(self) -> Instant:
        """When to flush."""
        return self._window.deadline()

    def flush(self) -> list[StatusChanged]:
        """What is news, by kind, members in order of name."""
        by_kind: dict[StatusChange, list[SerfMember]] = {}
        for node, (kind, member) in sorted(self._latest.items()):
            if self._told.get(node) is kind and kind is not StatusChange.UPDATED:
                continue
            self._told[node] = kind
            by_kind.setdefault(kind, []).append(member)
            if kind is StatusChange.REAPED:
                del self._told[node]
        self._latest.clear()
        self._window.close()
        return [
            StatusChanged(change=kind, members=tuple(by_kind[kind]))
            for kind in sorted(by_kind, key=lambda kind: kind.value)
        ]


class EventCoalescer:
    """Holds user events that allow it; on flush only those of the newest time of each name."""

    def __init__(self, period_s: float, quiet_s: float) -> None:
        self._window = _Window(period_s, quiet_s)
        self._latest: dict[str, list[UserEventReceived]] = {}
        self._count = 0

    def add(self, event: UserEventReceived, now: Instant) -> None:
        """Hold one event; an older one than the newest of its name is dropped."""
        held = self._latest.get(event.name, [])
        if not held or held[0].ltime < event.ltime:
            self._latest[event.name] = [event]
            self._count += 1 - len(held)
        elif held[0].ltime == event.ltime:
            held.append(event)
            self._count += 1
        self._window.extend(now)

    def deadline(self) -> Instant:
        """When to flush: at once when too many are held."""
        return Instant(float("-inf")) if self._count >= EVENTS_HELD_MAX else self._window.deadline()

    def flush(self) -> list[UserEventReceived]:
        """The events that are left, in order of name."""
        events = [event for name in sorted(self._latest) for event in self._latest[name]]
        self._latest.clear()
        self._count = 0
        self._window.close()
        return events
