"""Which copies a node that is cut off has to stop, and when. Pure."""

from collections.abc import Mapping

from node.reconciler.events import Permit
from orca.model.ids import AllocationId
from orca.model.units import format_duration


class IsolationWatch:
    """Remembers what was stopped: it does not start again when the group is heard."""

    def __init__(self) -> None:
        self._over: dict[AllocationId, Permit] = {}

    def permits(
        self, stop_after_s: Mapping[AllocationId, float], age_s: float, *, has_heard: bool
    ) -> dict[AllocationId, Permit]:
        """What the copies of `stop_after_s` may do, when the group was last heard `age_s` ago."""
        self._over = {name: permit for name, permit in self._over.items() if name in stop_after_s}
        found: dict[AllocationId, Permit] = {}
        for name, after_s in stop_after_s.items():
            if name not in self._over and age_s >= after_s:
                why = f"its node has not heard from the group for {format_duration(after_s)}"
                self._over[name] = Permit(is_over=True, why=why)
            waiting = (
                Permit() if has_heard else Permit(must_wait=True, why="it waits until its node hears from the group")
            )
            found[name] = self._over.get(name, waiting)
        return found


def with_isolation(
    leases: Mapping[AllocationId, Permit], isolation: Mapping[AllocationId, Permit]
) -> Mapping[AllocationId, Permit]:
    """Both kinds of permits: what is over by either is over, and a lease implies that the group was heard."""
    if not isolation:
        return leases
    return {**isolation, **{name: one for name, one in leases.items() if not _is_over(isolation.get(name))}}


def _is_over(permit: Permit | None) -> bool:
    return permit is not None and permit.is_over
