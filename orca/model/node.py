"""What others must know of a node."""

import enum

import msgspec

from orca.model.ids import NodeId
from orca.model.spec import RuntimeKind
from orca.model.units import Bytes, MilliCpu


class RuntimeState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a runtime of a node can take work, and why not."""

    kind: RuntimeKind
    is_available: bool
    version: str = ""
    reason: str = ""


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the scheduler and people see it; only the node itself writes it.

    `api` is where its API listens, as a URL; often only the node's own computer can knock there.
    """

    id: NodeId
    name: str
    version: str
    architecture: str
    cpu_milli: MilliCpu
    memory_bytes: Bytes
    labels: dict[str, str] = {}
    runtimes: tuple[RuntimeState, ...] = ()
    accepts_work: bool = True
    refusal: str = ""
    api: str = ""


class NodeAvailability(enum.Enum):
    """What people decided about a node: it takes work, keeps what it has, or gives it away."""

    ACTIVE = "active"
    CORDONED = "cordoned"
    DRAINING = "draining"


class NodeAddresses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where peers reach a node, as `host:port`; empty is not known or not offered."""

    mesh: str = ""
    gossip: str = ""
    api: str = ""
