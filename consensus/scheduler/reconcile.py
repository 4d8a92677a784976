"""What one service lacks, has too much of, and should let go of."""

from collections.abc import Mapping

import msgspec

from consensus.state.cluster import ClusterState, ServiceRecord
from orca.model.allocation import TERMINAL_PHASES, Allocation, AllocationStatus, DesiredStatus, Phase
from orca.model.ids import AllocationId, display_name
from orca.model.spec import DependencyCondition, MountKind, ServiceSpec, UpdateOrder
from orca.model.units import WallMs
from orca.model.view import RolloutState

Statuses = Mapping[AllocationId, AllocationStatus]


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What should happen to one service now.

    `slots` want a copy each. `blocked` says why wanted copies are not placed although
    a node might take them. `wake_at_ms` is when time alone will change the answer.
    """

    slots: tuple[int, ...] = ()
    stops: tuple[AllocationId, ...] = ()
    forgets: tuple[AllocationId, ...] = ()
    healthy: int = 0
    is_settled: bool = False
    blocked: str = ""
    wake_at_ms: WallMs | None = None


class _Copies(msgspec.Struct, kw_only=True):
    """The copies of one service, sorted by what they are to its newest revision."""

    current: list[Allocation]
    outdated: list[Allocation]
    stopping: list[Allocation]


def effective_order(spec: ServiceSpec) -> UpdateOrder:
    """Start-first unless a new copy cannot run beside the old one."""
    publishes = any(port.host_port is not None for port in spec.ports)
    writes = any(mount.kind is MountKind.VOLUME and not mount.read_only for mount in spec.mounts)
    return UpdateOrder.STOP_FIRST if publishes or writes else spec.deploy.order


def is_healthy(status: AllocationStatus | None, spec: ServiceSpec, now_ms: WallMs) -> bool:
    """Whether a copy counts: ready for `min_healthy_time_s`, or ended well if it is a job."""
    if status is None:
        return False
    if status.phase is Phase.COMPLETED:
        return True
    if not status.is_ready or status.ready_since_ms is None:
        return False
    return now_ms - status.ready_since_ms >= spec.deploy.min_healthy_time_s * 1000


def was_ever_ready(status: AllocationStatus | None) -> bool:
    """Whether a copy has ever served."""
    return status is not None and (status.ready_since_ms is not None or status.phase is Phase.COMPLETED)


def reconcile(state: ClusterState, record: ServiceRecord, statuses: Statuses, now_ms: WallMs) -> Need:
    """What `record` needs, by the rules in the package docstring."""
    copies = _sort_copies(state, record)
    forgets = tuple(one.id for one in copies.stopping if _is_over(statuses.get(one.id)))
    wanted = record.replicas
    healthy = [one for one in copies.current if is_healthy(statuses.get(one.id), record.spec, now_ms)]
    surplus = _surplus(copies.current, wanted, statuses)
    kept = [one for one in copies.current if one not in surplus]
    outdated_stops = _outdated_stops(record, copies.outdated, len(healthy), statuses)
    slots, blocked = _missing(state, record, copies, kept, outdated_stops, statuses)
    return Need(
        slots=slots,
        stops=tuple(one.id for one in (*surplus, *outdated_stops)),
        forgets=forgets,
        healthy=len(healthy),
        is_settled=len(kept) == len(healthy) == wanted and not copies.outdated,
        blocked=blocked,
        wake_at_ms=_next_healthy_at(record, kept, statuses, now_ms),
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


def _sort_copies(state: ClusterState, record: ServiceRecord) -> _Copies:
    copies = _Copies(current=[], outdated=[], stopping=[])
    for one in state.allocations_of(record.id):
        if one.desired is DesiredStatus.STOPPED:
            copies.stopping.append(one)
        elif one.template == record.current.template:
            copies.current.append(one)
        else:
            copies.outdated.append(one)
    return copies


def _usefulness(one: Allocation, statuses: Statuses) -> tuple[bool, bool, int]:
    status = statuses.get(one.id)
    ready = status is not None and (status.is_ready or status.phase is Phase.COMPLETED)
    return (not ready, not was_ever_ready(status), one.slot)


def _surplus(current: list[Allocation], wanted: int, statuses: Statuses) -> list[Allocation]:
    """Copies above `wanted`: those that serve least go first, then the highest slots."""
    return sorted(current, key=lambda one: _usefulness(one, statuses))[wanted:]


def _outdated_stops(
    record: ServiceRecord, outdated: list[Allocation], healthy: int, statuses: Statuses
) -> list[Allocation]:
    if record.rollout.state is RolloutState.FAILED:
        return []
    useless = [one for one in outdated if not was_ever_ready(statuses.get(one.id))]
    serving = [one for one in outdated if one not in useless]
    if record.spec.is_job:
        return outdated
    unavailable = record.spec.deploy.max_unavailable
    if effective_order(record.spec) is UpdateOrder.STOP_FIRST:
        unavailable = max(1, unavailable)
    keep = max(0, record.replicas - unavailable - healthy)
    serving.sort(key=lambda one: _usefulness(one, statuses))
    return useless + serving[keep:]


def _missing(
    state: ClusterState,
    record: ServiceRecord,
    copies: _Copies,
    kept: list[Allocation],
    outdated_stops: list[Allocation],
    statuses: Statuses,
) -> tuple[tuple[int, ...], str]:
    """The slots that want a copy now, and why some wanted ones must wait."""
    wanted = record.replicas
    lacking = wanted - len(kept)
    if lacking <= 0:
        return (), ""
    spec = record.spec
    remaining = len(copies.outdated) - len(outdated_stops)
    stop_first = effective_order(spec) is UpdateOrder.STOP_FIRST
    if copies.outdated or stop_first:
        if record.rollout.state is RolloutState.FAILED and copies.outdated:
            return (), record.rollout.message
        leaving = [*copies.stopping, *outdated_stops] if stop_first else []
        occupied = len(kept) + remaining + len([one for one in leaving if not _is_over(statuses.get(one.id))])
        limit = wanted if stop_first else wanted + max(1, spec.deploy.max_surge)
        lacking = min(lacking, limit - occupied)
    if lacking <= 0:
        return (), ""
    waiting = _unmet_dependency(state, record, statuses)
    if waiting and not kept:
        return (), waiting
    taken = {one.slot for one in kept}
    free = (slot for slot in range(wanted + len(taken)) if slot not in taken)
    return tuple(slot for slot, _ in zip(free, range(lacking), strict=False)), ""


def _unmet_dependency(state: ClusterState, record: ServiceRecord, statuses: Statuses) -> str:
    for dependency in record.spec.depends_on:
        other = state.services.get(type(record.id)(f"{record.spec.project}/{dependency.service}"))
        if other is None:
            return f"waits for {dependency.service}, which does not exist"
        seen = [
            status
            for one in state.allocations_of(other.id)
            if one.template == other.current.template and (status := statuses.get(one.id)) is not None
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
            return f"waits for {display_name(other.id)} to be {dependency.condition.value}"
    return ""


def _next_healthy_at(
    record: ServiceRecord, kept: list[Allocation], statuses: Statuses, now_ms: WallMs
) -> WallMs | None:
    """When the next ready copy will have been ready for long enough."""
    needed_ms = int(record.spec.deploy.min_healthy_time_s * 1000)
    pending = [
        WallMs(status.ready_since_ms + needed_ms)
        for one in kept
        if (status := statuses.get(one.id)) is not None and status.is_ready and status.ready_since_ms is not None
    ]
    return min((at for at in pending if at > now_ms), default=None)
