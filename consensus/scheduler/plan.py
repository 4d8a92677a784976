"""make_plan(state, beliefs) -> Plan: the whole decision of one moment.

`Planner` makes the same plans and remembers, from one to the next, how much room each node has and which services had
nothing to do: it costs what changed. `make_plan` is a planner that remembers nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.everywhere import reconcile_everywhere
from consensus.scheduler.feasible import Bounds, Obstacle, Refusal, patience_ms, refusal
from consensus.scheduler.fleet import Fleet
from consensus.scheduler.rank import choose_nodes
from consensus.scheduler.reconcile import Need, Situation, leftovers, look, reconcile
from consensus.scheduler.rollout import judge_rollout
from consensus.scheduler.volumes import volume_bounds, writes_volume
from consensus.state.cluster import ClusterState, ServiceRecord
from consensus.state.commands import CommitPlan, RolloutUpdate
from consensus.state.records import RevisionRecord
from orca.model.allocation import Allocation
from orca.model.ids import AllocationId, NodeId, ServiceId, service_id
from orca.model.spec import ServiceSpec
from orca.model.units import WallMs
from orca.model.view import PlacementPreview, RolloutState
from orca.sources import IdSource

REASONS_SHOWN: Final = 10
"""Nodes that a reason names one by one; of more it gives the number."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to propose now (None: nothing), why services wait, and when to look again."""

    command: CommitPlan | None
    blocked: dict[ServiceId, str]
    wake_at_ms: WallMs | None


class _Draft(msgspec.Struct, kw_only=True):
    """A plan while it is made."""

    placements: list[Allocation]
    stops: list[AllocationId]
    forgets: list[AllocationId]
    rollouts: list[RolloutUpdate]
    blocked: dict[ServiceId, str]
    wakes: list[WallMs]

    def size(self) -> int:
        """How many copies it changes."""
        return len(self.placements) + len(self.stops) + len(self.forgets)


_Inputs: TypeAlias = tuple[object, ...]


class _Rest(msgspec.Struct, frozen=True):
    """A service that had nothing to do: what that was seen from, and until when it holds."""

    record: ServiceRecord
    inputs: _Inputs
    until_ms: WallMs | None


