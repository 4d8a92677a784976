"""What a global service needs: one copy on every node that may take one.

Which nodes those are follows from what lasts (runtime, placement, size, people's decisions), not from what is free at
the moment: a node without room keeps its copy wanted, and the service says why it waits. A node that joins
gets its copy, one that is drained loses it, and nothing is placed elsewhere instead. A new revision goes from node
to node: at most `max_unavailable` of them (one, if that is 0 and copies cannot be side by side) are without a
healthy copy meanwhile.
"""

from consensus.scheduler.feasible import lasting_refusal
from consensus.scheduler.reconcile import Need, Situation, effective_order, is_healthy, matures_at, next_change
from consensus.scheduler.whereabouts import Standing
from consensus.state.cluster import ServiceRecord
from orca.model.allocation import TERMINAL_PHASES, Allocation, DesiredStatus
from orca.model.ids import AllocationId, NodeId
from orca.model.node import NodeAvailability
from orca.model.spec import UpdateOrder
from orca.model.view import RolloutState


def reconcile_everywhere(situation: Situation, record: ServiceRecord) -> Need:
    """What `record`, a global service, needs now."""
    copies = situation.copies.get(record.id) or []
    statuses = situation.statuses
    current: dict[NodeId, Allocation] = {}
    outdated: dict[NodeId, list[Allocation]] = {}
    stops: list[AllocationId] = []
    forgets: list[AllocationId] = []
    busy: set[NodeId] = set()
    nodes = _wanted_nodes(situation, record)
    for one in sorted(copies, key=lambda one: -one.created_at_ms):
        ended = (status := statuses.get(one.id)) is not None and status.phase in TERMINAL_PHASES
        standing = situation.places.standing(record, one, may_go=lambda: True)
        if one.desired is DesiredStatus.STOPPED:
            forgets += [one.id] if ended else []
            busy |= set() if ended or standing is Standing.LOST else {one.node}
        elif standing in {Standing.LOST, Standing.SILENT}:
            continue  # it goes on there, or it will be placed there when the node is back
        elif one.node not in nodes or standing is not Standing.THERE or (ended and not record.spec.is_job):
            stops.append(one.id)
        elif one.template != record.current.template:
            outdated.setdefault(one.node, []).append(one)
        elif one.node in current:
            stops.append(one.id)
        else:
            current[one.node] = one
    well = [one for one in current.values() if is_healthy(statuses.get(one.id), record.spec, situation.now_ms)]
    going, open_nodes = _turnover(situation, record, current, outdated, {one.node for one in well}, nodes)
    stops += [one.id for one in going]
    busy |= {one.node for one in going} if effective_order(record.spec) is UpdateOrder.STOP_FIRST else set()
    pinned = _pinned(copies, [node for node in open_nodes if node not in busy])
    blocked = record.rollout.message if record.rollout.state is RolloutState.FAILED and outdated else ""
    return Need(
        slots=tuple(pinned),
        pinned=pinned,
        stops=tuple(stops),
        forgets=tuple(forgets),
        healthy=len(well),
        is_settled=len(well) == len(nodes) and not outdated,
        blocked=blocked,
        matures_at_ms=matures_at(situation, record, list(current.values())),
        changes_at_ms=next_change(situation, record),
        is_moving=True,
    )


def _wanted_nodes(situation: Situation, record: ServiceRecord) -> list[NodeId]:
    """The living nodes that are to have a copy: a cordoned one keeps its own."""
    if record.is_stopped:
        return []
    having = {one.node for one in situation.copies.get(record.id) or [] if one.desired is DesiredStatus.RUNNING}
    return [
        node
        for node, site in sorted(situation.places.sites.items())
        if lasting_refusal(record.spec, site) is None
        and (site.availability is NodeAvailability.ACTIVE or (not site.is_draining and node in having))
    ]


def _turnover(
    situation: Situation,
    record: ServiceRecord,
    current: dict[NodeId, Allocation],
    outdated: dict[NodeId, list[Allocation]],
    well: set[NodeId],
    nodes: list[NodeId],
) -> tuple[list[Allocation], list[NodeId]]:
    """Which older copies go now, and which nodes get a new one."""
    empty = [node for node in nodes if node not in current and node not in outdated]
    if outdated and (record.rollout.is_paused or record.rollout.state is RolloutState.FAILED):
        return [], empty
    deploy = record.spec.deploy
    done = [one for node, found in outdated.items() if node in well for one in found]
    under_way = sum(node not in well for node in current)
    waiting = [node for node in sorted(outdated) if node not in current]
    if effective_order(record.spec) is UpdateOrder.STOP_FIRST:
        budget = max(0, max(1, deploy.max_unavailable) - under_way - len(empty))
        return [*done, *(one for node in waiting[:budget] for one in outdated[node])], empty
    budget = max(0, max(1, deploy.max_surge) - under_way)
    return done, [*empty, *waiting[:budget]]


def _pinned(copies: list[Allocation], nodes: list[NodeId]) -> dict[int, NodeId]:
    """A free slot for each of `nodes`."""
    taken = {one.slot for one in copies}
    free = (slot for slot in range(len(taken) + len(nodes)) if slot not in taken)
    return dict(zip(free, nodes, strict=False))
