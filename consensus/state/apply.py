"""apply(state, index, command) -> Outcome: total, deterministic, the only writer."""

from typing import assert_never

import msgspec

from consensus.state.cluster import (
    REQUESTS_KEPT,
    ClusterState,
    NodeRecord,
    Outcome,
    RemovedSpec,
    RevisionRecord,
    RolloutRecord,
    ServiceRecord,
)
from consensus.state.commands import (
    AdmitNode,
    Command,
    CommitPlan,
    PutServices,
    RemoveService,
    RestartService,
    RollbackService,
    ScaleService,
    SpecEntry,
    StartService,
    StopService,
)
from orca.model.allocation import DesiredStatus
from orca.model.ids import AllocationId, LogIndex, ServiceId, SpecRevision, StateRevision, display_name
from orca.model.spec import ServiceSpec
from orca.model.units import WallMs
from orca.model.view import ChangeAction, RolloutState, ServiceChange

REVISIONS_KEPT = 20
"""Revisions of a service that one can go back to; those in use are kept besides."""


class Refusal(Exception):  # noqa: N818 - never leaves this module's callers; a value, not a failure
    """Why a command changes nothing; becomes an `Outcome`."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


def apply(state: ClusterState, index: LogIndex, command: Command) -> Outcome:
    """Carry out `command`, the log's entry at `index`, on `state`."""
    request_id = getattr(command, "request_id", None)
    if request_id is not None and request_id in state.requests:
        return state.requests[request_id]
    try:
        changes = _dispatch(state, StateRevision(int(index)), command)
    except Refusal as refusal:
        outcome = Outcome(revision=state.revision, error=refusal.error, message=refusal.message)
    else:
        outcome = Outcome(revision=state.revision, changes=changes)
    if request_id is not None:
        state.requests[request_id] = outcome
        while len(state.requests) > REQUESTS_KEPT:
            del state.requests[next(iter(state.requests))]
    return outcome


def _dispatch(state: ClusterState, at: StateRevision, command: Command) -> tuple[ServiceChange, ...]:
    match command:
        case PutServices():
            return _put_services(state, at, command)
        case ScaleService():
            return _scale(state, at, command)
        case StopService() | StartService():
            return _set_stopped(state, at, command)
        case RestartService():
            record = _existing(state, command.service)
            return _renew(state, at, record, record.spec, command.template, "restart", command)
        case RollbackService():
            return _roll_back(state, at, command)
        case RemoveService():
            change = _remove(state, command.service)
            state.revision = at
            return (change,)
        case CommitPlan():
            return _commit_plan(state, at, command)
        case AdmitNode():
            known = state.nodes.get(command.node)
            admitted = command.at_ms if known is None else known.admitted_at_ms
            state.nodes[command.node] = NodeRecord(id=command.node, name=command.name, admitted_at_ms=admitted)
            state.revision = at
            return ()
        case _:
            assert_never(command)


def _existing(state: ClusterState, service: ServiceId) -> ServiceRecord:
    record = state.services.get(service)
    if record is None:
        raise Refusal("not_found", f"there is no service {display_name(service)}")
    return record


def _put_services(state: ClusterState, at: StateRevision, command: PutServices) -> tuple[ServiceChange, ...]:
    ids = [entry.spec.id for entry in command.entries]
    if len(dict.fromkeys(ids)) != len(ids):
        raise Refusal("invalid_spec", "one deploy names the same service twice")
    pruned = [
        service
        for service, record in state.services.items()
        if record.spec.project in command.prune_projects and service not in ids
    ]
    _check_routes(state, command.entries, pruned)
    changes = [_put(state, entry, command) for entry in command.entries]
    changes += [_remove(state, service) for service in pruned]
    if any(change.action is not ChangeAction.NOTHING for change in changes):
        state.revision = at
    return tuple(changes)


def _check_routes(state: ClusterState, entries: tuple[SpecEntry, ...], leaving: list[ServiceId]) -> None:
    arriving = {entry.spec.id: entry.spec for entry in entries}
    after = {name: record.spec for name, record in state.services.items() if name not in leaving} | arriving
    taken: dict[tuple[str | None, str], ServiceId] = {}
    for service, spec in after.items():
        for route in spec.routes:
            key = (route.domain, route.path.rstrip("/") or "/")
            other = taken.setdefault(key, service)
            if other != service and (service in arriving or other in arriving):
                where = f"{route.domain or 'any domain'}{key[1]}"
                raise Refusal(
                    "conflict",
                    f"{display_name(service)} and {display_name(other)} both want requests for {where}; "
                    "give one of them another domain or path",
                )


def _put(state: ClusterState, entry: SpecEntry, command: PutServices) -> ServiceChange:
    record = state.services.get(entry.spec.id)
    if record is None:
        return _create(state, entry, command)
    if is_settled_by(record, entry.spec):
        return ServiceChange(service=record.id, action=ChangeAction.NOTHING, revision=record.current.revision)
    template = _next_template(record, entry)
    return _append(state, record, entry.spec, template, "deploy", command, is_stopped=False)


