"""What one service lacks, has too much of, and should let go of."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from consensus.state.cluster import ClusterState, ServiceRecord
from orca.model.allocation import TERMINAL_PHASES, Allocation, AllocationStatus, DesiredStatus, Phase
from orca.model.ids import AllocationId, ServiceId, display_name
from orca.model.spec import DependencyCondition, MountKind, RestartPolicy, ServiceSpec, UpdateOrder
from orca.model.units import WallMs
from orca.model.view import RolloutState

Statuses = Mapping[AllocationId, AllocationStatus]

UNPROBED_HEALTHY_S: Final = 1.0
"""A copy that nobody asks how it is counts as ready the moment it runs. What exits at once (a
wrong command, a missing variable) does so well within a second, and its rollout must
not have been called a success by then."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """Intent and beliefs at one moment, with the copies of each service by slot.

    `leads_since_ms` is when the one who asks became leader: before, nobody looked.
    """

    state: ClusterState
    statuses: Statuses
    now_ms: WallMs
    leads_since_ms: WallMs
    copies: dict[ServiceId, list[Allocation]]


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What should happen to one service now.

    `slots` want a copy each. `blocked` says why wanted copies are not placed although
    a node might take them; `awaits` is the service that it waits for, if it is that.
    `matures_at_ms` is when the next ready copy will have been ready for long enough.
    """

    slots: tuple[int, ...] = ()
    stops: tuple[AllocationId, ...] = ()
    forgets: tuple[AllocationId, ...] = ()
    healthy: int = 0
    is_settled: bool = False
    blocked: str = ""
    awaits: ServiceId | None = None
    matures_at_ms: WallMs | None = None


class _Copies(msgspec.Struct, kw_only=True):
    """The copies of one service, sorted by what they are to its newest revision.

    `spent` ones ended for good as a job and belong to what is a service now.
    """

    current: list[Allocation]
    spent: list[Allocation]
    outdated: list[Allocation]
    stopping: list[Allocation]


class _Wait(msgspec.Struct, frozen=True):
    """A dependency that is not met: which one, and in words."""

    service: ServiceId
    reason: str


def look(state: ClusterState, statuses: Statuses, now_ms: WallMs, leads_since_ms: WallMs = WallMs(0)) -> Situation:
    """The situation of this moment; one pass over all copies."""
    copies: dict[ServiceId, list[Allocation]] = {}
    for one in state.allocations.values():
        copies.setdefault(one.service, []).append(one)
    for found in copies.values():
        found.sort(key=lambda one: (one.slot, one.revision, one.id))
    return Situation(state=state, statuses=statuses, now_ms=now_ms, leads_since_ms=leads_since_ms, copies=copies)


def effective_order(spec: ServiceSpec) -> UpdateOrder:
    """Start-first unless a new copy cannot run beside the old one."""
    publishes = any(port.host_port is not None for port in spec.ports)
    writes = any(mount.kind is MountKind.VOLUME and not mount.read_only for mount in spec.mounts)
    return UpdateOrder.STOP_FIRST if publishes or writes else spec.deploy.order


def healthy_after_ms(spec: ServiceSpec) -> int:
    """For how long a copy must have been ready to count."""
    is_unprobed = spec.startup is None and spec.readiness is None
    seconds = max(spec.deploy.min_healthy_time_s, UNPROBED_HEALTHY_S if is_unprobed else 0.0)
    return math.ceil(seconds * 1000)


def counts_by_its_end(spec: ServiceSpec) -> bool:
    """Whether a copy is well only once it has ended well: a job that serves nobody meanwhile."""
    serves = bool(spec.ports) or spec.readiness is not None
    return spec.restart.policy is RestartPolicy.NEVER and not serves


def is_healthy(status: AllocationStatus | None, spec: ServiceSpec, now_ms: WallMs) -> bool:
    """Whether a copy counts: ready for long enough, or ended well if it is a job."""
    if status is None:
        return False
    if status.phase is Phase.COMPLETED:
        return spec.is_job
    if counts_by_its_end(spec) or not status.is_ready or status.ready_since_ms is None:
        return False
    return now_ms - status.ready_since_ms >= healthy_after_ms(spec)


def was_ever_ready(status: AllocationStatus | None) -> bool:
    """Whether a copy is known to have served."""
    return status is not None and (status.ready_since_ms is not None or status.phase is Phase.COMPLETED)


def never_served(status: AllocationStatus | None) -> bool:
    """Whether a copy certainly has served nobody.

    Not so while its node says nothing of it or has not looked yet (`pending`): after a
    restart that is what the copies look like that serve everybody.
    """
    return status is not None and status.phase is not Phase.PENDING and not was_ever_ready(status)


def reconcile(situation: Situation, record: ServiceRecord) -> Need:
    """What `record` needs, by the rules in the package docstring."""
    statuses, now_ms = situation.statuses, situation.now_ms
    copies = _sort_copies(situation, record)
    forgets = tuple(one.id for one in copies.stopping if _is_over(statuses.get(one.id)))
    wanted = record.replicas
    by_use = sorted(copies.current, key=lambda one: _usefulness(one, record.spec, situation))
    kept, surplus = by_use[:wanted], by_use[wanted:]
    healthy = sum(is_healthy(statuses.get(one.id), record.spec, now_ms) for one in kept)
    wait = _unmet_dependency(situation, record) if not kept and wanted else None
    outdated_stops = _outdated_stops(situation, record, copies.outdated, healthy, is_waiting=wait is not None)
    slots, blocked = _missing(situation, record, copies, kept, outdated_stops)
    if slots and wait is not None:
        slots, blocked = (), wait.reason
    return Need(
        slots=slots,
        stops=tuple(one.id for one in (*copies.spent, *surplus, *outdated_stops)),
        forgets=forgets,
        healthy=healthy,
        is_settled=len(kept) == healthy == wanted and not copies.outdated,
        blocked=blocked,
        awaits=wait.service if wait is not None else None,
        matures_at_ms=_matures_at(situation, record, kept),
    )


