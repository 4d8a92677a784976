"""Which runs are due now, and which old ones go. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from consensus.state.cluster import ClusterState, ServiceRecord
from orca.model.allocation import TERMINAL_PHASES, AllocationStatus
from orca.model.ids import AllocationId, ServiceId, ServiceName, service_id
from orca.model.job import job_of
from orca.model.spec import MissedRun, OverlapPolicy, ServiceSpec
from orca.model.units import WallMs
from orca.model.view import RolloutState
from orca.specs.schedule import instant_of, latest_until, next_after, run_name

LABEL: Final = "scheduled-by"
GRACE_MS: Final = 60_000
RUNS_KEPT: Final = 5

Statuses = Mapping[AllocationId, AllocationStatus]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a service; `is_over`: all its copies have ended."""

    service: ServiceId
    instant_ms: WallMs
    is_over: bool


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for one service: remove `removes`, then put `start`, the run of `instant_ms`."""

    service: ServiceId
    removes: tuple[ServiceId, ...] = ()
    start: ServiceSpec | None = None
    instant_ms: WallMs = WallMs(0)


def scheduled(state: ClusterState) -> list[ServiceRecord]:
    """The services with a schedule, by id."""
    return [record for _, record in sorted(state.services.items()) if record.spec.schedule is not None]


def runs_of(state: ClusterState, statuses: Statuses, record: ServiceRecord) -> list[Run]:
    """The runs of a service, oldest first."""
    found = []
    for one in state.services.values():
        if one.spec.project != record.spec.project or one.spec.labels.get(LABEL) != record.spec.name:
            continue
        instant_ms = instant_of(record.spec.name, one.spec.name)
        if instant_ms is not None:
            found.append(Run(service=one.id, instant_ms=instant_ms, is_over=_is_over(state, statuses, one)))
    return sorted(found, key=lambda run: run.instant_ms)


def orphans(state: ClusterState) -> tuple[ServiceId, ...]:
    """The runs of services that are not there any more."""
    found = []
    for name, one in sorted(state.services.items()):
        parent = one.spec.labels.get(LABEL)
        if parent is None or service_id(one.spec.project, ServiceName(parent)) in state.services:
            continue
        if instant_of(ServiceName(parent), one.spec.name) is not None:
            found.append(name)
    return tuple(found)


def _is_over(state: ClusterState, statuses: Statuses, record: ServiceRecord) -> bool:
    if record.rollout.state is RolloutState.PROGRESSING and not record.is_stopped:
        return False
    seen = [statuses.get(copy.id) for copy in state.copies.of_service(record.id).values()]
    return all(status is not None and status.phase in TERMINAL_PHASES for status in seen)


def decide(state: ClusterState, statuses: Statuses, record: ServiceRecord, now_ms: WallMs) -> Decision:
    """What is to be done for a service with a schedule now. Raises ValueError for a zone that is not known here."""
    schedule = record.spec.schedule
    assert schedule is not None, f"{record.id} has no schedule"
    runs = runs_of(state, statuses, record)
    over = [run.service for run in runs if run.is_over]
    old = tuple(over[: max(0, len(over) - RUNS_KEPT)])
    nothing = Decision(service=record.id, removes=old)
    if record.is_stopped:
        return nothing
    # What was decided last says how far all is decided, and so does the spec that holds now.
    after_ms = max([record.current.at_ms, *(run.instant_ms for run in runs)])
    due_ms = latest_until(schedule, after_ms, now_ms)
    if due_ms is None or (now_ms - due_ms > GRACE_MS and schedule.missed is MissedRun.SKIP):
        return nothing
    busy = tuple(run.service for run in runs if not run.is_over)
    if busy and schedule.overlap is OverlapPolicy.FORBID:
        return nothing
    replaced = busy if schedule.overlap is OverlapPolicy.REPLACE else ()
    spec = job_of(record.spec, run_name(record.spec.name, due_ms), {LABEL: record.spec.name})
    return Decision(service=record.id, removes=(*old, *replaced), start=spec, instant_ms=due_ms)


def wakes_at_ms(record: ServiceRecord, now_ms: WallMs) -> WallMs | None:
    """When its schedule next names a moment; None when it never does, or is suspended."""
    schedule = record.spec.schedule
    return None if schedule is None or record.is_stopped else next_after(schedule, now_ms)
