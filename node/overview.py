"""Many services and copies as they are at one moment, made in pieces between which the loop turns.

Measured with 1,000 services of 2 copies each (2 cores, Python 3.11): all views at one stretch
took 59 ms, in which nothing else of the node ran; a piece here takes about 1 ms, taking the
moment 0.3 ms. Encoding is 1.4 ms for each MB of JSON (1,000 such services are 1.1 MB), so
it is done at once up to some 5,000 services.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import trio

from consensus.state.cluster import ClusterState, ServiceRecord
from node.views import Statuses, allocation_view, fence_of, service_view
from orca.model.allocation import Allocation
from orca.model.ids import ServiceId
from orca.model.view import AllocationView, ServiceView

PIECE: Final = 64
"""Services or copies made at one stretch."""


class Moment:
    """What was known at one moment; what is read from it later is of the same moment.

    Records, allocations and statuses never change, only the tables that hold them do, so
    copies of the tables are enough.
    """

    def __init__(self, state: ClusterState, statuses: Statuses, blocked: Mapping[ServiceId, str]) -> None:
        self._state = state.freeze()
        self._statuses = dict(statuses)
        self._blocked = dict(blocked)

    async def services(self, chosen: Sequence[ServiceRecord]) -> tuple[ServiceView, ...]:
        """Views of `chosen` services of this moment, in that order."""
        placed: dict[ServiceId, list[Allocation]] = {record.id: [] for record in chosen}
        for one in self._state.allocations.values():
            if one.service in placed:
                placed[one.service].append(one)
        views: list[ServiceView] = []
        for record in chosen:
            blocked = self._blocked.get(record.id, "")
            views.append(service_view(self._state, record, self._statuses, blocked, placed[record.id]))
            if len(views) % PIECE == 0:
                await trio.lowlevel.checkpoint()
        return tuple(views)

    async def allocations(self, chosen: Sequence[Allocation]) -> tuple[AllocationView, ...]:
        """Views of `chosen` copies of this moment, by service and slot."""
        views: list[AllocationView] = []
        for one in sorted(chosen, key=lambda one: (one.service, one.slot, one.revision, one.id)):
            views.append(
                allocation_view(one, self._state.spec_of(one), self._statuses.get(one.id), fence_of(self._state, one))
            )
            if len(views) % PIECE == 0:
                await trio.lowlevel.checkpoint()
        return tuple(views)
