"""A node of the cluster as gossip has it. Pure."""

import msgspec

from orca.model.ids import NodeId
from orca.model.view import MemberState

_ALIVE = frozenset({MemberState.ALIVE, MemberState.SUSPECT, MemberState.LEAVING})


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A node as gossip has it, or last had it."""

    node: NodeId
    name: str
    zone: str
    state: MemberState
    state_age_s: float

    @property
    def is_alive(self) -> bool:
        """Whether it is believed to answer."""
        return self.state in _ALIVE
