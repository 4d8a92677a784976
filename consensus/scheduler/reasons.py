"""Why copies are where they are, in words: for people who ask on any node. Reads what the planner reads."""

from consensus.scheduler.feasible import refusal
from consensus.scheduler.fleet import Fleet
from consensus.scheduler.plan import why_not
from consensus.scheduler.reconcile import Situation, effective_order
from consensus.scheduler.volumes import volume_bounds
from consensus.state.cluster import ServiceRecord
from orca.model.allocation import TERMINAL_PHASES, Allocation, DesiredStatus
from orca.model.ids import NodeId, display_name, singleton_lease
from orca.model.placement_view import CopyLeft, CopyReason, NodeVerdict
from orca.model.spec import UpdateOrder
from orca.model.view import RolloutState


def node_verdicts(situation: Situation, fleet: Fleet, record: ServiceRecord) -> tuple[NodeVerdict, ...]:
    """Every node of the cluster by name: whether it can take one more copy, and why not."""
    copies = fleet.copies_of(record.id)
    found = []
    for site in fleet.sites:
        refused = refusal(record.spec, site, fleet.usage(site.id))
        found.append(
            NodeVerdict(
                node=site.id,
                name=site.facts.name,
                copies=copies.get(site.id, 0),
                refusal="" if refused is None else refused.reason,
            )
        )
    for node in situation.places.away:
        name = situation.state.nodes[node].name
        found.append(
            NodeVerdict(node=node, name=name, copies=copies.get(node, 0), refusal="is not heard of", is_alive=False)
        )
    return tuple(sorted(found, key=lambda one: (one.name, one.node)))


def copy_reasons(situation: Situation, fleet: Fleet, record: ServiceRecord) -> tuple[CopyReason, ...]:
    """Every copy of the service by slot, and why it is where it is."""
    return tuple(
        CopyReason(
            allocation=one.id,
            slot=one.slot,
            node=one.node,
            node_name=node_name(situation, one.node),
            reason=copy_reason(situation, fleet, one),
        )
        for one in situation.state.allocations_of(record.id)
    )


def left_on(situation: Situation, fleet: Fleet, node: NodeId) -> tuple[CopyLeft, ...]:
    """The copies on `node` that have not ended, by service and slot, and what each waits for."""
    found = [
        one
        for one in situation.state.copies.of_node(node).values()
        if (status := situation.statuses.get(one.id)) is None or status.phase not in TERMINAL_PHASES
    ]
    return tuple(
        CopyLeft(allocation=one.id, service=one.service, slot=one.slot, reason=copy_reason(situation, fleet, one))
        for one in sorted(found, key=lambda one: (one.service, one.slot, one.id))
    )


def copy_reason(situation: Situation, fleet: Fleet, one: Allocation) -> str:
    """Why a copy stays, waits or goes."""
    record = situation.state.services.get(one.service)
    if one.desired is DesiredStatus.STOPPED or record is None:
        return "stops"
    places = situation.places
    if one.node in places.away:
        return _away(situation, record, one)
    complaint = places.complaint(record, one)
    if complaint:
        return f"is to leave, as {complaint}: {_obstacle(situation, fleet, record, one)}"
    if one.template != record.current.template:
        return "is of an older revision, and goes when a new copy is healthy in its place"
    return "belongs here" + _lease(situation, record, one)


def _lease(situation: Situation, record: ServiceRecord, one: Allocation) -> str:
    """What the lease of a singleton has to do with it."""
    if record.spec.singleton is None:
        return ""
    held = situation.state.leases.get(singleton_lease(one.service))
    if held is None:
        return ", and nobody has the lease yet"
    if held.holder == one.id:
        return f", and has the lease, fence {held.epoch}"
    return f", and waits for the lease that {held.holder} on {node_name(situation, held.node)} has"


def _away(situation: Situation, record: ServiceRecord, one: Allocation) -> str:
    at_ms = situation.places.lost_at_ms(record, one)
    if at_ms is None:
        return "its node is not heard of, and the service waits for it (disconnect.keep)"
    if situation.now_ms < at_ms:
        return f"its node is not heard of; it is replaced in {(at_ms - situation.now_ms + 999) // 1000} s"
    return "its node is not heard of; it counts no more until it is"


def _obstacle(situation: Situation, fleet: Fleet, record: ServiceRecord, one: Allocation) -> str:
    """What the departure of a copy waits for."""
    at_ms = situation.places.ousted_at_ms(one)
    if at_ms is not None and situation.now_ms >= at_ms:
        return "the deadline is over, it is stopped"
    spec = record.spec
    if spec.is_job:
        return "it is a job, and may run to its end"
    if spec.is_global:
        return "a global service has its own copy on each other node, so it stops"
    if record.rollout.state is RolloutState.FAILED:
        return f"the rollout of {display_name(record.id)} has failed; deploy or roll back first"
    bounds = volume_bounds(situation.state, spec, one.slot)
    takers = [
        site.facts.name
        for site in fleet.sites
        if site.id != one.node and refusal(spec, site, fleet.usage(site.id), bounds) is None
    ]
    successors = [
        other
        for other in situation.state.allocations_of(record.id)
        if other.slot == one.slot and other.id != one.id and other.desired is DesiredStatus.RUNNING
    ]
    if successors:
        return f"waits until its successor on {node_name(situation, successors[-1].node)} is healthy"
    if not takers:
        return why_not(spec, fleet, bounds).reason
    if effective_order(spec) is UpdateOrder.STOP_FIRST:
        return f"it stops before its successor starts on {takers[0]}"
    return "waits for its turn"


def node_name(situation: Situation, node: NodeId) -> str:
    """What people call it."""
    record, site = situation.state.nodes.get(node), situation.places.sites.get(node)
    return record.name if record is not None else site.facts.name if site is not None else str(node)
