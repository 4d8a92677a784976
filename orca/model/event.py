"""What happens to services, allocations and nodes, as people read it."""

import enum

import msgspec

from orca.model.ids import AllocationId, LogIndex, NodeId, ServiceId, SpecRevision
from orca.model.units import WallMs


class EventKind(enum.Enum):
    """What happened; the name is stable and goes to logs, API and alerts."""

    SERVICE_DEPLOYED = "service.deployed"
    SERVICE_SCALED = "service.scaled"
    SERVICE_STOPPED = "service.stopped"
    SERVICE_STARTED = "service.started"
    SERVICE_RESTARTED = "service.restarted"
    SERVICE_ROLLED_BACK = "service.rolled_back"
    SERVICE_REMOVED = "service.removed"
    ROLLOUT_COMPLETED = "rollout.completed"
    ROLLOUT_FAILED = "rollout.failed"
    ROLLOUT_AWAITING = "rollout.awaiting"
    ROLLOUT_PROMOTED = "rollout.promoted"
    ROLLOUT_PAUSED = "rollout.paused"
    ROLLOUT_RESUMED = "rollout.resumed"
    ALLOCATION_PLACED = "allocation.placed"
    ALLOCATION_PREPARED = "allocation.prepared"
    ALLOCATION_STARTED = "allocation.started"
    ALLOCATION_ADOPTED = "allocation.adopted"
    ALLOCATION_READY = "allocation.ready"
    ALLOCATION_UNHEALTHY = "allocation.unhealthy"
    ALLOCATION_EXITED = "allocation.exited"
    ALLOCATION_RESTARTING = "allocation.restarting"
    ALLOCATION_START_FAILED = "allocation.start_failed"
    ALLOCATION_COMPLETED = "allocation.completed"
    ALLOCATION_FAILED = "allocation.failed"
    ALLOCATION_DRAINED = "allocation.drained"
    ALLOCATION_STOPPED = "allocation.stopped"
    RUNTIME_UP = "runtime.up"
    RUNTIME_DOWN = "runtime.down"
    STORE_FULL = "store.full"
    NODE_STARTED = "node.started"
    NODE_STOPPED = "node.stopped"
    NODE_REMOVED = "node.removed"
    GROUP_CHANGED = "group.changed"
    GROUP_RECOVERED = "group.recovered"
    GROUP_OUTRANKED = "group.outranked"
    MEMBER_JOINED = "member.joined"
    MEMBER_FAILED = "member.failed"
    MEMBER_LEFT = "member.left"
    MEMBER_NAME_LOST = "member.name_lost"
    FIGURE_EXCEEDED = "figure.exceeded"
    FIGURE_SETTLED = "figure.settled"
    NOTIFY_FAILED = "notify.failed"
    NOTIFY_RESTORED = "notify.restored"
    AGENT_LOST = "agent.lost"
    AGENT_FOUND = "agent.found"
    CERTIFICATE_REFUSED = "certificate.refused"
    CERTIFICATE_EXPIRES = "certificate.expires"
    CLUSTER_EVENT = "cluster.event"


CLUSTER_KINDS = frozenset(
    {
        EventKind.MEMBER_JOINED,
        EventKind.MEMBER_FAILED,
        EventKind.MEMBER_LEFT,
        EventKind.MEMBER_NAME_LOST,
        EventKind.AGENT_LOST,
        EventKind.AGENT_FOUND,
        EventKind.CLUSTER_EVENT,
    }
)
"""What comes by gossip; `orca events --cluster` shows these."""


class Severity(enum.Enum):
    """How much a person should care."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class NodeEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a node's history.

    `sequence` counts up by one on its node and survives restarts, so a reader can ask
    for everything after the last one that it saw. `message` is a whole sentence. `log_index`: the
    entry of the cluster's log that made it, which is the same on every node. `figure`: the one that has gone too far.
    """

    sequence: int
    at_ms: WallMs
    node: NodeId
    kind: EventKind
    message: str
    severity: Severity = Severity.INFO
    service: ServiceId | None = None
    allocation: AllocationId | None = None
    revision: SpecRevision | None = None
    exit_code: int | None = None
    log_index: LogIndex | None = None
    figure: str = ""
