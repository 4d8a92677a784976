"""The routes of a node, made anew only where something in them is different. Pure.

A table costs what there is, 40 ms for a thousand services, and most words about copies change no route: while a
thousand services are deployed there are hundreds of them in a second. To see that nothing is different costs 1 ms.
"""

import msgspec

from consensus.state.cluster import ClusterState, ServiceRecord
from node.believed import Believed
from node.ingress import routed_service
from node.proxy.routes import RoutedService, RouteTable, build_route_table
from orca.model.ids import NodeId, ServiceId


class _Seen(msgspec.Struct, frozen=True):
    """What the routes of a service were last made from, beside the nodes that live."""

    record: ServiceRecord
    copies: int
    statuses: int


class Routing:
    """Remembers the routes of each service. `own` is the node whose they are."""

    def __init__(self, own: NodeId) -> None:
        self._own = own
        self._seen: dict[ServiceId, _Seen] = {}
        self._routed: dict[ServiceId, RoutedService] = {}
        self._alive: tuple[NodeId, ...] = ()
        self._is_first = True

    def changed(self, state: ClusterState, beliefs: Believed) -> RouteTable | None:
        """The table of this moment; None when it is that of the last time."""
        alive = tuple(beliefs.nodes)
        if alive != self._alive:
            self._alive = alive
            self._seen.clear()
        is_other, self._is_first = self._is_first, False
        versions = beliefs.view().status_versions or {}
        for name, record in state.services.items():
            copies, statuses = state.copies.version_of(name), versions.get(name, 0)
            seen = self._seen.get(name)
            if seen is None or seen.record is not record or (seen.copies, seen.statuses) != (copies, statuses):
                self._seen[name] = _Seen(record, copies, statuses)
                is_other |= self._look(state, record, beliefs)
        for name in [name for name in self._routed if name not in state.services]:
            del self._routed[name]
            self._seen.pop(name, None)
            is_other = True
        return build_route_table(self._routed.values(), beliefs.changes) if is_other else None

    def _look(self, state: ClusterState, record: ServiceRecord, beliefs: Believed) -> bool:
        """Whether the routes of `record` are others than they were."""
        before = self._routed.pop(record.id, None)
        if not record.spec.routes:
            return before is not None
        routed = routed_service(state, record, beliefs.statuses, self._own, beliefs.nodes)
        self._routed[record.id] = routed
        return routed != before
