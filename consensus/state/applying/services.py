"""Deploy, scale, stop, start, restart, roll back, remove."""

from collections.abc import Collection
from typing import Final, assert_never

import msgspec

from consensus.state.applying.locks import check_unlocked
from consensus.state.applying.results import Done, Refusal, touch_plans
from consensus.state.cluster import ClusterState
from consensus.state.commands import (
    PauseService,
    PromoteService,
    PutServices,
    RemoveService,
    RestartService,
    ResumeService,
    RollbackService,
    ScaleService,
    ServiceCommand,
    SpecEntry,
    StartService,
    StopService,
)
from consensus.state.commands.base import Change
from consensus.state.records import RemovedSpec, RevisionRecord, RolloutRecord, ServiceRecord
from orca.model.allocation import Allocation, DesiredStatus
from orca.model.ids import SecretId, ServiceId, SpecRevision, StateRevision, display_name
from orca.model.secrets import find_secret, ingress_secrets_of, missing_secret, secrets_of, split_secret_id
from orca.model.spec import ServiceSpec
from orca.model.units import WallMs
from orca.model.view import ChangeAction, RolloutState, ServiceChange

REVISIONS_KEPT: Final = 20
"""Revisions of a service that one can go back to; those in use are kept besides."""
REPLICAS_MAX: Final = 10_000
DEADLINE_S_MAX: Final = 366 * 86_400.0


def apply_service(state: ClusterState, at: StateRevision, command: ServiceCommand) -> Done:
    """Carry out a command about services."""
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
        case PromoteService():
            return _promote(state, at, command)
        case PauseService() | ResumeService():
            return _set_paused(state, at, command)
        case RemoveService():
            change = _remove(state, command.service, state.allocations_of(command.service))
            touch_plans(state, at)
            return Done(changes=(change,))
        case _:
            assert_never(command)


def _existing(state: ClusterState, service: ServiceId) -> ServiceRecord:
    record = state.services.get(service)
    if record is None:
        raise Refusal("not_found", f"there is no service {display_name(service)}")
    return record


def _put_services(state: ClusterState, at: StateRevision, command: PutServices) -> Done:
    ids = dict.fromkeys(entry.spec.id for entry in command.entries)
    if len(ids) != len(command.entries):
        raise Refusal("invalid_spec", "one deploy names the same service twice")
    projects = dict.fromkeys((*(entry.spec.project for entry in command.entries), *command.prune_projects))
    check_unlocked(state, projects, command.lock, command.at_ms)
    for entry in command.entries:
        _check_spec(entry.spec)
        _check_secrets(state, entry.spec)
    pruned = [
        service
        for service, record in state.services.items()
        if record.spec.project in command.prune_projects and service not in ids
    ]
    _check_routes(state, command.entries, pruned)
    changes = [_put(state, entry, command, state.allocations_of(entry.spec.id)) for entry in command.entries]
    changes += [_remove(state, service, state.allocations_of(service)) for service in pruned]
    if any(change.action is not ChangeAction.NOTHING for change in changes):
        touch_plans(state, at)
    return Done(changes=tuple(changes))


def _check_spec(spec: ServiceSpec) -> None:
    # The node checked all of it before it proposed; here stand the limits that `apply`
    # and the scheduler rely on whoever proposed.
    name = display_name(spec.id)
    if not 0 <= spec.replicas <= REPLICAS_MAX:
        raise Refusal("invalid_spec", f"{name} asks for {spec.replicas} copies; ask for 0 to {REPLICAS_MAX}")
    if not 0 <= spec.deploy.deadline_s <= DEADLINE_S_MAX:  # NaN fails too
        raise Refusal(
            "invalid_spec", f"{name}: deploy.deadline_s is {spec.deploy.deadline_s}; 0 to {DEADLINE_S_MAX:g} is right"
        )


def _check_secrets(state: ClusterState, spec: ServiceSpec) -> None:
    for name in (*secrets_of(spec), *ingress_secrets_of(spec)):
        if find_secret(spec.project, name, state.secrets.__contains__) is None:
            raise Refusal("invalid_spec", missing_secret(spec, name))


