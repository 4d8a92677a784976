"""What the scheduler is told of the world besides intent."""

import msgspec

from orca.model.allocation import AllocationStatus
from orca.model.ids import AllocationId, NodeId
from orca.model.node import NodeFacts


class Beliefs(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that are alive, and the newest status of each allocation that is known."""

    nodes: dict[NodeId, NodeFacts] = {}
    statuses: dict[AllocationId, AllocationStatus] = {}
