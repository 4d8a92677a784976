"""The group that decides, as the API shows it."""

import enum

import msgspec

from orca.model.ids import NodeId
from orca.model.view import MemberState, Observation


class RecoverRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Start the group anew from the node that is asked. With `force` also when others may know more."""

    force: bool = False


class QuorumRole(enum.Enum):
    """A node's place in the group that decides."""

    LEADER = "leader"
    VOTER = "voter"
    LEARNER = "learner"
    NONE = "none"


class QuorumMember(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node and its place in the group.

    `state`: as gossip has it, None when it does not know the node. `index`, `lag`, `contact_age_ms`:
    how far its log goes, by how many entries it is behind, and how long ago it was heard;
    only the leader knows those of others. `reason`: why it was chosen, or let go.
    """

    id: NodeId
    name: str
    role: QuorumRole
    zone: str = ""
    state: MemberState | None = None
    state_age_ms: int | None = None
    index: int | None = None
    lag: int | None = None
    contact_age_ms: int | None = None
    reason: str = ""


class QuorumReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The group that decides. `epoch` counts how often it was started anew by hand.

    `wanted`: how many voters a cluster of this size should have. `has_quorum`: whether, as far as
    gossip knows, enough voters live for anything to be decided.
    """

    observation: Observation
    term: int
    epoch: int
    leader: NodeId | None
    commit_index: int
    applied_index: int
    wanted: int
    voters_alive: int
    has_quorum: bool
    members: tuple[QuorumMember, ...]
    last_change: str = ""