def _used_by(state: ClusterState, spec: ServiceSpec, names: tuple[str, ...]) -> dict[SecretId, None]:
    found = (find_secret(spec.project, name, state.secrets.__contains__) for name in names)
    return dict.fromkeys(one for one in found if one is not None)


def users_of(state: ClusterState, secret: SecretId) -> list[ServiceId]:
    """The services whose present spec uses `secret`."""
    return sorted(
        name
        for name, record in state.services.items()
        if secret in _used_by(state, record.spec, (*secrets_of(record.spec), *ingress_secrets_of(record.spec)))
    )


def renew_users(state: ClusterState, at: StateRevision, changed: Collection[SecretId], command: Change) -> Done:
    """Replace the copies that use one of `changed`, by the rules of their deploy sections; the ingress reads anew."""
    changes = []
    for record in list(state.services.values()):
        names = sorted(name for name in _used_by(state, record.spec, secrets_of(record.spec)) if name in changed)
        if not names or record.is_stopped:
            continue  # who is stopped reads the new value when it starts
        template = f"{record.current.template.partition('+')[0]}+s{at}"
        cause = "secret " + ", ".join(split_secret_id(name)[1] for name in names)
        new = _revision(record, record.spec, template, cause, command)
        changes.append(_append(state, record, new, state.allocations_of(record.id), is_stopped=False))
    return Done(changes=tuple(changes))


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


def _put(state: ClusterState, entry: SpecEntry, command: PutServices, copies: list[Allocation]) -> ServiceChange:
    record = state.services.get(entry.spec.id)
    if record is None:
        return _create(state, entry, command)
    if is_settled_by(record, entry.spec):
        return ServiceChange(service=record.id, action=ChangeAction.NOTHING, revision=record.current.revision)
    template = _next_template(record, entry)
    new = _revision(record, entry.spec, template, "deploy", command)
    return _append(state, record, new, copies, is_stopped=False)


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


def _new_rollout(
    spec: ServiceSpec, revision: SpecRevision, at_ms: WallMs, base: SpecRevision | None = None
) -> RolloutRecord:
    return RolloutRecord(
        revision=revision,
        state=RolloutState.PROGRESSING,
        started_at_ms=at_ms,
        deadline_at_ms=deadline_of(spec, at_ms),
        base=base,
    )


def deadline_of(spec: ServiceSpec, at_ms: WallMs) -> WallMs:
    """When a rollout that begins or goes on now has failed, unless a copy becomes healthy before."""
    return WallMs(at_ms + int(spec.deploy.deadline_s * 1000))


def _base_of(record: ServiceRecord) -> SpecRevision | None:
    """The last revision that was complete: what a next one stands beside, and where the way back leads."""
    is_complete = record.rollout.state is RolloutState.COMPLETED
    return record.current.revision if is_complete else record.rollout.base


def _revision(
    record: ServiceRecord,
    spec: ServiceSpec,
    template: str,
    cause: str,
    command: Change,
) -> RevisionRecord:
    return RevisionRecord(
        revision=SpecRevision(record.current.revision + 1),
        spec=spec,
        template=template,
        at_ms=command.at_ms,
        cause=cause,
        actor=command.actor,
        note=command.note if isinstance(command, PutServices) else "",
    )


