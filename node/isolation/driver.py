"""The watch on trio."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import trio

from consensus.state.cluster import ClusterState
from node.isolation.watch import IsolationWatch
from node.reconciler.events import Permit
from orca.model.allocation import Allocation
from orca.model.ids import AllocationId, NodeId

LOOK_S: Final = 1.0
"""How often is looked, on a node that has such copies."""


class Group(Protocol):
    """When the group was heard."""

    @property
    def has_heard(self) -> bool:
        """Whether it was since this node started."""
        ...

    def age_s(self) -> float:
        """How old this node's knowledge may be."""
        ...


class Isolation:
    """`changed` is called when a copy has to stop, or may start."""

    def __init__(self, node: NodeId, group: Group, *, changed: Callable[[], None]) -> None:
        self._node = node
        self._group = group
        self._changed = changed
        self._watch = IsolationWatch()
        self._mine: list[Allocation] = []
        self._stop_after_s: dict[AllocationId, float] = {}
        self._permits: Mapping[AllocationId, Permit] = {}
        self._some = trio.Event()

    def permits(self, state: ClusterState) -> Mapping[AllocationId, Permit]:
        """What the copies of this node may do whose services have `stop_after`; the others need no permit."""
        mine = list(state.copies.of_node(self._node).values())
        if mine != self._mine:
            self._mine = mine
            after = ((one.id, state.spec_of(one).disconnect.stop_after_s) for one in mine)
            self._stop_after_s = {name: seconds for name, seconds in after if seconds is not None}
            if self._stop_after_s:
                self._some.set()
        self._permits = self._look()
        return self._permits

    def _look(self) -> dict[AllocationId, Permit]:
        if not self._stop_after_s:
            return {}
        return self._watch.permits(self._stop_after_s, self._group.age_s(), has_heard=self._group.has_heard)

    async def run(self) -> None:
        """Look when a copy may have to stop, until cancelled."""
        while True:
            if not self._stop_after_s:
                self._some = trio.Event()
                await self._some.wait()
            await trio.sleep(LOOK_S)
            if self._look() != self._permits:
                self._changed()
