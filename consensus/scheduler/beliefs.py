"""What the scheduler is told of the world besides intent."""

from collections.abc import Mapping

import msgspec

from orca.model.allocation import AllocationStatus
from orca.model.ids import AllocationId, NodeId, ServiceId
from orca.model.node import NodeFacts
from orca.model.units import WallMs


class Beliefs(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that are alive, and the newest status of each allocation that is known.

    `departed`: since when a node that was alive is not heard of. `status_versions`: a number for each service that
    is another one after each change of its statuses; None when nobody counts.
    """

    nodes: dict[NodeId, NodeFacts] = {}
    statuses: dict[AllocationId, AllocationStatus] = {}
    departed: dict[NodeId, WallMs] = {}
    status_versions: Mapping[ServiceId, int] | None = None
