"""apply(state, index, command) -> Outcome: total, deterministic, the only writer."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias, get_args

from consensus.state.applying.alerts import apply_alert
from consensus.state.applying.auditing import apply_deed, note
from consensus.state.applying.authorities import apply_authority
from consensus.state.applying.group import apply_group
from consensus.state.applying.leases import apply_lease
from consensus.state.applying.locks import apply_lock
from consensus.state.applying.nodes import apply_node
from consensus.state.applying.notices import apply_notice
from consensus.state.applying.plans import apply_plan
from consensus.state.applying.results import NAME_MAX, Done, Refusal, check_text, check_time
from consensus.state.applying.sealed import apply_secret
from consensus.state.applying.services import REVISIONS_KEPT, apply_service, is_settled_by
from consensus.state.applying.tokens import apply_token
from consensus.state.applying.webhooks import apply_webhook
from consensus.state.cluster import (
    REQUEST_CHANGES_KEPT,
    REQUESTS_KEPT,
    TRIMMED_AT_ONCE,
    ClusterState,
    FrozenState,
    Outcome,
)
from consensus.state.commands import (
    AdmitNode,
    AlertCommand,
    AuditCommand,
    AuthorityCommand,
    Change,
    Command,
    CommitPlan,
    GroupCommand,
    LeaseCommand,
    LockCommand,
    NodeCommand,
    NoticeCommand,
    SecretCommand,
    ServiceCommand,
    TokenCommand,
    WebhookCommand,
)
from consensus.state.schema import explain_lag, schema_of
from orca.model.ids import LogIndex, RequestId, StateRevision

_Handler: TypeAlias = Callable[[ClusterState, StateRevision, Any], Done]
_ASKED: Final = (Change, AdmitNode)


def _handlers() -> dict[type, _Handler]:
    """Who carries out each kind of command.

    A table, since to ask for one union after the other took two thirds of the time of a command.
    """
    by_noun: tuple[tuple[Any, _Handler], ...] = (
        (ServiceCommand, apply_service),
        (CommitPlan, apply_plan),
        (NodeCommand, apply_node),
        (TokenCommand, apply_token),
        (AuthorityCommand, apply_authority),
        (SecretCommand, apply_secret),
        (WebhookCommand, apply_webhook),
        (LockCommand, apply_lock),
        (AlertCommand, apply_alert),
        (NoticeCommand, apply_notice),
        (LeaseCommand, apply_lease),
        (GroupCommand, apply_group),
        (AuditCommand, lambda _state, _at, command: apply_deed(command)),
    )
    return {kind: handler for noun, handler in by_noun for kind in get_args(noun) or (noun,)}


_HANDLERS: Final = _handlers()
assert _HANDLERS.keys() == set(get_args(Command)), "a kind of command has nobody who carries it out"


def apply(state: ClusterState, index: LogIndex, command: Command) -> Outcome:
    """Carry out `command`, the log's entry at `index`, on `state`."""
    assert not isinstance(state, FrozenState), "a frozen state is for reading"
    asked = command if isinstance(command, _ASKED) else None
    request_id = None if asked is None else asked.request_id
    if request_id is not None and request_id in state.requests:
        return state.requests[request_id]
    try:
        _check_stamps(state, command, request_id)
        done = _dispatch(state, StateRevision(int(index)), command)
    except Refusal as refusal:
        outcome = Outcome(revision=state.revision, error=refusal.error, message=refusal.message)
    else:
        outcome = Outcome(revision=state.revision, changes=done.changes, leases=done.leases, secrets=done.secrets)
    if asked is not None:
        note(state, index, asked, outcome)
    if request_id is not None and len(request_id) <= NAME_MAX:
        _remember(state, request_id, outcome)
    return outcome


def _check_stamps(state: ClusterState, command: Command, request_id: RequestId | None) -> None:
    needed = schema_of(command)
    if needed > state.schema:
        lag = explain_lag(state, needed) or "wait until the leader has raised it"
        raise Refusal("not_available", f"this needs schema {needed} and {state.schema} is in force; {lag}")
    check_time("at_ms", command.at_ms)
    if request_id is not None:
        check_text("request_id", request_id)
    if isinstance(command, _ASKED):
        check_text("the actor", command.actor, may_be_empty=True)
        check_text("the origin", command.origin, may_be_empty=True)


def _dispatch(state: ClusterState, at: StateRevision, command: Command) -> Done:
    return _HANDLERS[type(command)](state, at, command)


def _remember(state: ClusterState, request_id: RequestId, outcome: Outcome) -> None:
    state.requests[request_id] = outcome
    state.request_changes += len(outcome.changes)
    surplus = len(state.requests) - REQUESTS_KEPT
    if surplus < TRIMMED_AT_ONCE and state.request_changes <= REQUEST_CHANGES_KEPT:
        return
    for oldest in list(state.requests)[:-1]:
        if surplus <= 0 and state.request_changes <= REQUEST_CHANGES_KEPT:
            break
        state.request_changes -= len(state.requests.pop(oldest).changes)
        surplus -= 1


__all__ = ["REVISIONS_KEPT", "apply", "is_settled_by"]
