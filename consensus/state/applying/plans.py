"""Carry out the scheduler's decisions, or find that they are void."""

import msgspec

from consensus.state.applying.results import NOTHING, Done, Refusal, touch_plans
from consensus.state.applying.services import go_back, promote
from consensus.state.applying.volumes import settle_volumes
from consensus.state.cluster import ClusterState
from consensus.state.commands import CommitPlan, RolloutUpdate
from consensus.state.records import RemovedSpec
from orca.model.allocation import DesiredStatus
from orca.model.ids import StateRevision
from orca.model.units import WallMs
from orca.model.view import RolloutState


def apply_plan(state: ClusterState, at: StateRevision, plan: CommitPlan) -> Done:
    """Carry out a plan as a whole; refuse one that was made for another state or contradicts it."""
    _check(state, plan)
    for placement in plan.placements:
        state.allocations[placement.id] = placement
        settle_volumes(state, placement)
    for allocation in plan.stops:
        one = state.allocations[allocation]
        state.allocations[allocation] = msgspec.structs.replace(one, desired=DesiredStatus.STOPPED)
    for allocation in dict.fromkeys(plan.forgets):
        del state.allocations[allocation]
    for update in plan.rollouts:
        _update_rollout(state, update, plan.at_ms)
    forget_removed(state)
    touch_plans(state, at)
    return NOTHING


def _check(state: ClusterState, plan: CommitPlan) -> None:
    if not state.plan_revision <= plan.base <= state.revision:
        raise Refusal(
            "conflict",
            f"the plan is based on revision {plan.base}; what it was made from changed at {state.plan_revision}, "
            f"and the state is at {state.revision}",
        )
    if len({placement.id for placement in plan.placements}) != len(plan.placements):
        raise Refusal("conflict", "the plan places two copies under one id")
    for placement in plan.placements:
        record = state.services.get(placement.service)
        revision = None if record is None else record.find(placement.revision)
        if revision is None or revision.template != placement.template or placement.id in state.allocations:
            raise Refusal("conflict", f"the plan places {placement.id} of {placement.service}, which does not fit")
        if placement.node in state.revoked:
            raise Refusal("conflict", f"the plan places {placement.id} on {placement.node}, which was removed")
    for allocation in (*plan.stops, *plan.forgets):
        if allocation not in state.allocations:
            raise Refusal("conflict", f"the plan ends {allocation}, which does not exist")


def _update_rollout(state: ClusterState, update: RolloutUpdate, at_ms: WallMs) -> None:
    record = state.services.get(update.service)
    if record is None or record.current.revision != update.revision:
        return
    if update.promotes:
        promote(state, record, at_ms)
        return
    is_complete = update.state is RolloutState.COMPLETED
    rollout = msgspec.structs.replace(
        record.rollout,
        state=update.state,
        healthy=update.healthy,
        deadline_at_ms=update.deadline_at_ms,
        message=update.message or (record.rollout.message if record.rollout.is_way_back else ""),
        ended_at_ms=None if update.state is RolloutState.PROGRESSING else at_ms,
        is_paused=record.rollout.is_paused and not is_complete,
    )
    state.services[record.id] = msgspec.structs.replace(record, rollout=rollout)
    if update.state is RolloutState.FAILED:
        go_back(state, state.services[record.id], update.message, at_ms)


def forget_removed(state: ClusterState) -> None:
    """Drop what no copy needs any more of removed services."""
    if not state.removed:
        return
    for service, removed in list(state.removed.items()):
        used = {one.revision for one in state.copies.of_service(service).values()}
        record = state.services.get(service)
        # The newest says from where a service of the same name would count on.
        last = removed.revisions[-1] if record is None else None
        kept = tuple(one for one in removed.revisions if one.revision in used or one is last)
        if used and kept:
            state.removed[service] = RemovedSpec(service=service, revisions=kept)
        else:
            del state.removed[service]
