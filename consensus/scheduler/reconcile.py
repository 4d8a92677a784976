"""What one service lacks, has too much of, and should let go of."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.fleet import Fleet, fleet_of
from consensus.scheduler.stages import Stage, copies_wanted, keeps_old_until_ms, stage_of
from consensus.scheduler.whereabouts import HeardStatuses, Standing, Whereabouts, away_nodes
from consensus.state.cluster import ClusterState, ServiceRecord
from consensus.state.records import RevisionRecord, volume_ids
from orca.model.allocation import TERMINAL_PHASES, Allocation, AllocationStatus, DesiredStatus, Phase
from orca.model.ids import AllocationId, NodeId, ServiceId, display_name, singleton_lease
from orca.model.spec import DependencyCondition, MountKind, RestartPolicy, ServiceSpec, UpdateOrder
from orca.model.units import WallMs
from orca.model.view import RolloutState


class Statuses(Protocol):
    """What is known of copies."""

    def get(self, name: AllocationId, /) -> AllocationStatus | None:
        """The newest status; None when nothing is known."""
        ...


UNPROBED_HEALTHY_S: Final = 1.0
"""A copy that nobody asks how it is counts as ready the moment it runs. What exits at once (a
wrong command, a missing variable) does so well within a second, and its rollout must
not have been called a success by then."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """Intent and beliefs at one moment, with the copies of each service by slot.

    `leads_since_ms` is when the one who asks became leader: before, nobody looked. `may_go`: whether another node
    could take a copy that has to stop before its successor starts.
    """

    state: ClusterState
    statuses: Statuses
    now_ms: WallMs
    leads_since_ms: WallMs
    places: Whereabouts
    may_go: Callable[[ServiceRecord, Allocation], bool] = lambda _record, _copy: True
    copies: Mapping[ServiceId, list[Allocation]]


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What should happen to one service now.

    `slots` want a copy each. `blocked` says why wanted copies are not placed although
    a node might take them; `awaits` is the service that it waits for, if it is that.
    `matures_at_ms` is when the next ready copy will have been ready for long enough, `changes_at_ms` when a
    copy will be lost or ousted. `pinned`: slots that belong on a certain node. `is_moving`: copies are to
    leave their nodes. `base_slots` want a copy of `base`, the revision that the newest one stands beside.
    `is_awaiting`: the copies that stand beside it are healthy, and that is all for now.
    """

    slots: tuple[int, ...] = ()
    base: RevisionRecord | None = None
    base_slots: tuple[int, ...] = ()
    is_awaiting: bool = False
    stops: tuple[AllocationId, ...] = ()
    forgets: tuple[AllocationId, ...] = ()
    healthy: int = 0
    is_settled: bool = False
    blocked: str = ""
    awaits: ServiceId | None = None
    matures_at_ms: WallMs | None = None
    changes_at_ms: WallMs | None = None
    pinned: dict[int, NodeId] = {}
    is_moving: bool = False


class _Copies(msgspec.Struct, kw_only=True):
    """The copies of one service, sorted by what they are to its newest revision.

    `spent` ones ended for good as a job and belong to what is a service now, or may not stay where they are.
    `outdated` ones are of an older revision, or leave their node. Those that are lost are in none of these.
    """

    current: list[Allocation]
    spent: list[Allocation]
    outdated: list[Allocation]
    stopping: list[Allocation]
    movers: set[AllocationId]
    is_moving: bool = False


class _Wait(msgspec.Struct, frozen=True):
    """A dependency that is not met: which one, and in words."""

    service: ServiceId
    reason: str


class _Sorted(dict[ServiceId, list[Allocation]]):
    """The copies of each service by slot, sorted out when somebody asks for them."""

    def __init__(self, state: ClusterState) -> None:
        super().__init__()
        self._state = state

    def get(self, key: ServiceId, default: Any = None) -> Any:
        """Also of a service without copies."""
        return self[key]

    def __missing__(self, service: ServiceId) -> list[Allocation]:
        found = self[service] = self._state.allocations_of(service)
        return found


