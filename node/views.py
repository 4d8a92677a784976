"""What this node shows of intent and beliefs. Pure: values in, views out."""

from collections import Counter
from collections.abc import Iterable, Mapping

from consensus.state.cluster import ClusterState, ServiceRecord
from node.differences import field_changes
from orca.model.allocation import Allocation, AllocationStatus, DesiredStatus, Phase
from orca.model.holding import LeaseView
from orca.model.ids import AllocationId, LeaseEpoch, NodeId, ServiceId, singleton_lease
from orca.model.node import NodeFacts
from orca.model.spec import ServiceSpec, WasmModule
from orca.model.view import AllocationView, NodeView, RevisionView, RolloutState, RolloutView, ServiceView

Statuses = Mapping[AllocationId, AllocationStatus]


def workload_name(spec: ServiceSpec) -> str:
    """What a copy runs, as people call it."""
    source = spec.source
    if isinstance(source, WasmModule):
        return source.name or source.module[:19]
    return source.image


def lease_view(state: ClusterState, service: ServiceId) -> LeaseView | None:
    """Who holds the lease of a singleton; None of other services, and while nobody does."""
    held = state.leases.get(singleton_lease(service))
    if held is None:
        return None
    name = state.nodes[held.node].name if held.node in state.nodes else str(held.node)
    return LeaseView(allocation=AllocationId(held.holder), node=held.node, fence=held.epoch, node_name=name)


def fence_of(state: ClusterState, allocation: Allocation) -> LeaseEpoch | None:
    """The number of the lease that a copy has."""
    held = state.leases.get(singleton_lease(allocation.service)) if state.leases else None
    return held.epoch if held is not None and held.holder == allocation.id else None


def allocation_view(
    allocation: Allocation, spec: ServiceSpec, status: AllocationStatus | None, fence: LeaseEpoch | None = None
) -> AllocationView:
    """One copy: the decision, and the belief about it where there is one."""
    decided = AllocationView(
        id=allocation.id,
        service=allocation.service,
        slot=allocation.slot,
        revision=allocation.revision,
        node=allocation.node,
        runtime=spec.runtime,
        desired=allocation.desired,
        phase=Phase.PENDING,
        is_ready=False,
        created_at_ms=allocation.created_at_ms,
        fence=fence,
    )
    if status is None:
        return decided
    return AllocationView(
        id=allocation.id,
        service=allocation.service,
        slot=allocation.slot,
        revision=allocation.revision,
        node=allocation.node,
        runtime=spec.runtime,
        desired=allocation.desired,
        created_at_ms=allocation.created_at_ms,
        phase=status.phase,
        is_ready=status.is_ready,
        reason=status.reason,
        restarts=status.restarts,
        exit_code=status.exit_code,
        since_ms=status.since_ms,
        started_at_ms=status.started_at_ms,
        next_start_at_ms=status.next_start_at_ms,
        endpoints=status.endpoints,
        progress=status.progress,
        fence=fence,
    )


def service_view(
    state: ClusterState,
    record: ServiceRecord,
    statuses: Statuses,
    blocked: str,
    placed: Iterable[Allocation] | None = None,
) -> ServiceView:
    """One service with its copies.

    `placed` are its copies in `state`, for those who have them sorted out already: looking for
    them goes through all copies of the cluster.
    """
    found = state.allocations_of(record.id) if placed is None else placed
    in_order = sorted(found, key=lambda one: (one.slot, one.revision, one.id))
    copies = tuple(
        allocation_view(one, state.spec_of(one), statuses.get(one.id), fence_of(state, one)) for one in in_order
    )
    spec = record.spec
    rollout = record.rollout
    wanted = [one for one in copies if one.desired is DesiredStatus.RUNNING]
    return ServiceView(
        id=record.id,
        project=spec.project,
        name=spec.name,
        runtime=spec.runtime,
        workload=workload_name(spec),
        revision=record.current.revision,
        replicas=record.replicas,
        ready=sum(one.is_ready or one.phase is Phase.COMPLETED for one in wanted),
        is_stopped=record.is_stopped,
        is_job=spec.is_job,
        schedule=spec.schedule,
        restarts=sum(one.restarts for one in wanted),
        routes=spec.routes,
        rollout=RolloutView(
            revision=rollout.revision,
            state=rollout.state,
            started_at_ms=rollout.started_at_ms,
            message=rollout.message or (blocked if rollout.state is RolloutState.PROGRESSING else ""),
            ended_at_ms=rollout.ended_at_ms,
            is_paused=rollout.is_paused,
            is_way_back=rollout.is_way_back,
        ),
        updated_at_ms=record.updated_at_ms,
        allocations=copies,
        blocked=blocked,
        lease=lease_view(state, record.id),
    )


def revision_views(record: ServiceRecord) -> tuple[RevisionView, ...]:
    """The revisions that one can go back to, newest first, each with what it changed."""
    views = []
    before: ServiceSpec | None = None
    for one in record.revisions:
        views.append(
            RevisionView(
                revision=one.revision,
                created_at_ms=one.at_ms,
                cause=f"{one.cause}: {one.note}" if one.note else one.cause,
                workload=workload_name(one.spec),
                replicas=one.spec.replicas,
                is_current=one is record.current,
                fields=() if before is None else field_changes(before, one.spec),
            )
        )
        before = one.spec
    return tuple(reversed(views))


def node_views(
    state: ClusterState, own: NodeView, alive: Mapping[NodeId, NodeFacts], leader: NodeId | None
) -> tuple[NodeView, ...]:
    """First this node, then the others that live, by name."""
    placed = Counter(one.node for one in state.allocations.values())
    others = [
        NodeView(facts=facts, is_leader=facts.id == leader, allocations=placed[facts.id])
        for facts in sorted(alive.values(), key=lambda facts: (facts.name, facts.id))
        if facts.id != own.facts.id
    ]
    return own, *others
