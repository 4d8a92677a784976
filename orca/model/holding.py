"""Who holds what: the deploy lock of a project, the lease of a singleton."""

import msgspec

from orca.model.ids import AllocationId, LeaseEpoch, NodeId, ProjectName
from orca.model.units import WallMs


class LockView(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds back deploys to `project`, since when and why; None as the end: until it is released.

    `id` is what a deploy names to be let through.
    """

    id: str
    project: ProjectName
    holder: str
    since_ms: WallMs
    origin: str = ""
    note: str = ""
    expires_at_ms: WallMs | None = None


class LeaseView(msgspec.Struct, frozen=True, kw_only=True):
    """The lease of a singleton: which copy has it, on which node, and its number, the fence."""

    allocation: AllocationId
    node: NodeId
    fence: LeaseEpoch
    node_name: str = ""
