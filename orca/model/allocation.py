"""One placed copy of a service: what was decided, and what its node sees."""

import enum

import msgspec

from orca.model.ids import AllocationId, NodeId, ServiceId, SpecRevision
from orca.model.spec import Protocol
from orca.model.units import WallMs


class DesiredStatus(enum.Enum):
    """What the cluster decided about an allocation; it never goes back from `stopped`."""

    RUNNING = "running"
    STOPPED = "stopped"


class Phase(enum.Enum):
    """How far an allocation is, as its node sees it.

    pending → preparing (pull, compile) → starting → running → stopping → stopped.
    A copy that died and will be tried again is in `backoff`; one that ended for good is
    `completed` (exit 0) or `failed`.
    """

    PENDING = "pending"
    PREPARING = "preparing"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"


TERMINAL_PHASES = frozenset({Phase.STOPPED, Phase.COMPLETED, Phase.FAILED})


class Allocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A decision: copy number `slot` of `service` at `revision` belongs on `node`.

    `template` is the hash of what a running copy depends on; a newer revision with the
    same template takes the copy over as it is.
    """

    id: AllocationId
    service: ServiceId
    revision: SpecRevision
    template: str
    slot: int
    node: NodeId
    desired: DesiredStatus = DesiredStatus.RUNNING
    created_at_ms: WallMs = WallMs(0)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where `port` of an instance is reached from its own node."""

    port: int
    host: str
    host_port: int
    protocol: Protocol = Protocol.TCP


class PrepareProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a pull or a compilation is; `total` 0 means unknown."""

    step: str
    current: int = 0
    total: int = 0


class AllocationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A belief: what the node `node` last saw of one allocation.

    Only that node writes it. `version` counts its changes in one life of that node, and begins anew with the next.
    `is_ready` decides traffic. `reason` says in words why it is where it is ("exit code 1 (3 restarts)").
    `since_ms` is when the phase or readiness last changed, `ready_since_ms` when it
    last became ready.
    """

    allocation: AllocationId
    service: ServiceId
    node: NodeId
    revision: SpecRevision
    version: int = 0
    phase: Phase = Phase.PENDING
    is_ready: bool = False
    reason: str = ""
    restarts: int = 0
    exit_code: int | None = None
    since_ms: WallMs = WallMs(0)
    started_at_ms: WallMs | None = None
    ready_since_ms: WallMs | None = None
    next_start_at_ms: WallMs | None = None
    endpoints: tuple[Endpoint, ...] = ()
    progress: PrepareProgress | None = None
