"""make_plan(state, beliefs) -> Plan: the whole decision of one moment."""

from collections.abc import Iterable

import msgspec

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.feasible import Obstacle, Refusal, Usage, feasible_nodes, patience_ms
from consensus.scheduler.rank import best_node
from consensus.scheduler.reconcile import Need, leftovers, look, reconcile
from consensus.scheduler.rollout import judge_rollout
from consensus.state.cluster import ClusterState, ServiceRecord
from consensus.state.commands import CommitPlan, RolloutUpdate
from orca.model.allocation import TERMINAL_PHASES, Allocation
from orca.model.ids import AllocationId, NodeId, ServiceId
from orca.model.spec import ServiceSpec
from orca.model.units import WallMs
from orca.model.view import PlacementPreview, RolloutState
from orca.sources import IdSource


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to propose now (None: nothing), why services wait, and when to look again."""

    command: CommitPlan | None
    blocked: dict[ServiceId, str]
    wake_at_ms: WallMs | None


def make_plan(
    state: ClusterState,
    beliefs: Beliefs,
    now_ms: WallMs,
    ids: IdSource,
    *,
    leads_since_ms: WallMs = WallMs(0),
    changes_max: int = 2000,
) -> Plan:
    """The next step towards what `state` wants, given what is believed.

    `leads_since_ms` is when the leader that asks became one: no rollout runs out of time
    because nobody was there to look. Only `ids` is not a function of the arguments' values:
    it names new copies.
    """
    situation = look(state, beliefs.statuses, now_ms, leads_since_ms)
    usages = count_usage(state, beliefs)
    placements: list[Allocation] = []
    stops: list[AllocationId] = []
    forgets = list(leftovers(state, beliefs.statuses))
    rollouts: list[RolloutUpdate] = []
    blocked: dict[ServiceId, str] = {}
    wakes: list[WallMs] = []
    for service in sorted(state.services):
        record = state.services[service]
        need = reconcile(situation, record)
        room = changes_max - len(placements) - len(stops) - len(forgets)
        placed, obstacle = place(record, need.slots[: max(0, room)], beliefs, usages, now_ms, ids)
        forgets += need.forgets
        if need.blocked:
            obstacle = Obstacle(reason=need.blocked)
        elif not state.nodes.keys() <= beliefs.nodes.keys():
            # A node that is away may be the one that could take it.
            obstacle = Obstacle(reason=obstacle.reason)
        if obstacle.reason:
            blocked[service] = obstacle.reason
        update, wake = judge_rollout(situation, record, need, obstacle)
        rollouts += [update] if update is not None else []
        if update is None or update.state is not RolloutState.FAILED:
            placements += placed
            stops += need.stops
        wakes += [at for at in (wake, need.matures_at_ms) if at is not None]
    command = CommitPlan(
        base=state.revision,
        at_ms=now_ms,
        placements=tuple(placements),
        stops=tuple(stops),
        forgets=tuple(forgets),
        rollouts=tuple(rollouts),
    )
    is_empty = not (placements or stops or forgets or rollouts)
    return Plan(command=None if is_empty else command, blocked=blocked, wake_at_ms=min(wakes, default=None))


def count_usage(state: ClusterState, beliefs: Beliefs) -> dict[NodeId, Usage]:
    """What is reserved on each living node by copies that have not ended."""
    usages = {node: Usage() for node in beliefs.nodes}
    for allocation in state.allocations.values():
        status = beliefs.statuses.get(allocation.id)
        if allocation.node in usages and (status is None or status.phase not in TERMINAL_PHASES):
            usages[allocation.node].add(state.spec_of(allocation))
    return usages


def place(
    record: ServiceRecord,
    slots: Iterable[int],
    beliefs: Beliefs,
    usages: dict[NodeId, Usage],
    now_ms: WallMs,
    ids: IdSource,
) -> tuple[list[Allocation], Obstacle]:
    """Copies for `slots` as far as nodes can take them, and why the rest cannot be placed."""
    placed: list[Allocation] = []
    nodes = [beliefs.nodes[node] for node in sorted(beliefs.nodes)]
    for slot in slots:
        candidates, refusals = feasible_nodes(record.spec, nodes, usages)
        if not candidates:
            patience = patience_ms(refusals.values())
            return placed, Obstacle(reason=explain(beliefs, refusals), patience_ms=patience)
        node = best_node(record.spec, candidates, usages)
        usages[node.id].add(record.spec)
        placed.append(
            Allocation(
                id=AllocationId(ids.fresh()),
                service=record.id,
                revision=record.current.revision,
                template=record.current.template,
                slot=slot,
                node=node.id,
                created_at_ms=now_ms,
            )
        )
    return placed, Obstacle()


def explain(beliefs: Beliefs, refusals: dict[NodeId, Refusal]) -> str:
    """Why no node can take a copy, in one line."""
    if not refusals:
        return "no node is alive"
    return "no node can take it: " + "; ".join(
        f"{beliefs.nodes[node].name} {refusals[node].reason}" for node in sorted(refusals)
    )


def preview(state: ClusterState, beliefs: Beliefs, spec: ServiceSpec, copies: int) -> tuple[PlacementPreview, ...]:
    """Where `copies` more copies of `spec` would go now."""
    usages = count_usage(state, beliefs)
    nodes = [beliefs.nodes[node] for node in sorted(beliefs.nodes)]
    counts: dict[NodeId, int] = {}
    for done in range(copies):
        candidates, refusals = feasible_nodes(spec, nodes, usages)
        if not candidates:
            rest = PlacementPreview(node=None, copies=copies - done, reason=explain(beliefs, refusals))
            return (*_previews(beliefs, counts), rest)
        node = best_node(spec, candidates, usages)
        usages[node.id].add(spec)
        counts[node.id] = counts.get(node.id, 0) + 1
    return _previews(beliefs, counts)


def _previews(beliefs: Beliefs, counts: dict[NodeId, int]) -> tuple[PlacementPreview, ...]:
    return tuple(
        PlacementPreview(node=node, copies=number, node_name=beliefs.nodes[node].name)
        for node, number in sorted(counts.items())
    )


__all__ = ["Need", "Plan", "count_usage", "explain", "make_plan", "place", "preview"]
