"""Admission, certificates, labels, drains and removal of nodes."""

from typing import Final, assert_never

import msgspec

from consensus.state.applying.plans import forget_removed
from consensus.state.applying.results import (
    NOTHING,
    TEXT_MAX,
    Done,
    Refusal,
    check_room,
    check_text,
    check_time,
    touch,
    touch_plans,
)
from consensus.state.applying.tokens import spend_join_token
from consensus.state.applying.volumes import lose_volumes
from consensus.state.cluster import ClusterState
from consensus.state.commands import (
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
from consensus.state.records import CertificateRecord, DrainRecord, NodeRecord, RevokedNode
from orca.model.allocation import DesiredStatus
from orca.model.ids import NodeId, StateRevision
from orca.model.node import NodeAvailability
from orca.model.units import WallMs

NODES_MAX: Final = 10_000
LABELS_MAX: Final = 64
CERTIFICATES_KEPT: Final = 8
"""Good certificates of one node: the present one, its successor, and those of interrupted tries."""
SCHEMA_MAX: Final = 1_000_000
WRAP_KEY_BYTES: Final = 32


def apply_node(state: ClusterState, at: StateRevision, command: NodeCommand) -> Done:
    """Carry out a command about nodes."""
    match command:
        case AdmitNode():
            return _admit(state, at, command)
        case RedeemJoinToken():
            return _redeem(state, at, command)
        case RecordCertificate():
            return _record_certificate(state, at, command)
        case LabelNode():
            return _label(state, at, command)
        case CordonNode() | DrainNode() | UndrainNode():
            return _set_availability(state, at, command)
        case LeaveNode() | RemoveNode():
            return _remove(state, at, command)
        case _:
            assert_never(command)


def _existing(state: ClusterState, node: NodeId) -> NodeRecord:
    record = state.nodes.get(node)
    if record is None:
        _refuse_revoked(state, node)
        names = ", ".join(sorted(one.name for one in state.nodes.values())[:10]) or "none"
        raise Refusal("not_found", f"there is no node {node}; there are: {names}")
    return record


def _refuse_revoked(state: ClusterState, node: NodeId) -> None:
    revoked = state.revoked.get(node)
    if revoked is not None:
        raise Refusal(
            "forbidden",
            f"the node {revoked.name} ({node}) was removed from this cluster by {revoked.actor}, for ever; "
            "start it with an empty data directory and join with a new token",
        )


def _check_introduction(state: ClusterState, command: AdmitNode | RedeemJoinToken) -> None:
    """Refuse what no node may say of itself, whoever lets it in."""
    check_text("the node's id", command.node)
    check_text("the node's name", command.name)
    check_text("the node's key", command.key, may_be_empty=isinstance(command, AdmitNode))
    check_text("the node's release", command.release, may_be_empty=True)
    if len(command.wrap_key) not in {0, WRAP_KEY_BYTES}:
        raise Refusal(
            "invalid_request", f"a key to wrap for has {len(command.wrap_key)} bytes; X25519 has {WRAP_KEY_BYTES}"
        )
    _refuse_revoked(state, command.node)
    for addresses in [] if command.addresses is None else [command.addresses]:
        for kind in ("mesh", "gossip", "api"):
            check_text(f"the {kind} address", getattr(addresses, kind), may_be_empty=True)
    if command.certificate is not None:
        _check_certificate(command.certificate)
    for other in state.nodes.values():
        if other.name == command.name and other.id != command.node:
            raise Refusal(
                "conflict",
                f"another node is called {command.name} already ({other.id}); start this one under another name",
            )
    known = state.nodes.get(command.node)
    if known is None:
        check_room("nodes", len(state.nodes), NODES_MAX, "remove those that are gone")
    elif _is_other(command.key, known.key) or _is_other(command.wrap_key, known.wrap_key):
        raise Refusal(
            "forbidden", f"{command.node} is admitted with another key; a node keeps its key in its data directory"
        )
    schema = command.schema
    if isinstance(command, AdmitNode) and not schema:
        schema = 1 if known is None else known.schema
    if not state.schema <= schema <= SCHEMA_MAX:
        raise Refusal(
            "conflict",
            f"this cluster runs schema {state.schema} and the release of {command.name} knows {schema}; "
            f"install a newer release on {command.name}",
        )


def _is_other(key: str | bytes, known: str | bytes) -> bool:
    return bool(key and known and key != known)


def _admit(state: ClusterState, at: StateRevision, command: AdmitNode) -> Done:
    _check_introduction(state, command)
    known = state.nodes.get(command.node)
    present = known or NodeRecord(id=command.node, name=command.name, admitted_at_ms=command.at_ms)
    record = msgspec.structs.replace(
        present,
        name=command.name,
        addresses=command.addresses or present.addresses,
        key=command.key or present.key,
        wrap_key=command.wrap_key or present.wrap_key,
        certificates=_with_certificate(present, command.certificate, command.at_ms),
        schema=command.schema or present.schema,
        release=command.release or present.release,
    )
    if record != known:
        state.nodes[record.id] = record
        touch_plans(state, at)
    return NOTHING


def _redeem(state: ClusterState, at: StateRevision, command: RedeemJoinToken) -> Done:
    token = spend_join_token(state, command)
    _check_introduction(state, command)
    known = state.nodes.get(command.node)
    if known is not None and not known.key:
        # Its key was never told, so nobody can say that this is the same node.
        raise Refusal("forbidden", f"{command.node} is a node of this cluster already and did not join by a token")
    state.join_tokens[token.id] = token
    present = known or NodeRecord(id=command.node, name=command.name, admitted_at_ms=command.at_ms, role=token.role)
    state.nodes[command.node] = msgspec.structs.replace(
        present,
        name=command.name,
        key=command.key,
        wrap_key=command.wrap_key or present.wrap_key,
        addresses=command.addresses,
        certificates=_with_certificate(present, command.certificate, command.at_ms),
        schema=command.schema,
        release=command.release or present.release,
    )
    touch_plans(state, at)
    return NOTHING


def _check_certificate(certificate: CertificateRecord) -> None:
    check_text("the certificate's serial", certificate.serial)
    check_text("the certificate's fingerprint", certificate.fingerprint)
    check_text("the certificate's authority", certificate.authority, may_be_empty=True)
    check_time("the certificate's end", certificate.not_after_ms)


def _with_certificate(
    record: NodeRecord, new: CertificateRecord | None, at_ms: WallMs
) -> tuple[CertificateRecord, ...]:
    if new is None:
        return record.certificates
    kept = tuple(one for one in record.certificates if one.serial != new.serial and one.not_after_ms > at_ms)
    return (*kept, new)[-CERTIFICATES_KEPT:]


def _record_certificate(state: ClusterState, at: StateRevision, command: RecordCertificate) -> Done:
    record = _existing(state, command.node)
    _check_certificate(command.certificate)
    certificates: tuple[CertificateRecord, ...] = (command.certificate,)
    if not command.retires_others:
        certificates = _with_certificate(record, command.certificate, command.at_ms)
    state.nodes[record.id] = msgspec.structs.replace(record, certificates=certificates)
    touch(state, at)
    return NOTHING


def _label(state: ClusterState, at: StateRevision, command: LabelNode) -> Done:
    record = _existing(state, command.node)
    for key, value in command.labels.items():
        check_text("a label's key", key)
        check_text(f"the label {key}", value, may_be_empty=True)
    for key in command.remove:
        if key not in record.labels:
            present = ", ".join(sorted(record.labels)) or "none"
            raise Refusal("not_found", f"{record.name} has no label {key}; there are: {present}")
    kept = {key: value for key, value in record.labels.items() if key not in command.remove}
    labels = dict(sorted({**kept, **command.labels}.items()))
    check_room(f"labels on {record.name}", len(labels) - 1, LABELS_MAX, "remove some")
    if labels != record.labels:
        state.nodes[record.id] = msgspec.structs.replace(record, labels=labels)
        touch_plans(state, at)
    return NOTHING


def _set_availability(state: ClusterState, at: StateRevision, command: CordonNode | DrainNode | UndrainNode) -> Done:
    record = _existing(state, command.node)
    if isinstance(command, UndrainNode):
        changed = msgspec.structs.replace(record, availability=NodeAvailability.ACTIVE, drain=None)
    else:
        check_text("the reason", command.reason, length_max=TEXT_MAX, may_be_empty=True)
        is_drain = isinstance(command, DrainNode)
        deadline = command.deadline_at_ms if isinstance(command, DrainNode) else None
        if deadline is not None:
            check_time("the drain's deadline", deadline)
        changed = msgspec.structs.replace(
            record,
            availability=NodeAvailability.DRAINING if is_drain else NodeAvailability.CORDONED,
            drain=DrainRecord(
                since_ms=command.at_ms, actor=command.actor, reason=command.reason, deadline_at_ms=deadline
            ),
        )
    if changed != record:
        state.nodes[record.id] = changed
        touch_plans(state, at)
    return NOTHING


def _remove(state: ClusterState, at: StateRevision, command: LeaveNode | RemoveNode) -> Done:
    record = _existing(state, command.node)
    if isinstance(command, RemoveNode):
        check_text("the reason", command.reason, length_max=TEXT_MAX, may_be_empty=True)
    copies = list(state.copies.of_node(record.id).values())
    wanted = sum(one.desired is DesiredStatus.RUNNING for one in copies)
    if wanted and not command.is_forced:
        raise Refusal(
            "conflict", f"{record.name} is to run {wanted} copies; drain it first, or force it when it is gone for good"
        )
    keys = {version: key for version, key in state.data_keys.items() if record.id in key.wrapped}
    for version, key in keys.items():
        if len(key.wrapped) == 1:
            raise Refusal(
                "conflict",
                f"{record.name} is the only node that can open data key {version}, and without it no secret; "
                "let another node open it first",
            )
    for version, key in keys.items():
        wrapped = {node: value for node, value in key.wrapped.items() if node != record.id}
        is_exposed = key.is_exposed or isinstance(command, RemoveNode)
        state.data_keys[version] = msgspec.structs.replace(key, wrapped=wrapped, is_exposed=is_exposed)
    # Nobody will ever report these as ended: the node is not heard any more.
    for one in copies:
        del state.allocations[one.id]
    forget_removed(state)
    lose_volumes(state, record.id)
    del state.nodes[record.id]
    if isinstance(command, RemoveNode):
        state.revoked[record.id] = RevokedNode(
            id=record.id,
            name=record.name,
            at_ms=command.at_ms,
            actor=command.actor,
            reason=command.reason,
            key=record.key,
            certificates=record.certificates,
        )
    touch_plans(state, at)
    return NOTHING
