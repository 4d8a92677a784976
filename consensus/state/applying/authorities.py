"""The cluster's certificate authorities: put, made to sign, dropped. Their private keys come sealed."""

import hashlib
from typing import Final, assert_never

import msgspec

from consensus.state.applying.results import NOTHING, Done, Refusal, check_room, touch
from consensus.state.cluster import ClusterState
from consensus.state.commands import AuthorityCommand, DropAuthority, PutAuthority, PutIngressAuthority, SignBy
from consensus.state.records import AuthorityRecord
from orca.model.ids import StateRevision
from orca.model.trust import AuthorityState

AUTHORITIES_MAX: Final = 4
"""The present one, its successor, and those of a change that was cut off."""
CERTIFICATE_BYTES_MAX: Final = 4_096
SEALED_BYTES_MIN: Final = 12 + 16 + 1
SEALED_BYTES_MAX: Final = 4_096


def apply_authority(state: ClusterState, at: StateRevision, command: AuthorityCommand) -> Done:
    """Carry out a command about authorities."""
    match command:
        case PutAuthority():
            _put(state, command)
        case PutIngressAuthority():
            _put_for_ingress(state, command)
        case SignBy():
            _sign_by(state, command)
        case DropAuthority():
            _drop(state, command)
        case _:
            assert_never(command)
    touch(state, at)
    return NOTHING


def _existing(state: ClusterState, fingerprint: str) -> AuthorityRecord:
    record = state.authorities.get(fingerprint)
    if record is None:
        present = ", ".join(one[:12] for one in state.authorities) or "none"
        raise Refusal("not_found", f"there is no authority {fingerprint:.12}; there are: {present}")
    return record


def _check_size(what: str, content: bytes) -> None:
    if len(content) > CERTIFICATE_BYTES_MAX:
        raise Refusal("invalid_request", f"the CA's {what} has {len(content)} bytes; {CERTIFICATE_BYTES_MAX} fit")


def _check(state: ClusterState, command: PutAuthority | PutIngressAuthority) -> None:
    _check_size("certificate", command.certificate)
    if hashlib.sha256(command.certificate).hexdigest() != command.authority:
        raise Refusal("invalid_request", "an authority is filed under the SHA-256 of its certificate, in hex")
    if not SEALED_BYTES_MIN <= len(command.sealed_key) <= SEALED_BYTES_MAX:
        raise Refusal(
            "invalid_request",
            f"the sealed key of a CA has {len(command.sealed_key)} bytes; "
            f"{SEALED_BYTES_MIN} to {SEALED_BYTES_MAX} is right",
        )
    if command.key_version not in state.data_keys:
        present = ", ".join(str(one) for one in state.data_keys) or "none"
        raise Refusal("not_found", f"there is no data key {command.key_version}; there are: {present}")


def _resealed(known: AuthorityRecord, command: PutAuthority | PutIngressAuthority) -> AuthorityRecord:
    if command.key_version < known.key_version:
        raise Refusal("conflict", f"the CA's key is sealed with the newer data key {known.key_version} already")
    return msgspec.structs.replace(known, sealed_key=command.sealed_key, key_version=command.key_version)


def _put_for_ingress(state: ClusterState, command: PutIngressAuthority) -> None:
    _check(state, command)
    known = state.ingress_authority
    if known is not None and known.fingerprint == command.replaces:
        known = None
    if known is not None and known.fingerprint != command.authority:
        raise Refusal("conflict", f"authority {known.fingerprint:.12} signs for served names already")
    state.ingress_authority = (
        _resealed(known, command)
        if known is not None
        else AuthorityRecord(
            fingerprint=command.authority,
            certificate=command.certificate,
            sealed_key=command.sealed_key,
            key_version=command.key_version,
            created_at_ms=command.at_ms,
            state=AuthorityState.SIGNING,
        )
    )


def _put(state: ClusterState, command: PutAuthority) -> None:
    _check_size("cross certificate", command.cross)
    _check(state, command)
    known = state.authorities.get(command.authority)
    if known is not None:
        changed = _resealed(known, command)
    else:
        check_room("authorities", len(state.authorities), AUTHORITIES_MAX, "wait until older ones are dropped")
        changed = AuthorityRecord(
            fingerprint=command.authority,
            certificate=command.certificate,
            sealed_key=command.sealed_key,
            key_version=command.key_version,
            created_at_ms=command.at_ms,
            state=AuthorityState.TRUSTED if state.authorities else AuthorityState.SIGNING,
            cross=command.cross,
        )
    state.authorities[command.authority] = changed


def _sign_by(state: ClusterState, command: SignBy) -> None:
    chosen = _existing(state, command.authority)
    for fingerprint, record in state.authorities.items():
        wanted = AuthorityState.SIGNING if record is chosen else AuthorityState.TRUSTED
        state.authorities[fingerprint] = msgspec.structs.replace(record, state=wanted)


def _drop(state: ClusterState, command: DropAuthority) -> None:
    record = _existing(state, command.authority)
    if record.state is AuthorityState.SIGNING:
        raise Refusal("conflict", f"authority {record.fingerprint:.12} signs; let another one sign first")
    kept = {
        node: tuple(one for one in known.certificates if one.authority != record.fingerprint)
        for node, known in state.nodes.items()
    }
    without = sorted(
        state.nodes[node].name for node, rest in kept.items() if state.nodes[node].certificates and not rest
    )
    if without and not command.is_forced:
        raise Refusal(
            "conflict",
            f"{', '.join(without[:10])} would be shut out: no other authority has signed for them yet; "
            "start them, or remove those that will not come back",
        )
    for node, rest in kept.items():
        if rest != state.nodes[node].certificates:
            state.nodes[node] = msgspec.structs.replace(state.nodes[node], certificates=rest)
    del state.authorities[record.fingerprint]
