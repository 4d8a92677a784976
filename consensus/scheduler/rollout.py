"""How the rollout of a service's newest revision is doing."""

from typing import Final

import msgspec

from consensus.scheduler.feasible import Obstacle
from consensus.scheduler.reconcile import Need, Situation, counts_by_its_end, healthy_after_ms
from consensus.scheduler.stages import copies_wanted, describe, promotes_at_ms
from consensus.state.cluster import ServiceRecord
from consensus.state.commands import RolloutUpdate
from orca.model.allocation import AllocationStatus, DesiredStatus, Phase
from orca.model.ids import display_name
from orca.model.spec import ServiceSpec
from orca.model.units import WallMs
from orca.model.view import RolloutState

HOPELESS_RESTARTS: Final = 5
"""A new copy that died so often without ever being well ends the rollout: with
back-off 0, 1, 2, 4, 8 s that is 15 s, enough for a dependency to come up, and far
less than the deadline that somebody would otherwise wait for."""

_EXTENSION_MS_MIN: Final = 1000
"""So that no deadline, however short, makes the leader write one update after another."""


def judge_rollout(
    situation: Situation, record: ServiceRecord, need: Need, obstacle: Obstacle
) -> tuple[RolloutUpdate | None, WallMs | None]:
    """What to record about the rollout now (None: nothing new), and when it will fail."""
    rollout = record.rollout
    if need.is_settled and not need.stops and not need.slots:
        if rollout.state is RolloutState.COMPLETED:
            return None, None
        return _update(record, RolloutState.COMPLETED, need.healthy, rollout.deadline_at_ms, ""), None
    verdict = "" if rollout.state is RolloutState.FAILED else _hopeless(situation, record)
    # A job that ran when its rollout was called complete may fail later, and nothing heals it.
    may_fail = rollout.state in {RolloutState.PROGRESSING, RolloutState.AWAITING} or record.spec.is_job
    if verdict and may_fail:
        return _update(record, RolloutState.FAILED, need.healthy, rollout.deadline_at_ms, verdict), None
    if rollout.state is RolloutState.AWAITING:
        return _judge_wait(situation, record, need)
    if rollout.state is not RolloutState.PROGRESSING:
        return None, None
    if need.is_awaiting:
        return _update(record, RolloutState.AWAITING, need.healthy, rollout.deadline_at_ms, describe(record)), None
    if rollout.is_paused:
        return None, None
    return _judge_progress(situation, record, need, obstacle)


def patience_ms(record: ServiceRecord) -> int:
    """How long a copy may take to become healthy."""
    return max(_EXTENSION_MS_MIN, int(record.spec.deploy.deadline_s * 1000))


def _judge_wait(situation: Situation, record: ServiceRecord, need: Need) -> tuple[RolloutUpdate | None, WallMs | None]:
    """What is healthy is promoted when its time has come, unless somebody paused it or it is not well just then.

    What is no longer healthy has as long as a new copy has to become so, and the time to its promotion begins anew:
    else it would take requests for ever, or be promoted, that nobody would let in now.
    """
    if record.rollout.is_paused:
        return None, None
    if need.healthy < copies_wanted(record):
        deadline_at_ms = WallMs(situation.now_ms + patience_ms(record))
        return _update(record, RolloutState.PROGRESSING, need.healthy, deadline_at_ms, ""), deadline_at_ms
    at_ms = promotes_at_ms(record)
    if at_ms is None:
        return None, None
    if situation.now_ms < at_ms:
        return None, at_ms
    if not need.is_awaiting:
        return None, None
    update = _update(record, RolloutState.PROGRESSING, need.healthy, record.rollout.deadline_at_ms, "")
    return msgspec.structs.replace(update, promotes=True), None


def _judge_progress(
    situation: Situation, record: ServiceRecord, need: Need, obstacle: Obstacle
) -> tuple[RolloutUpdate | None, WallMs | None]:
    rollout, now_ms = record.rollout, situation.now_ms
    extension = WallMs(now_ms + patience_ms(record))
    if need.healthy > rollout.healthy:
        return _update(record, RolloutState.PROGRESSING, need.healthy, extension, ""), extension
    # Time in which nobody decided anything (a restart, an election) is not held against it.
    deadline_at_ms = max(rollout.deadline_at_ms, WallMs(situation.leads_since_ms + patience_ms(record)))
    if obstacle.patience_ms is not None and not _new_copies(situation, record):
        # Nothing came of it since it began, so that is how long it has waited.
        begun_at_ms = max(rollout.started_at_ms, situation.leads_since_ms)
        deadline_at_ms = min(deadline_at_ms, WallMs(begun_at_ms + obstacle.patience_ms))
    if now_ms < deadline_at_ms:
        return None, deadline_at_ms
    if _is_busy(situation, record) or _may_still_be_met(situation, need):
        return _update(record, RolloutState.PROGRESSING, rollout.healthy, extension, ""), extension
    if need.matures_at_ms is not None:
        # It is ready and only has to stay so.
        return _update(record, RolloutState.PROGRESSING, rollout.healthy, need.matures_at_ms, ""), need.matures_at_ms
    message = obstacle.reason or _laggards(situation, record)
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


def _new_copies(situation: Situation, record: ServiceRecord) -> list[tuple[str, AllocationStatus | None]]:
    """Each copy of the newest revision as people call it, with what is known of it."""
    name = display_name(record.id)
    return [
        (f"{name}.{one.slot + 1}", situation.statuses.get(one.id))
        for one in situation.copies.get(record.id, ())
        if one.template == record.current.template and one.desired is DesiredStatus.RUNNING
    ]


def _hopeless(situation: Situation, record: ServiceRecord) -> str:
    for name, status in _new_copies(situation, record):
        if status is None:
            continue
        if status.phase is Phase.FAILED:
            return f"{name} failed: {status.reason}"
        if _never_stays_up(status, record.spec):
            return f"{name} does not stay up: {status.reason}"
    return ""


def _never_stays_up(status: AllocationStatus, spec: ServiceSpec) -> bool:
    """Whether a copy died often, and its last run was over before it counted."""
    if status.phase is not Phase.BACKOFF or status.restarts < HOPELESS_RESTARTS:
        return False
    return status.ready_since_ms is None or status.since_ms - status.ready_since_ms < healthy_after_ms(spec)


def _is_busy(situation: Situation, record: ServiceRecord) -> bool:
    """Whether a copy does what takes as long as it takes.

    A pull on a slow link has its own deadline and says how far it is; a job that counts by
    its end may run for hours.
    """
    busy = {Phase.PREPARING, Phase.RUNNING} if counts_by_its_end(record.spec) else {Phase.PREPARING}
    return any(status is not None and status.phase in busy for _, status in _new_copies(situation, record))


def _may_still_be_met(situation: Situation, need: Need) -> bool:
    """Whether the dependency that the service waits for is itself still on its way."""
    other = situation.state.services.get(need.awaits) if need.awaits is not None else None
    return other is not None and not other.is_stopped and other.rollout.state is RolloutState.PROGRESSING


def _laggards(situation: Situation, record: ServiceRecord) -> str:
    waiting = [
        f"{name} is {'not known to its node' if status is None else status.phase.value}"
        + (f" ({status.reason})" if status is not None and status.reason else "")
        for name, status in _new_copies(situation, record)
        if status is None or not (status.is_ready or status.phase is Phase.COMPLETED)
    ]
    return "not healthy in time: " + ("; ".join(waiting) or "no copy could be placed")