def leftovers(state: ClusterState, statuses: Statuses) -> tuple[AllocationId, ...]:
    """Copies of removed services that their nodes report as ended."""
    return tuple(
        one.id
        for one in state.allocations.values()
        if one.service not in state.services and _is_over(statuses.get(one.id))
    )


def _is_over(status: AllocationStatus | None) -> bool:
    return status is not None and status.phase in TERMINAL_PHASES


def _sort_copies(situation: Situation, record: ServiceRecord) -> _Copies:
    copies = _Copies(current=[], spent=[], outdated=[], stopping=[])
    for one in situation.copies.get(record.id, ()):
        if one.desired is DesiredStatus.STOPPED:
            copies.stopping.append(one)
        elif one.template != record.current.template:
            copies.outdated.append(one)
        elif not record.spec.is_job and _is_over(situation.statuses.get(one.id)):
            copies.spent.append(one)
        else:
            copies.current.append(one)
    return copies


def _usefulness(one: Allocation, spec: ServiceSpec, situation: Situation) -> tuple[bool, bool, bool, int]:
    """Sorts those that serve most to the front, then the lowest slots."""
    status = situation.statuses.get(one.id)
    ready = status is not None and (status.is_ready or status.phase is Phase.COMPLETED)
    return (not is_healthy(status, spec, situation.now_ms), not ready, not was_ever_ready(status), one.slot)


def _outdated_stops(
    situation: Situation, record: ServiceRecord, outdated: list[Allocation], healthy: int, *, is_waiting: bool
) -> list[Allocation]:
    """Copies of older revisions that may go now; those that serve least go first."""
    if record.rollout.state is RolloutState.FAILED:
        return []
    if record.spec.is_job and not is_waiting:
        return outdated
    useless = [one for one in outdated if never_served(situation.statuses.get(one.id))]
    serving = [one for one in outdated if one not in useless]
    unavailable = record.spec.deploy.max_unavailable
    if effective_order(record.spec) is UpdateOrder.STOP_FIRST:
        unavailable = max(1, unavailable)
    if is_waiting:
        # No new copy may start yet: stopping an old one would only take it away.
        unavailable = 0
    keep = max(0, record.replicas - unavailable - healthy)
    serving.sort(key=lambda one: _usefulness(one, record.spec, situation))
    return useless + serving[keep:]


def _missing(
    situation: Situation,
    record: ServiceRecord,
    copies: _Copies,
    kept: list[Allocation],
    outdated_stops: list[Allocation],
) -> tuple[tuple[int, ...], str]:
    """The slots that want a copy now, and why some wanted ones must wait."""
    wanted = record.replicas
    lacking = wanted - len(kept)
    if lacking <= 0:
        return (), ""
    if record.rollout.state is RolloutState.FAILED and copies.outdated:
        return (), record.rollout.message
    stop_first = effective_order(record.spec) is UpdateOrder.STOP_FIRST
    if copies.outdated or stop_first:
        leaving = [*copies.stopping, *outdated_stops] if stop_first else []
        still_there = sum(not _is_over(situation.statuses.get(one.id)) for one in leaving)
        occupied = len(kept) + len(copies.outdated) - len(outdated_stops) + still_there
        limit = wanted if stop_first else wanted + _surge(record.spec)
        lacking = min(lacking, limit - occupied)
    taken = {one.slot for one in kept}
    free = (slot for slot in range(wanted + len(taken)) if slot not in taken)
    return tuple(slot for slot, _ in zip(free, range(max(0, lacking)), strict=False)), ""


def _surge(spec: ServiceSpec) -> int:
    """How many copies may exist above the wanted number; with no way to move at all, one."""
    return spec.deploy.max_surge if spec.deploy.max_surge or spec.deploy.max_unavailable else 1


def _unmet_dependency(situation: Situation, record: ServiceRecord) -> _Wait | None:
    for dependency in record.spec.depends_on:
        needed = type(record.id)(f"{record.spec.project}/{dependency.service}")
        other = situation.state.services.get(needed)
        if other is None:
            return _Wait(needed, f"waits for {dependency.service}, which does not exist")
        seen = [
            status
            for one in situation.copies.get(needed, ())
            if one.template == other.current.template
            and one.desired is DesiredStatus.RUNNING
            and (status := situation.statuses.get(one.id)) is not None
        ]
        started = [one for one in seen if one.phase in {Phase.RUNNING, Phase.COMPLETED}]
        ready = [one for one in seen if one.is_ready or one.phase is Phase.COMPLETED]
        completed = [one for one in seen if one.phase is Phase.COMPLETED]
        met = {
            DependencyCondition.STARTED: bool(started),
            DependencyCondition.HEALTHY: bool(ready) and len(ready) >= other.replicas,
            DependencyCondition.COMPLETED: bool(completed) and len(completed) >= other.replicas,
        }
        if not met[dependency.condition]:
            return _Wait(needed, f"waits for {display_name(needed)} to be {dependency.condition.value}")
    return None


def _matures_at(situation: Situation, record: ServiceRecord, kept: list[Allocation]) -> WallMs | None:
    """When the next ready copy will have been ready for long enough."""
    if counts_by_its_end(record.spec):
        return None
    needed_ms = healthy_after_ms(record.spec)
    pending = [
        WallMs(status.ready_since_ms + needed_ms)
        for one in kept
        if (status := situation.statuses.get(one.id)) is not None
        and status.is_ready
        and status.ready_since_ms is not None
    ]
    return min((at for at in pending if at > situation.now_ms), default=None)
