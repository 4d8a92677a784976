"""What a node shows of where copies go: why a service is where it is, and how far a drain is."""

import msgspec

from orca.model.ids import AllocationId, NodeId, RequestId, ServiceId
from orca.model.node import NodeAvailability
from orca.model.units import WallMs
from orca.model.view import Observation


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an answer; unknown keys are ignored, so that newer nodes may add some."""


class NodeVerdict(_View, frozen=True):
    """Whether a node can take one more copy; `refusal` says why not, empty when it can. `copies` are there now."""

    node: NodeId
    name: str
    copies: int
    refusal: str = ""
    is_alive: bool = True


class CopyReason(_View, frozen=True):
    """One copy, where it is, and why it stays, waits or goes."""

    allocation: AllocationId
    slot: int
    node: NodeId
    node_name: str
    reason: str


class WhyReply(_View, frozen=True):
    """Why the copies of a service are where they are. `waits_for`: why some are not placed, as this node sees it."""

    observation: Observation
    service: ServiceId
    wanted: int
    nodes: tuple[NodeVerdict, ...]
    copies: tuple[CopyReason, ...]
    waits_for: str = ""


class CopyLeft(_View, frozen=True):
    """A copy that is still on a node, and what it waits for."""

    allocation: AllocationId
    service: ServiceId
    slot: int
    reason: str


class NodeCareReply(_View, frozen=True):
    """What people decided about a node, and what it still has. `since_ms`, `by`, `reason`: of a cordon or drain."""

    observation: Observation
    node: NodeId
    name: str
    availability: NodeAvailability
    labels: dict[str, str]
    left: tuple[CopyLeft, ...]
    since_ms: WallMs | None = None
    by: str = ""
    reason: str = ""
    deadline_at_ms: WallMs | None = None


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of one node; `request_id` makes a retry safe."""

    request_id: RequestId | None = None


class LabelRequest(_Request, frozen=True):
    """Labels to set and to remove."""

    labels: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class CordonRequest(_Request, frozen=True):
    """No new work for the node."""

    reason: str = ""


class DrainRequest(_Request, frozen=True):
    """No new work, and what is there moves away; after `deadline_s` it is stopped wherever it is."""

    reason: str = ""
    deadline_s: float | None = None


class UndrainRequest(_Request, frozen=True):
    """The node takes work again."""
