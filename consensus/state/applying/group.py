"""Settings, the schema in force, and the group's epoch."""

from typing import Final, assert_never

import msgspec
from msgspec import UNSET

from consensus.state.applying.results import NOTHING, Done, Refusal, check_text, touch
from consensus.state.cluster import ClusterState
from consensus.state.commands import BeginEpoch, ChangeSettings, GroupCommand, RaiseSchema
from consensus.state.schema import explain_lag
from orca.model.ids import StateRevision

VOTERS_MAX: Final = 7
EPOCH_MAX: Final = 4_096
"""Fencing numbers stay below 2**53, which every JSON reader keeps exact."""
KEY_VERSION_MAX: Final = 2**31


def apply_group(state: ClusterState, at: StateRevision, command: GroupCommand) -> Done:
    """Carry out a command about the cluster as a whole."""
    match command:
        case ChangeSettings():
            return _change_settings(state, at, command)
        case RaiseSchema():
            return _raise_schema(state, at, command)
        case BeginEpoch():
            if not state.epoch < command.epoch <= EPOCH_MAX:
                raise Refusal(
                    "conflict", f"the group is in epoch {state.epoch}; the next is larger and at most {EPOCH_MAX}"
                )
            state.epoch = command.epoch
            touch(state, at)
            return NOTHING
        case _:
            assert_never(command)


def _change_settings(state: ClusterState, at: StateRevision, command: ChangeSettings) -> Done:
    settings = state.settings
    if command.name is not UNSET:
        check_text("the cluster's name", command.name)
        settings = msgspec.structs.replace(settings, name=command.name)
    if command.voters is not UNSET:
        voters = command.voters
        if voters is not None and not (1 <= voters <= VOTERS_MAX and voters % 2):
            raise Refusal("invalid_request", f"{voters} voters cannot be; 1, 3, 5 or {VOTERS_MAX} is right")
        settings = msgspec.structs.replace(settings, voters=voters)
    if command.gossip_key_version is not UNSET:
        version = command.gossip_key_version
        if not settings.gossip_key_version < version <= KEY_VERSION_MAX:  # a version is one key's
            raise Refusal("conflict", f"the gossip key is at version {settings.gossip_key_version} and only goes on")
        settings = msgspec.structs.replace(settings, gossip_key_version=version)
    if command.gossip_key_removals is not UNSET:
        removals = command.gossip_key_removals
        if not settings.gossip_key_removals <= removals <= len(state.revoked):
            raise Refusal("conflict", f"{len(state.revoked)} nodes were removed, so no key is there for {removals}")
        settings = msgspec.structs.replace(settings, gossip_key_removals=removals)
    if settings != state.settings:
        state.settings = settings
        touch(state, at)
    return NOTHING


def _raise_schema(state: ClusterState, at: StateRevision, command: RaiseSchema) -> Done:
    if command.to <= state.schema:
        raise Refusal("conflict", f"schema {state.schema} is in force already")
    if not state.nodes:
        raise Refusal("conflict", "no node is admitted yet, so nobody knows what they all know")
    lag = explain_lag(state, command.to)
    if lag:
        raise Refusal("conflict", f"not every node knows schema {command.to}: {lag}")
    state.schema = command.to
    touch(state, at)
    return NOTHING
