"""What this node believes of the world: nodes that live, copies and how they are. Pure.

Single-writer facts: only a copy's own node writes its status, and gossip hands on what it says in the order in
which that node said it, over its restarts too, so the last word is the newest and there is nothing to reconcile. In
a cluster of one all of them are this node's own.
"""

from collections.abc import Callable

from consensus.scheduler.beliefs import Beliefs
from orca.model.allocation import AllocationStatus
from orca.model.ids import AllocationId, NodeId, ServiceId
from orca.model.node import NodeFacts
from orca.model.units import WallMs


class Believed:
    """The newest of what is known, and a counter of visible changes.

    `wall` is the time of day, noted when a node is not heard of any more.
    """

    def __init__(self, wall: Callable[[], WallMs] = lambda: WallMs(0)) -> None:
        self._wall = wall
        self._departed: dict[NodeId, WallMs] = {}
        self._versions: dict[ServiceId, int] = {}
        self._nodes: dict[NodeId, NodeFacts] = {}
        self._statuses: dict[AllocationId, AllocationStatus] = {}
        self._changes = 0

    @property
    def statuses(self) -> dict[AllocationId, AllocationStatus]:
        """The newest status of each copy; read it, never change it."""
        return self._statuses

    @property
    def nodes(self) -> dict[NodeId, NodeFacts]:
        """The nodes believed alive; read it, never change it."""
        return self._nodes

    def view(self) -> Beliefs:
        """What the scheduler may believe now."""
        return Beliefs(
            nodes=self._nodes, statuses=self._statuses, departed=self._departed, status_versions=self._versions
        )

    def put_status(self, status: AllocationStatus) -> bool:
        """Take in the last word on a copy; False when it says nothing new."""
        if self._statuses.get(status.allocation) == status:
            return False
        self._statuses[status.allocation] = status
        self._count(status.service)
        self.bump()
        return True

    def drop_status(self, allocation: AllocationId) -> None:
        """The cluster has forgotten the copy."""
        gone = self._statuses.pop(allocation, None)
        if gone is not None:
            self._count(gone.service)
            self.bump()

    def put_node(self, facts: NodeFacts) -> bool:
        """Take in what a node says of itself; False when nothing is new."""
        if self._nodes.get(facts.id) == facts:
            return False
        self._nodes[facts.id] = facts
        self._departed.pop(facts.id, None)
        self.bump()
        return True

    def drop_node(self, node: NodeId) -> None:
        """The node is believed alive no more."""
        if self._nodes.pop(node, None) is not None:
            self._departed[node] = self._wall()
            self.bump()

    def _count(self, service: ServiceId) -> None:
        self._versions[service] = self._versions.get(service, 0) + 1

    def bump(self) -> None:
        """Something that people can see has changed."""
        self._changes += 1

    @property
    def changes(self) -> int:
        """How many visible changes there were so far."""
        return self._changes