def look(
    state: ClusterState,
    beliefs: Beliefs,
    now_ms: WallMs,
    leads_since_ms: WallMs = WallMs(0),
    fleet: Fleet | None = None,
    may_go: Callable[[ServiceRecord, Allocation], bool] = lambda _record, _copy: True,
) -> Situation:
    """The situation of this moment."""
    away = away_nodes(state, beliefs, leads_since_ms)
    return Situation(
        state=state,
        statuses=HeardStatuses(beliefs.statuses, away) if away else beliefs.statuses,
        now_ms=now_ms,
        leads_since_ms=leads_since_ms,
        places=Whereabouts(now_ms=now_ms, fleet=fleet or fleet_of(state, beliefs), away=away),
        may_go=may_go,
        copies=_Sorted(state),
    )


def effective_order(spec: ServiceSpec) -> UpdateOrder:
    """Start-first unless a new copy cannot run beside the old one."""
    publishes = any(port.host_port is not None for port in spec.ports)
    writes = any(mount.kind is MountKind.VOLUME and not mount.read_only for mount in spec.mounts)
    is_alone = publishes or writes or spec.singleton is not None
    return UpdateOrder.STOP_FIRST if is_alone else spec.deploy.order


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


def is_ready(status: AllocationStatus | None) -> bool:
    """Whether a copy is known to take requests."""
    return status is not None and status.is_ready


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
    wanted = copies_wanted(record)
    kept, surplus = _most_useful(situation, record, copies.current, wanted)
    healthy = sum(is_healthy(statuses.get(one.id), record.spec, now_ms) for one in kept)
    wait = _unmet_dependency(situation, record) if not kept and wanted else None
    stage = stage_of(record, copies.outdated, frozenset(copies.movers), lambda one: _is_over(statuses.get(one.id)))
    if stage is not None:
        return _staged_need(situation, record, copies, stage, kept, surplus, wait)
    keeps_old = _keeps_old(situation, record)
    outdated_stops: list[Allocation] = []
    if not keeps_old:
        outdated_stops = _outdated_stops(situation, record, copies, healthy, is_waiting=wait is not None)
    slots, blocked = _missing(situation, record, copies, kept, outdated_stops)
    if slots and wait is not None:
        slots, blocked = (), wait.reason
    return Need(
        slots=slots,
        stops=tuple(one.id for one in (*copies.spent, *surplus, *outdated_stops)),
        forgets=forgets,
        healthy=healthy,
        is_settled=len(kept) == healthy == wanted and (keeps_old or not copies.outdated),
        blocked=blocked,
        awaits=wait.service if wait is not None else None,
        matures_at_ms=matures_at(situation, record, kept),
        changes_at_ms=_earliest(next_change(situation, record), _old_kept_until(situation, record)),
        is_moving=copies.is_moving,
    )


def _staged_need(
    situation: Situation,
    record: ServiceRecord,
    copies: _Copies,
    stage: Stage,
    kept: list[Allocation],
    surplus: list[Allocation],
    wait: _Wait | None,
) -> Need:
    """The new revision gets its few copies, or all; the one that serves is kept whole, whatever becomes of the new."""
    statuses, now_ms = situation.statuses, situation.now_ms
    wanted = copies_wanted(record)
    well = {one.id for one in kept if is_healthy(statuses.get(one.id), record.spec, now_ms)}
    base = sorted(stage.staying, key=lambda one: _usefulness(one, stage.base.spec, situation))
    serving = sum(is_healthy(statuses.get(one.id), stage.base.spec, now_ms) for one in base[: record.replicas])
    stays = max(0, record.replicas - serving)
    useful = [one for one in stage.others if not _is_useless(statuses.get(one.id))]
    useful.sort(key=lambda one: _usefulness(one, stage.base.spec, situation))
    useless = [one for one in stage.others if _is_useless(statuses.get(one.id))]
    stops = [*copies.spent, *surplus, *useless, *useful[stays:], *base[record.replicas :]]
    # What still serves in place of the base counts towards what may run at once.
    room = record.replicas + max(1, record.spec.deploy.max_surge) - len(stage.staying) - len(useful[:stays])
    missing = stage.free_slots(record.replicas)[: max(0, room)]
    is_frozen = record.rollout.is_paused or record.rollout.state is RolloutState.FAILED
    taken = {one.slot for one in kept}
    slots = tuple(slot for slot in range(wanted + len(taken)) if slot not in taken)[: wanted - len(kept)]
    return Need(
        slots=() if is_frozen or wait is not None or useful[:stays] else slots,
        base=stage.base,
        base_slots=missing,
        stops=tuple(one.id for one in stops),
        forgets=tuple(one.id for one in copies.stopping if _is_over(statuses.get(one.id))),
        healthy=len(well),
        is_awaiting=len(kept) == len(well) == wanted,
        blocked="" if wait is None else wait.reason,
        awaits=None if wait is None else wait.service,
        matures_at_ms=_earliest(
            matures_at(situation, record, kept), matures_at(situation, record, stage.staying, stage.base.spec)
        ),
        changes_at_ms=next_change(situation, record),
        is_moving=copies.is_moving,
    )