def _append(
    state: ClusterState,
    record: ServiceRecord,
    new: RevisionRecord,
    copies: list[Allocation],
    *,
    is_stopped: bool,
    is_promoted: bool = False,
) -> ServiceChange:
    # Copies whose template did not change belong to the new revision as they are.
    for one in copies:
        if one.template == new.template and one.desired is DesiredStatus.RUNNING:
            state.allocations[one.id] = msgspec.structs.replace(one, revision=new.revision)
    base = _base_of(record)
    used = {base, *(state.allocations[one.id].revision for one in copies)}
    newest = new.revision - REVISIONS_KEPT
    kept = (one for one in (*record.revisions, new) if one.revision > newest or one.revision in used)
    rollout = _new_rollout(new.spec, new.revision, new.at_ms, base)
    if new.template == record.current.template:  # the same copies, in another number: as far as they were
        rollout = msgspec.structs.replace(
            rollout, promoted_at_ms=record.rollout.promoted_at_ms, is_paused=record.rollout.is_paused
        )
    elif is_promoted or record.is_stopped:
        # The way back is not tried out, and beside what is stopped there is nothing to stand.
        rollout = msgspec.structs.replace(rollout, promoted_at_ms=new.at_ms)
    state.services[record.id] = msgspec.structs.replace(
        record,
        updated_at_ms=new.at_ms,
        revisions=tuple(kept),
        rollout=rollout,
        is_stopped=is_stopped,
    )
    return ServiceChange(service=record.id, action=ChangeAction.UPDATE, revision=new.revision)


def _renew(
    state: ClusterState,
    at: StateRevision,
    record: ServiceRecord,
    spec: ServiceSpec,
    template: str,
    cause: str,
    command: RestartService | RollbackService,
) -> Done:
    new = _revision(record, spec, template, cause, command)
    is_back = isinstance(command, RollbackService)
    change = _append(state, record, new, state.allocations_of(record.id), is_stopped=False, is_promoted=is_back)
    touch_plans(state, at)
    return Done(changes=(change,))


def _nothing(record: ServiceRecord) -> Done:
    change = ServiceChange(service=record.id, action=ChangeAction.NOTHING, revision=record.current.revision)
    return Done(changes=(change,))


def _scale(state: ClusterState, at: StateRevision, command: ScaleService) -> Done:
    record = _existing(state, command.service)
    if not 0 <= command.replicas <= REPLICAS_MAX:
        raise Refusal("invalid_request", f"{command.replicas} copies cannot be; ask for 0 to {REPLICAS_MAX}")
    if command.replicas > 1 and record.spec.singleton is not None:
        what = f"{record.id} is a singleton: it has one copy at most, and {command.replicas} are asked for"
        raise Refusal("invalid_request", f"{what}; ask for 1 or 0, or deploy it without `singleton`")
    if command.replicas == record.spec.replicas:
        return _nothing(record)
    spec = msgspec.structs.replace(record.spec, replicas=command.replicas)
    cause = f"scale {record.spec.replicas} to {command.replicas}"
    new = _revision(record, spec, record.current.template, cause, command)
    change = _append(state, record, new, state.allocations_of(record.id), is_stopped=record.is_stopped)
    touch_plans(state, at)
    return Done(changes=(change,))


def _set_stopped(state: ClusterState, at: StateRevision, command: StopService | StartService) -> Done:
    record = _existing(state, command.service)
    stop = isinstance(command, StopService)
    if record.is_stopped == stop:
        return _nothing(record)
    # No new revision: the spec is the same, and a rollback must not count this.
    state.services[record.id] = msgspec.structs.replace(
        record,
        updated_at_ms=command.at_ms,
        is_stopped=stop,
        rollout=_new_rollout(record.spec, record.current.revision, command.at_ms, _base_of(record)),
    )
    touch_plans(state, at)
    change = ServiceChange(service=record.id, action=ChangeAction.UPDATE, revision=record.current.revision)
    return Done(changes=(change,))


def _promote(state: ClusterState, at: StateRevision, command: PromoteService) -> Done:
    record = _existing(state, command.service)
    if not record.is_staged or record.rollout.state is not RolloutState.AWAITING:
        why = {
            RolloutState.PROGRESSING: "it is not healthy yet" if record.is_staged else "it replaces the one before",
            RolloutState.FAILED: f"it failed: {record.rollout.message}",
            RolloutState.COMPLETED: "it is complete",
            RolloutState.AWAITING: "it does not stand beside another",
        }[record.rollout.state]
        number = record.current.revision
        raise Refusal("conflict", f"revision {number} of {display_name(record.id)} cannot be promoted: {why}")
    promote(state, record, command.at_ms)
    return _changed(state, at, record)


