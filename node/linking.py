"""What one part of a node makes of what another says. Pure: `wiring` carries it, and so does the simulator."""

import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, assert_never

from consensus.state.cluster import ClusterState
from node.health.verdict import BecameReady, BecameUnready, HealthTransition, LivenessFailed, StartupFailed
from node.reconciler.events import Assignment, AssignmentsChanged, HealthChanged, HealthVerdict, Permit
from orca.model.allocation import Allocation, AllocationStatus, Phase
from orca.model.ids import AllocationId, NodeId

NO_PERMIT: Final = Permit()


class OwnCopies:
    """What belongs on `node`, for whoever only wants to know when that is different."""

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._known: list[Allocation] | None = None
        self._permits: Mapping[AllocationId, Permit] = {}
        self._was_trusted = False

    def changed(
        self, state: ClusterState, permits: Mapping[AllocationId, Permit] = MappingProxyType({})
    ) -> AssignmentsChanged | None:
        """All copies that belong here and what those that need a permit may do, None when all is as the last time.

        A state that never changed is none to act on. The spec of a copy never changes.
        """
        mine, is_trusted = list(state.copies.of_node(self._node).values()), state.revision > 0
        known = self._known
        is_alike = known is not None and is_trusted is self._was_trusted and len(known) == len(mine)
        if known is not None and is_alike and permits == self._permits and all(map(operator.is_, known, mine)):
            return None
        self._known, self._permits, self._was_trusted = mine, permits, is_trusted
        assignments = tuple(
            Assignment(allocation=one, spec=state.spec_of(one), permit=permits.get(one.id, NO_PERMIT)) for one in mine
        )
        return AssignmentsChanged(assignments=assignments, is_trusted=is_trusted)


def verdict_of(allocation: AllocationId, transition: HealthTransition) -> HealthChanged:
    """What the reconciler is to make of what the probes found."""
    match transition:
        case BecameReady():
            return HealthChanged(allocation=allocation, verdict=HealthVerdict.READY)
        case BecameUnready(reason=reason):
            return HealthChanged(allocation=allocation, verdict=HealthVerdict.UNREADY, reason=reason)
        case LivenessFailed(reason=reason) | StartupFailed(reason=reason):
            return HealthChanged(allocation=allocation, verdict=HealthVerdict.DEAD, reason=reason)
        case _:
            assert_never(transition)


def is_final(status: AllocationStatus) -> bool:
    """Whether a copy ended for good by itself: it must not run again after a restart of the node."""
    return status.phase in {Phase.COMPLETED, Phase.FAILED}


def is_routed_otherwise(before: AllocationStatus | None, status: AllocationStatus) -> bool:
    """Whether the routes are others because of a new status."""
    return before is None or before.is_ready != status.is_ready or before.endpoints != status.endpoints
