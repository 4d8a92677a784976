"""From intent and beliefs to what the proxy routes. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping

from consensus.scheduler.stages import weights_of
from consensus.state.cluster import ClusterState, ServiceRecord
from node.proxy.routes import RoutedService, Target
from orca.model.allocation import Allocation, AllocationStatus, DesiredStatus
from orca.model.ids import AllocationId, NodeId
from orca.model.ingress import HttpsMode
from orca.model.spec import Protocol


def routed_services(
    state: ClusterState,
    statuses: Mapping[AllocationId, AllocationStatus],
    own: NodeId,
    alive: Collection[NodeId] | None = None,
) -> tuple[RoutedService, ...]:
    """Every service with routes and those of its copies that are ready and wanted, as node `own` reaches them.

    Copies on nodes that are not `alive` (None: all are) get nothing, unless a service has no others: belief may be
    wrong, and a request that fails is no worse than one that is refused.

    Copies of an older revision serve beside the new ones for as long as they are wanted:
    the scheduler decides when they go.
    """
    routed = sorted(name for name, record in state.services.items() if record.spec.routes)
    return tuple(routed_service(state, state.services[name], statuses, own, alive) for name in routed)


def routed_service(
    state: ClusterState,
    record: ServiceRecord,
    statuses: Mapping[AllocationId, AllocationStatus],
    own: NodeId,
    alive: Collection[NodeId] | None = None,
) -> RoutedService:
    """The same for one service, which has routes."""
    heard: list[Target] = []
    silent: list[Target] = []
    for allocation in state.copies.of_service(record.id).values():
        status = statuses.get(allocation.id)
        if allocation.desired is DesiredStatus.RUNNING and status is not None and status.is_ready:
            is_heard = alive is None or allocation.node == own or allocation.node in alive
            (heard if is_heard else silent).extend(_targets(allocation, status, own))
    return _routed(record, heard or silent)


def _targets(allocation: Allocation, status: AllocationStatus, own: NodeId) -> list[Target]:
    node = None if status.node == own else status.node
    return [
        Target(
            allocation=status.allocation,
            revision=allocation.revision,
            node=node,
            port=one.port,
            host=one.host,
            host_port=one.host_port,
        )
        for one in status.endpoints
        if one.protocol is Protocol.TCP
    ]


def _routed(record: ServiceRecord, targets: list[Target]) -> RoutedService:
    return RoutedService(
        service=record.id,
        routes=record.spec.routes,
        main_port=record.spec.main_port,
        targets=tuple(targets),
        weights=weights_of(record, Counter(one.revision for one in targets)),
        drain_timeout_s=record.spec.drain_timeout_s,
        queue_timeout_s=record.spec.ingress.queue_timeout_s if record.replicas else 0.0,
        queue_max=record.spec.ingress.queue_max,
        to_https=record.spec.ingress.https is HttpsMode.REDIRECT,
    )