class Planner:
    """Makes plan after plan from one state. `reset` it when the state is another object."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self._resting: dict[ServiceId, _Rest] = {}

    def plan(
        self,
        state: ClusterState,
        beliefs: Beliefs,
        now_ms: WallMs,
        ids: IdSource,
        *,
        leads_since_ms: WallMs = WallMs(0),
        changes_max: int = 2000,
    ) -> Plan:
        """As `make_plan`."""
        fleet = self.fleet
        fleet.refresh(state, beliefs)
        situation = look(
            state,
            beliefs,
            now_ms,
            leads_since_ms,
            fleet,
            may_go=lambda record, one: _may_go(state, fleet, record, one),
        )
        draft = _Draft(
            placements=[],
            stops=[],
            forgets=list(leftovers(state, beliefs.statuses)),
            rollouts=[],
            blocked={},
            wakes=[],
        )
        for service in sorted(state.services, key=lambda name: (-state.services[name].spec.priority, name)):
            if draft.size() >= changes_max:
                break  # the others are looked at in the next plan, which follows at once
            record = state.services[service]
            inputs = self._inputs(situation, beliefs, record)
            rest = self._resting.pop(service, None)
            if not _still_rests(rest, record, inputs, now_ms):
                rest = self._plan_service(situation, beliefs, record, ids, draft, changes_max, inputs)
            if rest is not None:
                self._resting[service] = rest
                draft.wakes += [] if rest.until_ms is None else [rest.until_ms]
        is_empty = not (draft.size() or draft.rollouts)
        command = CommitPlan(
            base=state.revision,
            at_ms=now_ms,
            placements=tuple(draft.placements),
            stops=tuple(draft.stops),
            forgets=tuple(draft.forgets),
            rollouts=tuple(draft.rollouts),
        )
        wake_at_ms = min(draft.wakes, default=None)
        return Plan(command=None if is_empty else command, blocked=draft.blocked, wake_at_ms=wake_at_ms)

    def _inputs(self, situation: Situation, beliefs: Beliefs, record: ServiceRecord) -> _Inputs | None:
        """All that decides what a service needs beside its record and the time; None: it is not known."""
        versions, copies = beliefs.status_versions, situation.state.copies
        if versions is None:
            return None
        project = record.spec.project
        others = [service_id(project, one.service) for one in record.spec.depends_on]
        return (
            self.fleet.version,
            situation.leads_since_ms,
            tuple(situation.places.away.items()),
            *((copies.version_of(one), versions.get(one, 0)) for one in (record.id, *others)),
            *(situation.state.services.get(one) for one in others),
        )

    def _plan_service(
        self,
        situation: Situation,
        beliefs: Beliefs,
        record: ServiceRecord,
        ids: IdSource,
        draft: _Draft,
        changes_max: int,
        inputs: _Inputs | None,
    ) -> _Rest | None:
        """Add to `draft` what `record` needs; what it rests on when that is nothing."""
        need = reconcile_everywhere(situation, record) if record.spec.is_global else reconcile(situation, record)
        room = max(0, changes_max - draft.size())
        again: list[Allocation] = []
        lack = Obstacle()
        if need.base is not None:  # what serves comes first, and is no part of the rollout
            again, lack = place_slots(situation, self.fleet, record, need.base, need.base_slots[:room], ids)
        placed, obstacle = place(situation, self.fleet, record, need, ids, room - len(again))
        if lack.reason:
            obstacle = Obstacle(reason=lack.reason)
        draft.forgets += need.forgets
        if need.blocked:
            obstacle = Obstacle(reason=need.blocked)
        elif situation.places.away:
            # A node that is away may be the one that could take it.
            obstacle = Obstacle(reason=obstacle.reason)
        if obstacle.reason:
            draft.blocked[record.id] = obstacle.reason
        update, wake = judge_rollout(situation, record, need, obstacle)
        draft.rollouts += [update] if update is not None else []
        if update is None or update.state is not RolloutState.FAILED:
            draft.placements += [*again, *placed]
            draft.stops += need.stops
        wakes = [at for at in (wake, need.matures_at_ms, need.changes_at_ms) if at is not None]
        draft.wakes += wakes
        changes = need.slots or need.base_slots or need.stops or need.forgets
        acts = changes or obstacle.reason or need.is_moving or update is not None
        if acts or inputs is None:
            return None
        return _Rest(record, inputs, min(wakes, default=None))


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
    return Planner().plan(state, beliefs, now_ms, ids, leads_since_ms=leads_since_ms, changes_max=changes_max)


def _still_rests(rest: _Rest | None, record: ServiceRecord, inputs: _Inputs | None, now_ms: WallMs) -> bool:
    if rest is None or inputs is None or rest.record is not record or rest.inputs != inputs:
        return False
    return rest.until_ms is None or now_ms < rest.until_ms


def _may_go(state: ClusterState, fleet: Fleet, record: ServiceRecord, one: Allocation) -> bool:
    """Whether another node could take the successor of `one`."""
    bounds = volume_bounds(state, record.spec, one.slot)
    return any(
        site.id != one.node and refusal(record.spec, site, fleet.usage(site.id), bounds) is None for site in fleet.sites
    )


def place(
    situation: Situation, fleet: Fleet, record: ServiceRecord, need: Need, ids: IdSource, room: int
) -> tuple[list[Allocation], Obstacle]:
    """Copies for the slots that `need` names, at most `room`, as far as nodes can take them; and why not the rest."""
    return place_slots(situation, fleet, record, record.current, need.slots[:room], ids, need.pinned)


def place_slots(
    situation: Situation,
    fleet: Fleet,
    record: ServiceRecord,
    revision: RevisionRecord,
    slots: Sequence[int],
    ids: IdSource,
    pinned: Mapping[int, NodeId] | None = None,
) -> tuple[list[Allocation], Obstacle]:
    """The same for `slots` and any `revision` of the service."""
    placed: list[Allocation] = []
    obstacle = Obstacle()
    spec = revision.spec
    for chunk, bounds in _alike(situation.state, spec, pinned or {}, slots):
        nodes = choose_nodes(spec, fleet, len(chunk), bounds)
        for slot, node in zip(chunk, nodes, strict=False):
            placed.append(
                Allocation(
                    id=AllocationId(ids.fresh()),
                    service=record.id,
                    revision=revision.revision,
                    template=revision.template,
                    slot=slot,
                    node=node,
                    created_at_ms=situation.now_ms,
                )
            )
        if len(nodes) < len(chunk) and not obstacle.reason:
            obstacle = why_not(spec, fleet, bounds)
    return placed, obstacle


def _alike(
    state: ClusterState, spec: ServiceSpec, pinned: Mapping[int, NodeId], slots: Sequence[int]
) -> Iterable[tuple[Sequence[int], Bounds | None]]:
    """Slots that may go to the same nodes, together: mostly all of them."""
    if pinned:
        return [((slot,), Bounds(frozenset({pinned[slot]}), "has its own copy")) for slot in slots]
    if writes_volume(spec):
        return [((slot,), volume_bounds(state, spec, slot)) for slot in slots]
    return [(slots, None)] if slots else []


def why_not(spec: ServiceSpec, fleet: Fleet, bounds: Bounds | None = None) -> Obstacle:
    """Why no node takes a copy, and for how long it is worth waiting."""
    refusals: dict[NodeId, Refusal] = {}
    for site in fleet.sites:
        found = refusal(spec, site, fleet.usage(site.id), bounds)
        if found is not None:
            refusals[site.id] = found
    return Obstacle(reason=explain(fleet, refusals), patience_ms=patience_ms(refusals.values()))


def explain(fleet: Fleet, refusals: dict[NodeId, Refusal]) -> str:
    """Why no node can take a copy, in one line."""
    if not refusals:
        return "no node is alive"
    shown = sorted(refusals)[:REASONS_SHOWN]
    lines = [f"{fleet.sites[fleet.index[node]].facts.name} {refusals[node].reason}" for node in shown]
    more = len(refusals) - len(shown)
    return "no node can take it: " + "; ".join(lines) + (f"; and {more} more nodes refuse" if more else "")


def preview(state: ClusterState, fleet: Fleet, spec: ServiceSpec, copies: int) -> tuple[PlacementPreview, ...]:
    """Where `copies` more copies of `spec` would go now. Uses up `fleet`: `refresh` it afterwards."""
    counts: dict[NodeId, int] = {}
    chunks: list[tuple[int, Bounds | None]] = [(copies, None)]
    if spec.is_global:
        chunks = [(1, Bounds(frozenset({site.id}), "has its own copy")) for site in fleet.sites]
    elif writes_volume(spec):
        chunks = [(1, volume_bounds(state, spec, slot)) for slot in range(copies)]
    missing, reason = 0, ""
    for number, bounds in chunks:
        nodes = choose_nodes(spec, fleet, number, bounds)
        for node in nodes:
            counts[node] = counts.get(node, 0) + 1
        if len(nodes) < number and not spec.is_global:
            missing += number - len(nodes)
            reason = reason or why_not(spec, fleet, bounds).reason
    found = tuple(
        PlacementPreview(node=node, copies=number, node_name=fleet.sites[fleet.index[node]].facts.name)
        for node, number in sorted(counts.items())
    )
    if spec.is_global and not found and fleet.sites:
        missing, reason = 1, why_not(spec, fleet).reason
    return (*found, PlacementPreview(node=None, copies=missing, reason=reason)) if missing else found


__all__ = ["Plan", "Planner", "explain", "make_plan", "place", "preview", "why_not"]