def promote(state: ClusterState, record: ServiceRecord, at_ms: WallMs) -> None:
    """From now on the present revision replaces the one that it stood beside."""
    rollout = msgspec.structs.replace(
        record.rollout,
        state=RolloutState.PROGRESSING,
        promoted_at_ms=at_ms,
        deadline_at_ms=deadline_of(record.spec, at_ms),
        message="",
        ended_at_ms=None,
    )
    state.services[record.id] = msgspec.structs.replace(record, updated_at_ms=at_ms, rollout=rollout)


def _set_paused(state: ClusterState, at: StateRevision, command: PauseService | ResumeService) -> Done:
    record = _existing(state, command.service)
    pauses = isinstance(command, PauseService)
    if record.rollout.is_paused == pauses:
        return _nothing(record)
    if pauses and record.rollout.state in {RolloutState.COMPLETED, RolloutState.FAILED}:
        how = "is complete" if record.rollout.state is RolloutState.COMPLETED else "has failed"
        name = display_name(record.id)
        raise Refusal("conflict", f"{name} has no rollout to pause: that of revision {record.current.revision} {how}")
    # What it waited for meanwhile is not held against it.
    rollout = msgspec.structs.replace(
        record.rollout, is_paused=pauses, deadline_at_ms=deadline_of(record.spec, command.at_ms)
    )
    state.services[record.id] = msgspec.structs.replace(record, updated_at_ms=command.at_ms, rollout=rollout)
    return _changed(state, at, record)


def _changed(state: ClusterState, at: StateRevision, record: ServiceRecord) -> Done:
    touch_plans(state, at)
    change = ServiceChange(service=record.id, action=ChangeAction.UPDATE, revision=record.current.revision)
    return Done(changes=(change,))


def go_back(state: ClusterState, record: ServiceRecord, message: str, at_ms: WallMs) -> None:
    """Make the last complete revision the newest again, because the present one failed with `message`.

    Once: a revision that was come back to and fails as well stays where it is.
    """
    base = record.base
    if base is None or record.rollout.is_way_back or not record.spec.deploy.auto_rollback:
        return
    failed = record.current.revision
    new = RevisionRecord(
        revision=SpecRevision(failed + 1),
        spec=base.spec,
        template=base.template,
        at_ms=at_ms,
        cause=f"automatic rollback to {base.revision}",
    )
    _append(state, record, new, state.allocations_of(record.id), is_stopped=False, is_promoted=True)
    after = state.services[record.id]
    why = f"revision {failed} failed: {message}; back to revision {base.revision}"
    rollout = msgspec.structs.replace(after.rollout, is_way_back=True, message=why)
    state.services[record.id] = msgspec.structs.replace(after, rollout=rollout)


def _roll_back(state: ClusterState, at: StateRevision, command: RollbackService) -> Done:
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
    _check_secrets(state, wanted.spec)
    # Its own template: copies of that revision that still run are taken over as they are.
    return _renew(state, at, record, wanted.spec, wanted.template, cause, command)


def _remove(state: ClusterState, service: ServiceId, copies: list[Allocation]) -> ServiceChange:
    record = _existing(state, service)
    del state.services[service]
    for hook in [one.id for one in state.webhooks.values() if one.service == service]:
        del state.webhooks[hook]
    if not copies:
        state.removed.pop(service, None)
    else:
        used = {one.revision for one in copies}
        before = state.removed.get(service)
        all_revisions = (*(() if before is None else before.revisions), *record.revisions)
        kept = tuple(one for one in all_revisions if one.revision in used or one is record.current)
        state.removed[service] = RemovedSpec(service=service, revisions=kept)
    for one in copies:
        state.allocations[one.id] = msgspec.structs.replace(one, desired=DesiredStatus.STOPPED)
    return ServiceChange(service=service, action=ChangeAction.REMOVE, revision=record.current.revision)
