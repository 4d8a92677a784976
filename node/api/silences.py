"""Copies whose nodes do not answer are shown as what was last known of them, with its age. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

from orca.model.ids import NodeId
from orca.model.view import AllocationView, MemberState, MemberView, ServiceView


class Known(msgspec.Struct, frozen=True):
    """What gossip says of a node: its name, and for how long it has said nothing (None: it answers)."""

    name: str
    silent_ms: int | None


def known_nodes(members: Iterable[MemberView]) -> dict[NodeId, Known]:
    """The nodes among `members`."""
    return {
        one.id: Known(one.name, _silent_ms(one) if one.state.is_gone or one.state is MemberState.SUSPECT else None)
        for one in members
        if one.id is not None
    }


def _silent_ms(member: MemberView) -> int:
    return member.state_age_ms if member.heard_age_ms is None else max(member.heard_age_ms, member.state_age_ms)


def mark_copies(copies: tuple[AllocationView, ...], nodes: Mapping[NodeId, Known]) -> tuple[AllocationView, ...]:
    """`copies` with the names of their nodes, and how long those have been silent."""
    return tuple(
        copy
        if (known := nodes.get(copy.node)) is None
        else msgspec.structs.replace(copy, node_name=known.name, silent_ms=known.silent_ms)
        for copy in copies
    )


def mark_services(services: tuple[ServiceView, ...], nodes: Mapping[NodeId, Known]) -> tuple[ServiceView, ...]:
    """The same for the copies of services."""
    return tuple(msgspec.structs.replace(one, allocations=mark_copies(one.allocations, nodes)) for one in services)


def unaged(services: tuple[ServiceView, ...]) -> tuple[ServiceView, ...]:
    """`services` without ages, which are others at each look: what is the same is told once."""
    return tuple(
        msgspec.structs.replace(
            one,
            allocations=tuple(
                copy if copy.silent_ms is None else msgspec.structs.replace(copy, silent_ms=0)
                for copy in one.allocations
            ),
        )
        for one in services
    )
