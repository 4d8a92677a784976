"""What can be asked of the replicated state; the payloads of the log.

Wire rules: every struct has a tag, new fields have defaults, none is ever renamed or
retyped. A field at its default is not in the bytes; an unknown field or tag stops the
release that meets it (`consensus.state.schema` says when a newer one may be used).

Checklist for a new command:

1. The struct, in the file of its noun here, from `Change` (somebody asked for it: carried out
   once a `request_id`, audited) or `Duty` (the cluster's own; safe to repeat, not audited), with
   a new tag, and `since` = the next schema when a release without it is in use. Raise `SCHEMA`.
2. Its noun's union (`NodeCommand`, ...); a new noun also goes into `Command` below.
3. Its case in `consensus.state.applying.<noun>`; every refusal has a code of `orca.errors` and
   says what would be right. `at_ms` and ids come from the command; nothing is read from outside.
4. What it is about, for the audit, in `consensus.state.applying.auditing`.
5. Limits: every collection that it can fill has one, checked in `applying`.
6. Tests: a table test of what it does and refuses, a strategy in
   `tests/consensus/state/drawn_commands.py`, an invariant in `ClusterState.check_invariants`.
"""

from typing import TypeAlias

import msgspec

from consensus.state.commands import base
from consensus.state.commands.alerts import (
    AcknowledgeAlerts,
    AlertCommand,
    EndSilence,
    ResolveAlerts,
    SilenceAlerts,
)
from consensus.state.commands.base import Change, CommandStruct, Duty
from consensus.state.commands.deeds import AuditCommand, RecordDeed
from consensus.state.commands.group import BeginEpoch, ChangeSettings, GroupCommand, RaiseSchema
from consensus.state.commands.leases import (
    AcquireLease,
    ExpireLeases,
    LeaseCommand,
    LeaseRef,
    ReleaseLeases,
    RenewLeases,
)
from consensus.state.commands.locks import AcquireLock, LockCommand, ReleaseLock
from consensus.state.commands.nodes import (
    AdmitNode,
    CordonNode,
    DrainNode,
    LabelNode,
    LeaveNode,
    NodeCommand,
    RecordCertificate,
    RedeemJoinToken,
    RemoveNode,
    UndrainNode,
)
from consensus.state.commands.notices import (
    ClaimNotices,
    NoticeCommand,
    NoticeEntry,
    PutChannel,
    RemoveChannel,
    SettleNotices,
)
from consensus.state.commands.services import (
    CommitPlan,
    PauseService,
    PromoteService,
    PutServices,
    RemoveService,
    RestartService,
    ResumeService,
    RollbackService,
    RolloutUpdate,
    ScaleService,
    ServiceCommand,
    SpecEntry,
    StartService,
    StopService,
)
from consensus.state.commands.trust import (
    AuthorityCommand,
    CreateApiToken,
    CreateJoinToken,
    CreateWebhook,
    DeleteSecrets,
    DropAuthority,
    DropDataKey,
    PutAuthority,
    PutDataKey,
    PutIngressAuthority,
    PutSecrets,
    RemoveWebhook,
    ResealSecrets,
    RevokeApiToken,
    RevokeJoinToken,
    SealedEntry,
    SecretCommand,
    SignBy,
    TokenCommand,
    WebhookCommand,
    WrapDataKey,
)
from orca.errors import InvalidRequestError, PeerProtocolError

Command: TypeAlias = (
    ServiceCommand
    | CommitPlan
    | NodeCommand
    | TokenCommand
    | AuthorityCommand
    | SecretCommand
    | WebhookCommand
    | LockCommand
    | AlertCommand
    | NoticeCommand
    | LeaseCommand
    | GroupCommand
    | AuditCommand
)

_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_encoder = msgspec.msgpack.Encoder()


def encode_command(command: Command) -> bytes:
    """The payload of the log entry that carries `command`.

    Raises InvalidRequestError for one whose values are not of their types: the log would
    take it, and then no replica could read on.
    """
    try:
        payload = _encoder.encode(command)
        _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeError, OverflowError, TypeError) as error:
        raise InvalidRequestError(f"the change cannot be written into the log: {error}") from error
    return payload


def decode_command(payload: bytes) -> Command:
    """The command in `payload`.

    Raises PeerProtocolError for bytes that are none that this release knows: a replica
    must then stop applying rather than skip what others will apply.
    """
    try:
        command = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PeerProtocolError(
            f"a log entry holds a command that this release does not know ({error}); update this node"
        ) from error
    if isinstance(command, RaiseSchema) and command.to > base.SCHEMA:
        raise PeerProtocolError(
            f"the cluster goes on to schema {command.to} and this release knows {base.SCHEMA}; update this node"
        )
    return command


__all__ = [
    "AcknowledgeAlerts",
    "AcquireLease",
    "AcquireLock",
    "AdmitNode",
    "AlertCommand",
    "AuditCommand",
    "AuthorityCommand",
    "BeginEpoch",
    "Change",
    "ChangeSettings",
    "ClaimNotices",
    "Command",
    "CommandStruct",
    "CommitPlan",
    "CordonNode",
    "CreateApiToken",
    "CreateJoinToken",
    "CreateWebhook",
    "DeleteSecrets",
    "DrainNode",
    "DropAuthority",
    "DropDataKey",
    "Duty",
    "EndSilence",
    "ExpireLeases",
    "GroupCommand",
    "LabelNode",
    "LeaseCommand",
    "LeaseRef",
    "LeaveNode",
    "LockCommand",
    "NodeCommand",
    "NoticeCommand",
    "NoticeEntry",
    "PauseService",
    "PromoteService",
    "PutAuthority",
    "PutChannel",
    "PutDataKey",
    "PutIngressAuthority",
    "PutSecrets",
    "PutServices",
    "RaiseSchema",
    "RecordCertificate",
    "RecordDeed",
    "RedeemJoinToken",
    "ReleaseLeases",
    "ReleaseLock",
    "RemoveChannel",
    "RemoveNode",
    "RemoveService",
    "RemoveWebhook",
    "RenewLeases",
    "ResealSecrets",
    "ResolveAlerts",
    "RestartService",
    "ResumeService",
    "RevokeApiToken",
    "RevokeJoinToken",
    "RollbackService",
    "RolloutUpdate",
    "ScaleService",
    "SealedEntry",
    "SecretCommand",
    "ServiceCommand",
    "SettleNotices",
    "SignBy",
    "SilenceAlerts",
    "SpecEntry",
    "StartService",
    "StopService",
    "TokenCommand",
    "UndrainNode",
    "WebhookCommand",
    "WrapDataKey",
    "decode_command",
    "encode_command",
]