def is_settled_by(record: ServiceRecord, spec: ServiceSpec) -> bool:
    """Whether a deploy of `spec` has nothing to do: it is what runs, and it did not fail."""
    return record.spec == spec and not record.is_stopped and record.rollout.state is not RolloutState.FAILED


def _next_template(record: ServiceRecord, entry: SpecEntry) -> str:
    # A restart made a fresh template (`<hash>+<nonce>`) for an unchanged spec; a deploy that
    # changes nothing a copy depends on keeps those copies. After a failure it means "try
    # again": copies that gave up are no use, so the template is a fresh one.
    present = record.current.template
    if present.partition("+")[0] != entry.template:
        return entry.template
    if record.rollout.state is RolloutState.FAILED and not record.is_stopped:
        return f"{entry.template}+r{record.current.revision + 1}"
    return present


def _create(state: ClusterState, entry: SpecEntry, command: PutServices) -> ServiceChange:
    spec = entry.spec
    # A service that was removed while copies of it still stop must not reuse their numbers.
    removed = state.removed.get(spec.id)
    last = removed.revisions[-1].revision if removed is not None else 0
    revision = SpecRevision(last + 1)
    first = RevisionRecord(
        revision=revision,
        spec=spec,
        template=entry.template,
        at_ms=command.at_ms,
        cause="deploy",
        actor=command.actor,
        note=command.note,
    )
    state.services[spec.id] = ServiceRecord(
        id=spec.id,
        created_at_ms=command.at_ms,
        updated_at_ms=command.at_ms,
        revisions=(first,),
        rollout=_new_rollout(spec, revision, command.at_ms),
    )
    return ServiceChange(service=spec.id, action=ChangeAction.CREATE, revision=revision)


def _new_rollout(spec: ServiceSpec, revision: SpecRevision, at_ms: WallMs) -> RolloutRecord:
    return RolloutRecord(
        revision=revision,
        state=RolloutState.PROGRESSING,
        started_at_ms=at_ms,
        deadline_at_ms=WallMs(at_ms + int(spec.deploy.deadline_s * 1000)),
    )


def _append(
    state: ClusterState,
    record: ServiceRecord,
    spec: ServiceSpec,
    template: str,
    cause: str,
    command: PutServices | RestartService | RollbackService | ScaleService | StartService | StopService,
    *,
    is_stopped: bool,
) -> ServiceChange:
    revision = SpecRevision(record.current.revision + 1)
    new = RevisionRecord(
        revision=revision,
        spec=spec,
        template=template,
        at_ms=command.at_ms,
        cause=cause,
        actor=command.actor,
        note=command.note if isinstance(command, PutServices) else "",
    )
    # Copies whose template did not change belong to the new revision as they are.
    for allocation in state.allocations_of(record.id):
        if allocation.template == template and allocation.desired is DesiredStatus.RUNNING:
            state.allocations[allocation.id] = msgspec.structs.replace(allocation, revision=revision)
    state.services[record.id] = msgspec.structs.replace(
        record,
        updated_at_ms=command.at_ms,
        revisions=_trim(state, (*record.revisions, new)),
        rollout=_new_rollout(spec, revision, command.at_ms),
        is_stopped=is_stopped,
    )
    return ServiceChange(service=record.id, action=ChangeAction.UPDATE, revision=revision)


def _trim(state: ClusterState, revisions: tuple[RevisionRecord, ...]) -> tuple[RevisionRecord, ...]:
    service = revisions[-1].spec.id
    used = {one.revision for one in state.allocations.values() if one.service == service}
    newest = revisions[-1].revision - REVISIONS_KEPT
    return tuple(one for one in revisions if one.revision > newest or one.revision in used)


def _renew(
    state: ClusterState,
    at: StateRevision,
    record: ServiceRecord,
    spec: ServiceSpec,
    template: str,
    cause: str,
    command: RestartService | RollbackService,
) -> tuple[ServiceChange, ...]:
    change = _append(state, record, spec, template, cause, command, is_stopped=False)
    state.revision = at
    return (change,)


def _scale(state: ClusterState, at: StateRevision, command: ScaleService) -> tuple[ServiceChange, ...]:
    record = _existing(state, command.service)
    if command.replicas < 0:
        raise Refusal("invalid_request", f"{command.replicas} copies cannot be; ask for 0 or more")
    if command.replicas == record.spec.replicas:
        nothing = ServiceChange(service=record.id, action=ChangeAction.NOTHING, revision=record.current.revision)
        return (nothing,)
    spec = msgspec.structs.replace(record.spec, replicas=command.replicas)
    cause = f"scale {record.spec.replicas} to {command.replicas}"
    template = record.current.template
    change = _append(state, record, spec, template, cause, command, is_stopped=record.is_stopped)
    state.revision = at
    return (change,)


