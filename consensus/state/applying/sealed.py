"""Sealed secrets and the data keys that seal them. Only ciphertext ever comes here."""

from typing import Final, assert_never

import msgspec

from consensus.state.applying.results import NOTHING, Done, Refusal, check_room, check_text, touch, touch_plans
from consensus.state.applying.services import renew_users, users_of
from consensus.state.cluster import ClusterState
from consensus.state.commands import (
    DeleteSecrets,
    DropDataKey,
    PutDataKey,
    PutSecrets,
    ResealSecrets,
    SealedEntry,
    SecretCommand,
    WrapDataKey,
)
from consensus.state.records import DataKeyRecord, SecretRecord
from orca.model.ids import NodeId, SecretId, StateRevision, display_name

SECRETS_MAX: Final = 10_000
DATA_KEYS_MAX: Final = 16
CIPHERTEXT_BYTES_MIN: Final = 12 + 16
"""AES-GCM: nonce and tag around an empty value. Shorter is certainly not sealed."""
CIPHERTEXT_BYTES_MAX: Final = 256 * 1024
WRAPPED_BYTES_MAX: Final = 4_096


def apply_secret(state: ClusterState, at: StateRevision, command: SecretCommand) -> Done:
    """Carry out a command about secrets or their keys."""
    match command:
        case PutDataKey():
            return _put_data_key(state, at, command)
        case WrapDataKey():
            return _wrap_data_key(state, at, command)
        case DropDataKey():
            return _drop_data_key(state, at, command)
        case PutSecrets():
            return _put_secrets(state, at, command)
        case ResealSecrets():
            return _reseal_secrets(state, at, command)
        case DeleteSecrets():
            return _delete_secrets(state, at, command)
        case _:
            assert_never(command)


def _data_key(state: ClusterState, version: int) -> DataKeyRecord:
    key = state.data_keys.get(version)
    if key is None:
        present = ", ".join(str(one) for one in state.data_keys) or "none"
        raise Refusal("not_found", f"there is no data key {version}; there are: {present}")
    return key


def _check_wrapped(state: ClusterState, wrapped: dict[NodeId, bytes]) -> None:
    for node, content in wrapped.items():
        if node not in state.nodes:
            raise Refusal("not_found", f"the data key is wrapped for {node}, which is no node of this cluster")
        if not 0 < len(content) <= WRAPPED_BYTES_MAX:
            raise Refusal(
                "invalid_request", f"a wrapped key has {len(content)} bytes; 1 to {WRAPPED_BYTES_MAX} is right"
            )


def _put_data_key(state: ClusterState, at: StateRevision, command: PutDataKey) -> Done:
    newest = max(state.data_keys, default=0)
    if command.version != newest + 1:
        raise Refusal("conflict", f"the newest data key is {newest}, so the next one is {newest + 1}; look again")
    check_room("data keys", len(state.data_keys), DATA_KEYS_MAX, "seal the secrets of old ones anew and drop those")
    if not command.wrapped:
        raise Refusal("invalid_request", "the data key is wrapped for nobody, so nobody could open what it seals")
    _check_wrapped(state, command.wrapped)
    wrapped = dict(sorted(command.wrapped.items()))
    state.data_keys[command.version] = DataKeyRecord(
        version=command.version, created_at_ms=command.at_ms, wrapped=wrapped
    )
    touch(state, at)
    return NOTHING


def _wrap_data_key(state: ClusterState, at: StateRevision, command: WrapDataKey) -> Done:
    key = _data_key(state, command.version)
    _check_wrapped(state, command.wrapped)
    kept = {node: content for node, content in key.wrapped.items() if node not in command.unwrap}
    wrapped = dict(sorted({**kept, **command.wrapped}.items()))
    if not wrapped:
        raise Refusal("conflict", f"nobody could open data key {key.version} any more; let another node open it first")
    if wrapped != key.wrapped:
        state.data_keys[key.version] = msgspec.structs.replace(key, wrapped=wrapped)
        touch(state, at)
    return NOTHING


