"""From applied commands to events that people read. Pure."""

import msgspec

from consensus.replica import AppliedCommand
from consensus.state.cluster import ClusterState
from consensus.state.commands import (
    Command,
    CommitPlan,
    PauseService,
    PromoteService,
    PutSecrets,
    PutServices,
    RemoveService,
    RestartService,
    ResumeService,
    RollbackService,
    RolloutUpdate,
    ScaleService,
    ServiceCommand,
    StartService,
    StopService,
)
from orca.model.event import EventKind, Severity
from orca.model.ids import AllocationId, ServiceId, SpecRevision, display_name
from orca.model.view import ChangeAction, RolloutState, ServiceChange

_KINDS: dict[type[Command], tuple[EventKind, str]] = {
    PutServices: (EventKind.SERVICE_DEPLOYED, "was deployed"),
    ScaleService: (EventKind.SERVICE_SCALED, "was scaled"),
    StopService: (EventKind.SERVICE_STOPPED, "was told to stop"),
    StartService: (EventKind.SERVICE_STARTED, "was told to start"),
    RestartService: (EventKind.SERVICE_RESTARTED, "was told to restart"),
    RollbackService: (EventKind.SERVICE_ROLLED_BACK, "was rolled back"),
    PromoteService: (EventKind.ROLLOUT_PROMOTED, "was promoted"),
    PauseService: (EventKind.ROLLOUT_PAUSED, "was paused"),
    ResumeService: (EventKind.ROLLOUT_RESUMED, "was resumed"),
    RemoveService: (EventKind.SERVICE_REMOVED, "was removed"),
}


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """An event before it has a number."""

    kind: EventKind
    message: str
    severity: Severity = Severity.INFO
    service: ServiceId | None = None
    allocation: AllocationId | None = None
    revision: SpecRevision | None = None


def happenings(state: ClusterState, applied: AppliedCommand) -> list[Happening]:
    """What `applied` means to people; `state` is the one after it."""
    if applied.outcome.error or int(applied.outcome.revision) != int(applied.index):
        return []  # refused, without effect, or the answer to a command that came twice
    command = applied.command
    if isinstance(command, CommitPlan):
        return _of_plan(state, command)
    if isinstance(command, PutSecrets):
        kind, verb = EventKind.SERVICE_RESTARTED, "gets new copies because a secret was changed"
    elif isinstance(command, ServiceCommand):
        kind, verb = _KINDS[type(command)]
    else:
        return []
    return [
        _of_change(kind, verb, change, command.actor)
        for change in applied.outcome.changes
        if change.action is not ChangeAction.NOTHING
    ]


def _of_change(kind: EventKind, verb: str, change: ServiceChange, actor: str) -> Happening:
    name = display_name(change.service)
    if change.action is ChangeAction.REMOVE:
        kind, verb = EventKind.SERVICE_REMOVED, "was removed"
    return Happening(
        kind=kind,
        message=f"{name} {verb} by {actor}, revision {change.revision}",
        service=change.service,
        revision=change.revision,
    )


def _of_plan(state: ClusterState, plan: CommitPlan) -> list[Happening]:
    found = [
        Happening(
            kind=EventKind.ALLOCATION_PLACED,
            message=f"{display_name(one.service)}.{one.slot + 1} was placed on {_node_name(state, one.node)}",
            service=one.service,
            allocation=one.id,
            revision=one.revision,
        )
        for one in plan.placements
    ]
    for update in plan.rollouts:
        name = display_name(update.service)
        if update.state is RolloutState.COMPLETED:
            kind, severity, message = EventKind.ROLLOUT_COMPLETED, Severity.INFO, f"{name} is as wanted"
        elif update.state is RolloutState.FAILED:
            kind, severity, message = EventKind.ROLLOUT_FAILED, Severity.ERROR, f"{name}: {update.message}"
        elif update.state is RolloutState.AWAITING:
            kind, severity, message = EventKind.ROLLOUT_AWAITING, Severity.INFO, f"{name}: {update.message}"
        elif update.promotes:
            kind, severity, message = EventKind.ROLLOUT_PROMOTED, Severity.INFO, f"{name} was promoted, as it was due"
        else:
            continue
        text = f"{message} (revision {update.revision})"
        found.append(
            Happening(kind=kind, message=text, severity=severity, service=update.service, revision=update.revision)
        )
        found += _of_way_back(state, update)
    return found


def _of_way_back(state: ClusterState, update: RolloutUpdate) -> list[Happening]:
    """What the cluster did by itself about a rollout that failed."""
    record = state.services.get(update.service)
    if record is None or update.state is not RolloutState.FAILED or record.current.revision == update.revision:
        return []
    return [
        Happening(
            kind=EventKind.SERVICE_ROLLED_BACK,
            message=f"{display_name(record.id)} was rolled back by itself, revision {record.current.revision}",
            severity=Severity.WARNING,
            service=record.id,
            revision=record.current.revision,
        )
    ]


def _node_name(state: ClusterState, node: str) -> str:
    return next((record.name for record in state.nodes.values() if record.id == node), node)