def _keeps_old(situation: Situation, record: ServiceRecord) -> bool:
    until_ms = keeps_old_until_ms(record)
    return until_ms is not None and situation.now_ms < until_ms and record.base is not None


def _old_kept_until(situation: Situation, record: ServiceRecord) -> WallMs | None:
    return keeps_old_until_ms(record) if _keeps_old(situation, record) else None


def _earliest(*times: WallMs | None) -> WallMs | None:
    return min((at for at in times if at is not None), default=None)


def next_change(situation: Situation, record: ServiceRecord) -> WallMs | None:
    """When time alone loses or ousts a copy."""
    places = situation.places
    if not places.away and not places.fleet.is_draining:
        return None
    return min(places.wakes(record, iter(situation.copies.get(record.id, ()))), default=None)


def leftovers(state: ClusterState, statuses: Statuses) -> tuple[AllocationId, ...]:
    """Copies of removed services that their nodes report as ended."""
    gone = [service for service in state.copies.services() if service not in state.services]
    return tuple(
        one.id
        for service in sorted(gone)
        for one in state.copies.of_service(service).values()
        if _is_over(statuses.get(one.id))
    )


def _is_over(status: AllocationStatus | None) -> bool:
    return status is not None and status.phase in TERMINAL_PHASES


def _is_useless(status: AllocationStatus | None) -> bool:
    return _is_over(status) or never_served(status)


def _sort_copies(situation: Situation, record: ServiceRecord) -> _Copies:
    copies = _Copies(current=[], spent=[], outdated=[], stopping=[], movers=set())
    places, stop_first = situation.places, effective_order(record.spec) is UpdateOrder.STOP_FIRST
    is_calm, standing = places.is_calm(record), Standing.THERE
    for one in situation.copies.get(record.id, ()):
        if not is_calm:
            standing = places.standing(
                record,
                one,
                may_go=lambda one=one: not stop_first or situation.may_go(record, one),  # type: ignore[misc] # bound now
            )
            copies.is_moving |= standing is not Standing.THERE or bool(places.complaint(record, one))
        if one.desired is DesiredStatus.STOPPED:
            if standing is not Standing.LOST or _is_over(situation.statuses.get(one.id)):
                copies.stopping.append(one)
        elif standing is Standing.LOST and not _is_over(situation.statuses.get(one.id)):
            continue
        elif standing is Standing.OUSTED:
            copies.spent.append(one)
        elif standing is Standing.LEAVING or one.template != record.current.template:
            copies.outdated.append(one)
            if standing is Standing.LEAVING:
                copies.movers.add(one.id)
        elif not record.spec.is_job and _is_over(situation.statuses.get(one.id)):
            copies.spent.append(one)
        else:
            copies.current.append(one)
    return copies