def _drop_data_key(state: ClusterState, at: StateRevision, command: DropDataKey) -> Done:
    key = _data_key(state, command.version)
    users = [secret.id for secret in state.secrets.values() if secret.key_version == key.version]
    if users:
        raise Refusal(
            "conflict", f"data key {key.version} seals {len(users)} secrets, {min(users)} for one; seal them anew first"
        )
    served = () if state.ingress_authority is None else (state.ingress_authority,)
    if any(authority.key_version == key.version for authority in (*state.authorities.values(), *served)):
        raise Refusal("conflict", f"data key {key.version} seals the private key of a CA; seal that anew first")
    if key.version == max(state.data_keys):
        # Its number would come again, for another key.
        raise Refusal("conflict", f"data key {key.version} is the newest; put a newer one first")
    del state.data_keys[key.version]
    touch(state, at)
    return NOTHING


def _check_entries(state: ClusterState, entries: tuple[SealedEntry, ...]) -> None:
    if not entries:
        raise Refusal("invalid_request", "no secret is named")
    if len({entry.secret for entry in entries}) != len(entries):
        raise Refusal("invalid_request", "one request names the same secret twice")
    for entry in entries:
        project, slash, name = entry.secret.partition("/")
        check_text("a secret's name", name)
        check_text("a secret's project", project, may_be_empty=True)
        if not slash:
            raise Refusal("invalid_request", f"{entry.secret} is no id of a secret; <project>/<name> is right")
        _data_key(state, entry.key_version)
        if not CIPHERTEXT_BYTES_MIN <= len(entry.ciphertext) <= CIPHERTEXT_BYTES_MAX:
            raise Refusal(
                "invalid_request",
                f"{entry.secret} has {len(entry.ciphertext)} sealed bytes; "
                f"{CIPHERTEXT_BYTES_MIN} to {CIPHERTEXT_BYTES_MAX} is right",
            )
        known = state.secrets.get(entry.secret)
        version = 0 if known is None else known.version
        if entry.expected is not None and entry.expected != version:
            raise Refusal(
                "conflict",
                f"{entry.secret} is at version {version} and was expected at {entry.expected}; read it and try again",
            )


def _put_secrets(state: ClusterState, at: StateRevision, command: PutSecrets) -> Done:
    _check_entries(state, command.entries)
    new = sum(entry.secret not in state.secrets for entry in command.entries)
    check_room("secrets", len(state.secrets) + new - 1, SECRETS_MAX, "delete some")
    for entry in command.entries:
        known = state.secrets.get(entry.secret)
        state.secrets[entry.secret] = SecretRecord(
            id=entry.secret,
            version=at,
            key_version=entry.key_version,
            ciphertext=entry.ciphertext,
            created_at_ms=command.at_ms if known is None else known.created_at_ms,
            updated_at_ms=command.at_ms,
            updated_by=command.actor,
        )
    touch_plans(state, at)
    names = tuple(entry.secret for entry in command.entries)
    return msgspec.structs.replace(renew_users(state, at, names, command), secrets=names)


def _reseal_secrets(state: ClusterState, at: StateRevision, command: ResealSecrets) -> Done:
    _check_entries(state, command.entries)
    for entry in command.entries:
        known = state.secrets.get(entry.secret)
        if known is None or entry.expected is None:
            raise Refusal("conflict", f"{entry.secret} must exist, at the version that was sealed anew")
        if entry.key_version < known.key_version:
            raise Refusal("conflict", f"{entry.secret} is sealed with the newer data key {known.key_version} already")
    for entry in command.entries:
        state.secrets[entry.secret] = msgspec.structs.replace(
            state.secrets[entry.secret], key_version=entry.key_version, ciphertext=entry.ciphertext
        )
    touch(state, at)
    return Done(secrets=tuple(entry.secret for entry in command.entries))


def _delete_secrets(state: ClusterState, at: StateRevision, command: DeleteSecrets) -> Done:
    names: tuple[SecretId, ...] = tuple(dict.fromkeys(command.secrets))
    if not names:
        raise Refusal("invalid_request", "no secret is named")
    for name in names:
        if name not in state.secrets:
            raise Refusal("not_found", f"there is no secret {name}")
        users = users_of(state, name)
        if users:
            raise Refusal(
                "conflict",
                f"the secret {name} is used by {', '.join(map(display_name, users[:5]))}; "
                "deploy them without it first, or remove them",
            )
        told = [channel.name for channel in state.channels.values() if channel.secret == name]
        if told:
            raise Refusal("conflict", f"the secret {name} is the address of the channel {min(told)}; remove that first")
    for name in names:
        del state.secrets[name]
    touch_plans(state, at)
    return Done(secrets=names)
