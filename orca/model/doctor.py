"""What `orca doctor` finds: reports of nodes, and findings with what mends them."""

import enum

import msgspec

from orca.model.event import Severity
from orca.model.ids import NodeId
from orca.model.node import RuntimeState
from orca.model.units import WallMs
from orca.model.view import Observation


class LinkKind(enum.Enum):
    """A way from one node to another: a gossip ping by UDP or by TCP, or a call over the mesh."""

    UDP = "udp"
    TCP = "tcp"
    MESH = "mesh"


class LinkView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try to reach `peer`, made by the node whose report this is. `rtt_ms` None: it did not answer."""

    peer: NodeId
    kind: LinkKind
    address: str
    rtt_ms: float | None = None
    problem: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the peer answered."""
        return self.rtt_ms is not None


class DiskView(msgspec.Struct, frozen=True, kw_only=True):
    """Room where the node keeps its data."""

    path: str
    free_bytes: int
    total_bytes: int


class NodeReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node found out about itself and its ways to others.

    `store_bytes` of `store_bytes_max` are in use. `certificate_ends_at_ms` None: it has no certificate.
    """

    node: NodeId
    name: str
    version: str
    at_ms: WallMs
    links: tuple[LinkView, ...] = ()
    runtimes: tuple[RuntimeState, ...] = ()
    disks: tuple[DiskView, ...] = ()
    store_bytes: int = 0
    store_bytes_max: int = 0
    certificate_starts_at_ms: WallMs | None = None
    certificate_ends_at_ms: WallMs | None = None
    is_gossip_sealed: bool = True


class NodeExamination(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node as the observer could examine it: its report, or why there is none.

    `clock_offset_ms`: how much its clock is ahead of the observer's, right within `clock_error_ms`.
    """

    node: NodeId
    name: str
    report: NodeReport | None = None
    problem: str = ""
    heard_age_ms: int | None = None
    clock_offset_ms: int = 0
    clock_error_ms: int = 0
    is_voter: bool = False


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that is wrong or will be; `mend` is the command or the line that puts it right."""

    severity: Severity
    subject: str
    message: str
    mend: str = ""


class DoctorReply(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes as the one that was asked could examine them. `outlook`: what happens when a node dies."""

    observation: Observation
    nodes: tuple[NodeExamination, ...]
    findings: tuple[Finding, ...]
    outlook: tuple[str, ...]
