"""What one part of a node makes of what another says. Pure: `wiring` carries it, and so does the simulator."""

from typing import assert_never

from consensus.state.cluster import ClusterState
from node.health.verdict import BecameReady, BecameUnready, HealthTransition, LivenessFailed, StartupFailed
from node.reconciler.events import Assignment, AssignmentsChanged, HealthChanged, HealthVerdict
from orca.model.allocation import AllocationStatus, Phase
from orca.model.ids import AllocationId, NodeId


def assignments_of(state: ClusterState, node: NodeId) -> AssignmentsChanged:
    """All copies that belong on `node`. A state that never changed is none to act on."""
    mine = state.copies.of_node(node).values()
    assignments = tuple(Assignment(allocation=one, spec=state.spec_of(one)) for one in mine)
    return AssignmentsChanged(assignments=assignments, is_trusted=state.revision > 0)


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
