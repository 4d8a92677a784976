"""What a node has to do about keys and authorities, read off the state. Pure."""

from collections.abc import Mapping

import msgspec

from consensus.state.cluster import ClusterState
from consensus.state.records import AuthorityRecord
from orca.model.ids import NodeId
from orca.model.trust import AuthorityState, NodeRole


def signing_authority(state: ClusterState) -> AuthorityRecord | None:
    """The authority that signs now."""
    return next((one for one in state.authorities.values() if one.state is AuthorityState.SIGNING), None)


class Wrapping(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to be able to open data key `version`, and who no more."""

    version: int
    wrap_for: Mapping[NodeId, bytes]
    unwrap: tuple[NodeId, ...] = ()


def wrappings_due(state: ClusterState) -> list[Wrapping]:
    """Every member with a key to wrap for opens every data key; nobody else does."""
    due = []
    members = {node: one.wrap_key for node, one in state.nodes.items() if one.role is NodeRole.MEMBER and one.wrap_key}
    for version, key in sorted(state.data_keys.items()):
        missing = {node: wrap_key for node, wrap_key in members.items() if node not in key.wrapped}
        surplus = tuple(
            node for node in key.wrapped if node in state.nodes and state.nodes[node].role is not NodeRole.MEMBER
        )
        if missing or surplus:
            due.append(Wrapping(version=version, wrap_for=missing, unwrap=surplus))
    return due


def is_wrapper(
    state: ClusterState, version: int, node: NodeId, leader: NodeId | None, alive: frozenset[NodeId]
) -> bool:
    """Whether it is for `node` to wrap a data key: the leader when it can, else the first living one that can."""
    able = state.data_keys[version].wrapped
    if node not in able:
        return False
    if leader in able:
        return node == leader
    return node == min((one for one in able if one == node or one in alive), default=node)


class Succession(msgspec.Struct, frozen=True, kw_only=True):
    """How far a change of authority is.

    `follow`: the newest authority, which is to sign; `drop`: those whose time is over; `waiting`: nodes
    without a certificate of the one that signs, by name.
    """

    follow: str = ""
    drop: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


def succession_of(state: ClusterState) -> Succession:
    """What is left to do until one authority is alone again."""
    signing = signing_authority(state)
    if signing is None or len(state.authorities) < 2:
        return Succession()
    newest = max(state.authorities.values(), key=lambda one: (one.created_at_ms, one.fingerprint))
    waiting = tuple(
        sorted(
            one.name
            for one in state.nodes.values()
            if not any(certificate.authority == signing.fingerprint for certificate in one.certificates)
        )
    )
    if newest.fingerprint != signing.fingerprint:
        return Succession(follow=newest.fingerprint, waiting=waiting)
    older = tuple(sorted(one for one in state.authorities if one != signing.fingerprint))
    return Succession(drop=() if waiting else older, waiting=waiting)
