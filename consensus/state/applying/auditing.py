"""The audit: who asked for what, from where, and what came of it. Two bounded rings in the state.

One has every change that the log carried, refused ones too, and what nodes did by themselves;
the other has what nodes refused before it came to the log.
"""

from collections.abc import Sequence
from typing import Final

from consensus.state.applying.results import NOTHING, TEXT_MAX, Done, Refusal, check_text
from consensus.state.cluster import AUDIT_KEPT, REFUSALS_KEPT, ClusterState, trim
from consensus.state.commands import (
    AcknowledgeAlerts,
    AcquireLock,
    AdmitNode,
    Change,
    DeleteSecrets,
    PutSecrets,
    PutServices,
    RecordDeed,
    ResealSecrets,
    ResolveAlerts,
    SilenceAlerts,
)
from consensus.state.records import AuditRecord, Outcome
from orca.model.ids import LogIndex, ServiceId, display_name

SUBJECTS_SHOWN: Final = 5
TEXT_SHOWN: Final = 300
_SUBJECT_FIELDS: Final = {
    "service": "",
    "node": "",
    "token": "token ",
    "authority": "CA ",
    "webhook": "webhook ",
    "version": "data key ",
    "to": "schema ",
    "epoch": "epoch ",
    "silence": "silence ",
    "channel": "channel ",
    "project": "project ",
}
"""The first of these fields that a command has says what it is about."""


def apply_deed(command: RecordDeed) -> Done:
    """Check what a node reports; `note` keeps it."""
    check_text("the action", command.action)
    check_text("the result", command.result)
    check_text("the subject", command.subject, length_max=TEXT_MAX, may_be_empty=True)
    check_text("the message", command.message, length_max=TEXT_MAX, may_be_empty=True)
    if command.count < 1:
        raise Refusal("invalid_request", f"a record of {command.count} deeds says nothing; 1 or more is right")
    return NOTHING


def note(state: ClusterState, index: LogIndex, command: Change | AdmitNode, outcome: Outcome) -> None:
    """Add what became of `command` to the audit."""
    if isinstance(command, RecordDeed) and not outcome.error:
        _note_deed(state, index, command)
        return
    tag = type(command).__struct_config__.tag
    state.audit[index] = AuditRecord(
        index=index,
        at_ms=command.at_ms,
        actor=_shown(command.actor),
        origin=_shown(command.origin),
        action=str(tag),
        subject=_shown(subject_of(command)),
        result=outcome.error or "ok",
        message=_shown(outcome.message),
    )
    trim(state.audit, AUDIT_KEPT)


def _note_deed(state: ClusterState, index: LogIndex, deed: RecordDeed) -> None:
    is_refusal = deed.result != "ok"
    table = state.refusals if is_refusal else state.audit
    table[index] = AuditRecord(
        index=index,
        at_ms=deed.at_ms,
        actor=_shown(deed.actor),
        origin=_shown(deed.origin),
        action=deed.action,
        subject=_shown(deed.subject),
        result=deed.result,
        message=_shown(deed.message),
        count=deed.count,
    )
    trim(table, REFUSALS_KEPT if is_refusal else AUDIT_KEPT)


def subject_of(command: Change | AdmitNode) -> str:
    """What `command` is about, in a few words; of a secret its name and nothing else."""
    match command:
        case PutServices():
            return _listed([display_name(entry.spec.id) for entry in command.entries])
        case PutSecrets() | ResealSecrets():
            return _listed([entry.secret for entry in command.entries])
        case AcquireLock():
            return _listed([f"project {project}" for project in command.projects])
        case AcknowledgeAlerts() | ResolveAlerts():
            return _listed(command.alerts)
        case SilenceAlerts():
            return f"silence {command.silence}: {_fitting(command)}"
        case DeleteSecrets():
            return _listed(command.secrets)
        case _:
            return _by_field(command)


def _by_field(command: Change | AdmitNode) -> str:
    for name, words in _SUBJECT_FIELDS.items():
        value = getattr(command, name, None)
        if value is not None:
            return words + (display_name(ServiceId(value)) if name == "service" else str(value))
    return "the cluster"


def _fitting(command: SilenceAlerts) -> str:
    service = None if command.service is None else display_name(command.service)
    named = (("service", service), ("project", command.project), ("node", command.node), ("rule", command.rule))
    return ", ".join(f"{what} {name}" for what, name in named if name)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SUBJECTS_SHOWN
    return ", ".join(names[:SUBJECTS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _shown(text: str) -> str:
    return text if len(text) <= TEXT_SHOWN else text[: TEXT_SHOWN - 1] + "…"