def _most_useful(
    situation: Situation, record: ServiceRecord, current: list[Allocation], wanted: int
) -> tuple[list[Allocation], list[Allocation]]:
    """Up to `wanted` copies to keep, no two in one slot, and the others, which may go.

    Of two in one slot the second goes on, too, as long as it serves in place of one that is missing or not healthy in
    another slot: a node that comes back must not cost a copy that works because yet another one is lost.
    """
    by_use = sorted(current, key=lambda one: _usefulness(one, record.spec, situation))
    kept: dict[int, Allocation] = {}
    surplus: list[Allocation] = []
    for one in by_use:
        if len(kept) < wanted and one.slot not in kept:
            kept[one.slot] = one
        else:
            surplus.append(one)
    if effective_order(record.spec) is UpdateOrder.STOP_FIRST or record.spec.is_job:
        return list(kept.values()), surplus  # two in one slot would be in each other's way
    statuses, now_ms = situation.statuses, situation.now_ms
    lacking = wanted - sum(is_healthy(statuses.get(one.id), record.spec, now_ms) for one in kept.values())
    spare = [one for one in surplus if is_ready(statuses.get(one.id))][:lacking]
    return list(kept.values()), [one for one in surplus if one not in spare]


def _usefulness(one: Allocation, spec: ServiceSpec, situation: Situation) -> tuple[bool, bool, bool, bool, int, int]:
    """Sorts those that serve most to the front, then the lowest slots, then the newest; of a singleton who may run."""
    status = situation.statuses.get(one.id)
    ready = status is not None and (status.is_ready or status.phase is Phase.COMPLETED)
    lease = None if spec.singleton is None else situation.state.leases.get(singleton_lease(one.service))
    return (
        lease is not None and lease.holder != one.id,
        not is_healthy(status, spec, situation.now_ms),
        not ready,
        not was_ever_ready(status),
        one.slot,
        -one.created_at_ms,
    )


def _outdated_stops(
    situation: Situation, record: ServiceRecord, copies: _Copies, healthy: int, *, is_waiting: bool
) -> list[Allocation]:
    """Copies of older revisions that may go now; those that serve least go first."""
    if record.rollout.state is RolloutState.FAILED:
        return []
    outdated = copies.outdated
    if record.rollout.is_paused:  # only those go that cannot stay where they are
        outdated = [one for one in outdated if one.id in copies.movers]
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
    keep = max(0, record.replicas - unavailable - healthy - (len(copies.outdated) - len(outdated)))
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
    if record.rollout.is_paused:  # what is lost is made again, and no more
        lacking -= sum(one.id not in copies.movers for one in copies.outdated)
    if copies.outdated or stop_first:
        leaving = [*copies.stopping, *outdated_stops] if stop_first else []
        still_there = sum(not _is_over(situation.statuses.get(one.id)) for one in leaving)
        occupied = len(kept) + len(copies.outdated) - len(outdated_stops) + still_there
        limit = wanted if stop_first else wanted + _surge(record.spec)
        lacking = min(lacking, limit - occupied)
    taken = {one.slot for one in kept}
    if volume_ids(record.spec):
        # Two copies in one slot would write to one volume, and a slot beyond the wanted ones has another.
        leaving = [one for one in copies.stopping if not _is_over(situation.statuses.get(one.id))]
        taken |= {one.slot for one in (*copies.outdated, *leaving)}
        free = (slot for slot in range(wanted) if slot not in taken)
        return tuple(slot for slot, _ in zip(free, range(max(0, lacking)), strict=False)), ""
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


def matures_at(
    situation: Situation, record: ServiceRecord, kept: list[Allocation], spec: ServiceSpec | None = None
) -> WallMs | None:
    """When the next ready copy will have been ready for long enough; `spec` is that of `kept`, if not the newest."""
    spec = spec or record.spec
    if counts_by_its_end(spec):
        return None
    needed_ms = healthy_after_ms(spec)
    pending = [
        WallMs(status.ready_since_ms + needed_ms)
        for one in kept
        if (status := situation.statuses.get(one.id)) is not None
        and status.is_ready
        and status.ready_since_ms is not None
    ]
    return min((at for at in pending if at > situation.now_ms), default=None)
