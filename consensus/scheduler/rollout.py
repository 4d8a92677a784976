"""How the rollout of a service's newest revision is doing."""

from collections.abc import Mapping
from typing import Final

from consensus.scheduler.reconcile import Need, Statuses, was_ever_ready
from consensus.state.cluster import ClusterState, ServiceRecord
from consensus.state.commands import RolloutUpdate
from orca.model.allocation import AllocationStatus, DesiredStatus, Phase
from orca.model.ids import AllocationId, display_name
from orca.model.units import WallMs
from orca.model.view import RolloutState

HOPELESS_RESTARTS: Final = 5
"""A new copy that died so often without ever being ready ends the rollout: with
back-off 0, 1, 2, 4, 8 s that is 15 s, enough for a dependency to come up, and far
less than the deadline that somebody would otherwise wait for."""


def judge_rollout(
    state: ClusterState,
    record: ServiceRecord,
    need: Need,
    statuses: Mapping[AllocationId, AllocationStatus],
    now_ms: WallMs,
    blocked: str,
) -> tuple[RolloutUpdate | None, WallMs | None]:
    """What to record about the rollout now (None: nothing new), and when it will fail."""
    rollout = record.rollout
    if need.is_settled and not need.stops and not need.slots:
        if rollout.state is RolloutState.COMPLETED:
            return None, None
        return _update(record, RolloutState.COMPLETED, need.healthy, rollout.deadline_at_ms, ""), None
    if rollout.state is not RolloutState.PROGRESSING:
        return None, None
    verdict = _hopeless(state, record, statuses)
    if verdict:
        return _update(record, RolloutState.FAILED, need.healthy, rollout.deadline_at_ms, verdict), None
    extension = WallMs(now_ms + int(record.spec.deploy.deadline_s * 1000))
    if need.healthy > rollout.healthy:
        update = _update(record, RolloutState.PROGRESSING, need.healthy, extension, "")
        return update, extension
    if now_ms < rollout.deadline_at_ms:
        return None, rollout.deadline_at_ms
    if _is_preparing(state, record, statuses):
        # A pull on a slow link has its own deadline and says how far it is.
        return _update(record, RolloutState.PROGRESSING, rollout.healthy, extension, ""), extension
    message = blocked or _laggards(state, record, statuses)
    return _update(record, RolloutState.FAILED, need.healthy, rollout.deadline_at_ms, message), None


def _update(
    record: ServiceRecord, to: RolloutState, healthy: int, deadline_at_ms: WallMs, message: str
) -> RolloutUpdate:
    return RolloutUpdate(
        service=record.id,
        revision=record.current.revision,
        state=to,
        healthy=max(healthy, record.rollout.healthy),
        deadline_at_ms=deadline_at_ms,
        message=message,
    )


def _new_copies(
    state: ClusterState, record: ServiceRecord, statuses: Statuses
) -> list[tuple[str, AllocationStatus | None]]:
    """Each copy of the newest revision as people call it, with what is known of it."""
    name = display_name(record.id)
    return [
        (f"{name}.{one.slot + 1}", statuses.get(one.id))
        for one in state.allocations_of(record.id)
        if one.template == record.current.template and one.desired is DesiredStatus.RUNNING
    ]


def _hopeless(state: ClusterState, record: ServiceRecord, statuses: Statuses) -> str:
    for name, status in _new_copies(state, record, statuses):
        if status is None or was_ever_ready(status):
            continue
        if status.phase is Phase.FAILED:
            return f"{name} failed: {status.reason}"
        if status.phase is Phase.BACKOFF and status.restarts >= HOPELESS_RESTARTS:
            return f"{name} does not stay up: {status.reason}"
    return ""


def _is_preparing(state: ClusterState, record: ServiceRecord, statuses: Statuses) -> bool:
    return any(
        status is not None and status.phase is Phase.PREPARING for _, status in _new_copies(state, record, statuses)
    )


def _laggards(state: ClusterState, record: ServiceRecord, statuses: Statuses) -> str:
    waiting = [
        f"{name} is {'not known to its node' if status is None else status.phase.value}"
        + (f" ({status.reason})" if status is not None and status.reason else "")
        for name, status in _new_copies(state, record, statuses)
        if status is None or not (status.is_ready or status.phase is Phase.COMPLETED)
    ]
    return "not healthy in time: " + ("; ".join(waiting) or "no copy could be placed")
