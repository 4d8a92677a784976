"""What people said about alerts. The alerts themselves are worked out of events and stand nowhere in the state.

So nothing here can know whether an alert exists: who proposes has looked. What has ended is dropped by the next
command about alerts, and readers ask for the time themselves. Of marks the oldest give way: who says something about
the next alert is never refused because of thousands of old ones.
"""

from typing import Final, assert_never

import msgspec

from consensus.state.applying.results import (
    NOTHING,
    TEXT_MAX,
    Done,
    Refusal,
    check_room,
    check_text,
    check_time,
    touch,
)
from consensus.state.cluster import MARKS_KEPT, ClusterState
from consensus.state.commands.alerts import AcknowledgeAlerts, AlertCommand, EndSilence, ResolveAlerts, SilenceAlerts
from consensus.state.records import AlertDeedRecord, AlertMarkRecord, SilenceRecord
from orca.model.ids import StateRevision
from orca.model.units import WallMs

SILENCES_MAX: Final = 1_000
ALERTS_AT_ONCE_MAX: Final = 500


def apply_alert(state: ClusterState, at: StateRevision, command: AlertCommand) -> Done:
    """Carry out a command about alerts."""
    match command:
        case AcknowledgeAlerts():
            _acknowledge(state, command)
        case ResolveAlerts():
            _resolve(state, command)
        case SilenceAlerts():
            _silence(state, command)
        case EndSilence():
            if state.silences.pop(command.silence, None) is None:
                raise Refusal("not_found", f"there is no silence {command.silence[:80]!r}")
        case _:
            assert_never(command)
    touch(state, at)
    return NOTHING


def _check_alerts(alerts: tuple[str, ...], reason: str) -> None:
    if not 1 <= len(alerts) <= ALERTS_AT_ONCE_MAX:
        raise Refusal("invalid_request", f"the request names {len(alerts)} alerts; 1 to {ALERTS_AT_ONCE_MAX} are right")
    for alert in alerts:
        check_text("the alert", alert, length_max=TEXT_MAX)
    check_text("the reason", reason, length_max=TEXT_MAX, may_be_empty=True)


def _check_end(what: str, ends_at_ms: WallMs, at_ms: WallMs) -> None:
    check_time("ends_at_ms", ends_at_ms)
    if ends_at_ms <= at_ms:
        raise Refusal("invalid_request", f"{what} would end before it begins; give it a later end")


def _acknowledge(state: ClusterState, command: AcknowledgeAlerts) -> None:
    _check_alerts(command.alerts, command.reason)
    if command.ends_at_ms is not None:
        _check_end("the acknowledgement", command.ends_at_ms, command.at_ms)
    deed = AlertDeedRecord(
        at_ms=command.at_ms, actor=command.actor, reason=command.reason, ends_at_ms=command.ends_at_ms
    )
    for alert in command.alerts:
        before = state.alert_marks.get(alert, AlertMarkRecord(alert=alert))
        _mark(state, msgspec.structs.replace(before, acknowledged=deed))


def _resolve(state: ClusterState, command: ResolveAlerts) -> None:
    _check_alerts(command.alerts, command.reason)
    deed = AlertDeedRecord(at_ms=command.at_ms, actor=command.actor, reason=command.reason)
    for alert in command.alerts:
        _mark(state, AlertMarkRecord(alert=alert, resolved=deed))  # who saw to it does no more


def _mark(state: ClusterState, mark: AlertMarkRecord) -> None:
    """The newest mark is the last of the table."""
    state.alert_marks.pop(mark.alert, None)
    state.alert_marks[mark.alert] = mark
    while len(state.alert_marks) > MARKS_KEPT:
        del state.alert_marks[next(iter(state.alert_marks))]


def _silence(state: ClusterState, command: SilenceAlerts) -> None:
    check_text("the silence's id", command.silence)
    check_text("the reason", command.reason, length_max=TEXT_MAX)
    check_text("the rule", command.rule, may_be_empty=True)
    _check_end("the silence", command.ends_at_ms, command.at_ms)
    for what, name in (("service", command.service), ("project", command.project), ("node", command.node)):
        if name is not None:
            check_text(f"the {what}", name)
    if not command.rule and not any((command.service, command.project, command.node)):
        raise Refusal(
            "invalid_request",
            "a silence of everything hides what nobody thought of; name a service, project, node or rule",
        )
    if command.silence in state.silences:
        raise Refusal("conflict", f"there is a silence {command.silence} already")
    kept = {name: one for name, one in state.silences.items() if one.ends_at_ms > command.at_ms}
    check_room("silences", len(kept), SILENCES_MAX, "end some")
    kept[command.silence] = SilenceRecord(
        id=command.silence,
        created_at_ms=command.at_ms,
        created_by=command.actor,
        ends_at_ms=command.ends_at_ms,
        reason=command.reason,
        service=command.service,
        project=command.project,
        node=command.node,
        rule=command.rule,
    )
    state.silences.clear()
    state.silences.update(kept)