def _set_stopped(
    state: ClusterState, at: StateRevision, command: StopService | StartService
) -> tuple[ServiceChange, ...]:
    record = _existing(state, command.service)
    stop = isinstance(command, StopService)
    if record.is_stopped == stop:
        nothing = ServiceChange(service=record.id, action=ChangeAction.NOTHING, revision=record.current.revision)
        return (nothing,)
    # No new revision: the spec is the same, and a rollback must not count this.
    state.services[record.id] = msgspec.structs.replace(
        record,
        updated_at_ms=command.at_ms,
        is_stopped=stop,
        rollout=_new_rollout(record.spec, record.current.revision, command.at_ms),
    )
    state.revision = at
    return (ServiceChange(service=record.id, action=ChangeAction.UPDATE, revision=record.current.revision),)


def _roll_back(state: ClusterState, at: StateRevision, command: RollbackService) -> tuple[ServiceChange, ...]:
    record = _existing(state, command.service)
    wanted = record.find(command.to)
    name = display_name(record.id)
    if wanted is None:
        kept = ", ".join(str(one.revision) for one in record.revisions)
        raise Refusal("not_found", f"{name} has no revision {command.to}; there are {kept}")
    if wanted.revision == record.current.revision:
        raise Refusal("conflict", f"{name} is at revision {command.to} already")
    cause = f"rollback to {command.to}"
    _check_routes(state, (SpecEntry(spec=wanted.spec, template=wanted.template),), [])
    # Its own template: copies of that revision that still run are taken over as they are.
    return _renew(state, at, record, wanted.spec, wanted.template, cause, command)


def _remove(state: ClusterState, service: ServiceId) -> ServiceChange:
    record = _existing(state, service)
    del state.services[service]
    copies = state.allocations_of(service)
    if not copies:
        state.removed.pop(service, None)
    else:
        used = {one.revision for one in copies}
        before = state.removed.get(service)
        all_revisions = (*(() if before is None else before.revisions), *record.revisions)
        kept = tuple(one for one in all_revisions if one.revision in used or one is record.current)
        state.removed[service] = RemovedSpec(service=service, revisions=kept)
    for allocation in copies:
        _stop_allocation(state, allocation.id)
    return ServiceChange(service=service, action=ChangeAction.REMOVE, revision=record.current.revision)


def _stop_allocation(state: ClusterState, allocation: AllocationId) -> None:
    one = state.allocations[allocation]
    state.allocations[allocation] = msgspec.structs.replace(one, desired=DesiredStatus.STOPPED)


def _commit_plan(state: ClusterState, at: StateRevision, plan: CommitPlan) -> tuple[ServiceChange, ...]:
    if plan.base != state.revision:
        raise Refusal("conflict", f"the plan is based on revision {plan.base}, the state is at {state.revision}")
    if len({placement.id for placement in plan.placements}) != len(plan.placements):
        raise Refusal("conflict", "the plan places two copies under one id")
    for placement in plan.placements:
        record = state.services.get(placement.service)
        if record is None or record.find(placement.revision) is None or placement.id in state.allocations:
            raise Refusal("conflict", f"the plan places {placement.id} of {placement.service}, which does not fit")
    for allocation in (*plan.stops, *plan.forgets):
        if allocation not in state.allocations:
            raise Refusal("conflict", f"the plan ends {allocation}, which does not exist")
    for placement in plan.placements:
        state.allocations[placement.id] = placement
    for allocation in plan.stops:
        _stop_allocation(state, allocation)
    for allocation in dict.fromkeys(plan.forgets):
        del state.allocations[allocation]
    for update in plan.rollouts:
        record = state.services.get(update.service)
        if record is None or record.current.revision != update.revision:
            continue
        ended = None if update.state is RolloutState.PROGRESSING else plan.at_ms
        rollout = msgspec.structs.replace(
            record.rollout,
            state=update.state,
            healthy=update.healthy,
            deadline_at_ms=update.deadline_at_ms,
            message=update.message,
            ended_at_ms=ended,
        )
        state.services[record.id] = msgspec.structs.replace(record, rollout=rollout)
    _forget_removed(state)
    state.revision = at
    return ()


def _forget_removed(state: ClusterState) -> None:
    """Drop what no copy needs any more of removed services."""
    if not state.removed:
        return
    used: dict[ServiceId, dict[SpecRevision, None]] = {}
    for one in state.allocations.values():
        if one.service in state.removed:
            used.setdefault(one.service, {})[one.revision] = None
    for service, removed in list(state.removed.items()):
        record = state.services.get(service)
        # The newest says from where a service of the same name would count on.
        last = removed.revisions[-1] if record is None else None
        kept = tuple(one for one in removed.revisions if one.revision in used.get(service, {}) or one is last)
        if service in used and kept:
            state.removed[service] = RemovedSpec(service=service, revisions=kept)
        else:
            del state.removed[service]
