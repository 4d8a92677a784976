"""What a node shows of the cluster: the bodies of the HTTP API's answers and requests.

Every answer that speaks of state carries its observer and the age of what it saw,
because any node answers from what it knows.
"""

import enum

import msgspec

from orca.model.allocation import DesiredStatus, Endpoint, Phase, PrepareProgress
from orca.model.event import NodeEvent
from orca.model.holding import LeaseView, LockView
from orca.model.ids import (
    AllocationId,
    ClusterId,
    LeaseEpoch,
    NodeId,
    ProjectName,
    RequestId,
    SecretId,
    ServiceId,
    ServiceName,
    SpecRevision,
    StateRevision,
)
from orca.model.node import NodeFacts
from orca.model.spec import RouteSpec, RuntimeKind, ScheduleSpec, ServiceSpec
from orca.model.units import WallMs


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an answer; unknown keys are ignored, so that newer nodes may add some."""


class Observation(_View, frozen=True):
    """Who says so, when, and how old the newest of what it knows may be.

    `state_revision` is the last command of the log that this node has applied; `age_ms`
    is how long ago it last heard from the leader that there is no newer one (0 on the
    leader itself).
    """

    observer: NodeId
    at_ms: WallMs
    state_revision: StateRevision
    age_ms: int = 0


class RolloutState(enum.Enum):
    """How a service's newest revision is doing."""

    PROGRESSING = "progressing"
    AWAITING = "awaiting"
    """It stands beside the old revision, is healthy, and waits to be promoted."""
    COMPLETED = "completed"
    FAILED = "failed"


class AllocationView(_View, frozen=True):
    """One copy: what was decided and what its node last saw of it.

    `silent_ms`: its node does not answer, and was last heard of so long ago: what is said here is of then. `fence` is
    the number of the lease that a singleton's copy has.
    """

    id: AllocationId
    service: ServiceId
    slot: int
    revision: SpecRevision
    node: NodeId
    runtime: RuntimeKind
    desired: DesiredStatus
    phase: Phase
    is_ready: bool
    reason: str = ""
    restarts: int = 0
    exit_code: int | None = None
    created_at_ms: WallMs = WallMs(0)
    since_ms: WallMs = WallMs(0)
    started_at_ms: WallMs | None = None
    next_start_at_ms: WallMs | None = None
    endpoints: tuple[Endpoint, ...] = ()
    progress: PrepareProgress | None = None
    node_name: str = ""
    silent_ms: int | None = None
    fence: LeaseEpoch | None = None


class RolloutView(_View, frozen=True):
    """The rollout of `revision`: its state, and in words what it waits for or died of.

    `is_way_back`: the cluster itself went back to it, because the revision before had failed; `message` says why.
    """

    revision: SpecRevision
    state: RolloutState
    started_at_ms: WallMs
    message: str = ""
    ended_at_ms: WallMs | None = None
    is_paused: bool = False
    is_way_back: bool = False


class ServiceView(_View, frozen=True):
    """One service with its copies. `workload` is the image, or the module's name."""

    id: ServiceId
    project: ProjectName
    name: ServiceName
    runtime: RuntimeKind
    workload: str
    revision: SpecRevision
    replicas: int
    ready: int
    is_stopped: bool
    is_job: bool
    restarts: int
    routes: tuple[RouteSpec, ...]
    rollout: RolloutView
    updated_at_ms: WallMs
    allocations: tuple[AllocationView, ...] = ()
    blocked: str = ""
    schedule: ScheduleSpec | None = None
    lease: LeaseView | None = None


class ServicesReply(_View, frozen=True):
    """All services, by id."""

    observation: Observation
    services: tuple[ServiceView, ...]


class ServiceReply(_View, frozen=True):
    """One service and the spec that it runs."""

    observation: Observation
    service: ServiceView
    spec: ServiceSpec


class AllocationsReply(_View, frozen=True):
    """Copies, by service and slot."""

    observation: Observation
    allocations: tuple[AllocationView, ...]


class IngressView(_View, frozen=True):
    """Where this node's proxy listens, and why not where it was asked to."""

    host: str
    port: int
    note: str = ""
    scheme: str = "http"


class NodeView(_View, frozen=True):
    """A node as itself or its peers know it; only the node itself tells when it started and where it listens."""

    facts: NodeFacts
    is_leader: bool
    allocations: int
    started_at_ms: WallMs | None = None
    api: str = ""
    ingress: tuple[IngressView, ...] = ()
    data_dir: str = ""


class StatusReply(_View, frozen=True):
    """The whole cluster at a glance."""

    observation: Observation
    cluster: ClusterId
    leader: NodeId | None
    nodes: tuple[NodeView, ...]
    services: tuple[ServiceView, ...]
    locks: tuple[LockView, ...] = ()


class DeployRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Specs to put, all or none.

    A spec that equals the running one changes nothing. `request_id` makes a retry safe.
    Contents that the specs name by digest must be on the node (`PUT /v1/blobs/…`).
    With `prune` the services of the named projects that are not in `specs` are removed.
    `secrets` (base64 of the values, by `<project>/<name>`) are set before the specs are put; a plan
    looks at their names only. `lock` is the id of the deploy lock that this is done under.
    """

    specs: tuple[ServiceSpec, ...]
    request_id: RequestId | None = None
    prune: bool = False
    note: str = ""
    lock: str = ""
    secrets: dict[SecretId, bytes] = {}

    def __repr__(self) -> str:
        return f"DeployRequest({[spec.id for spec in self.specs]}, secrets {sorted(self.secrets)})"


class ChangeAction(enum.Enum):
    """What a deploy does, or would do, to one service."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"
    NOTHING = "nothing"


class ServiceChange(_View, frozen=True):
    """What was done to one service and the revision that it is at now."""

    service: ServiceId
    action: ChangeAction
    revision: SpecRevision


class ChangeReply(_View, frozen=True):
    """A change that is committed: it will survive, though it may not be carried out yet."""

    observation: Observation
    changes: tuple[ServiceChange, ...]


class FieldChange(_View, frozen=True):
    """One field of a spec; `before` and `after` are JSON texts, empty where there is none."""

    key: str
    before: str
    after: str


class PlacementPreview(_View, frozen=True):
    """Where copies would go, or why none can."""

    node: NodeId | None
    copies: int
    reason: str = ""
    node_name: str = ""


class ServicePlan(_View, frozen=True):
    """What a deploy would do to one service; `replaces_copies` says that new copies are needed."""

    service: ServiceId
    action: ChangeAction
    fields: tuple[FieldChange, ...] = ()
    replaces_copies: bool = False
    placements: tuple[PlacementPreview, ...] = ()


class PlanReply(_View, frozen=True):
    """What a deploy of the same body would do now. Nothing was changed."""

    observation: Observation
    services: tuple[ServicePlan, ...]


class ScaleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many copies are wanted."""

    replicas: int
    request_id: RequestId | None = None


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Go back to `revision`; None is the one before the present one."""

    revision: SpecRevision | None = None
    request_id: RequestId | None = None


class ChangeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a change that needs no more words (stop, start, restart)."""

    request_id: RequestId | None = None


class RevisionView(_View, frozen=True):
    """One accepted version of a spec."""

    revision: SpecRevision
    created_at_ms: WallMs
    cause: str
    workload: str
    replicas: int
    is_current: bool
    fields: tuple[FieldChange, ...] = ()


class HistoryReply(_View, frozen=True):
    """A service's revisions, newest first; `fields` is what each changed against the one before."""

    observation: Observation
    service: ServiceId
    revisions: tuple[RevisionView, ...]


class NodeSilence(_View, frozen=True):
    """A node that did not answer, so its part is missing; `age_ms`: how long ago it was last heard of."""

    node: NodeId
    name: str
    reason: str
    age_ms: int | None = None


class ReadyReply(_View, frozen=True):
    """Who does not yet send requests to all ready copies: `silent` nodes, and `unknown` copies of the node asked."""

    observation: Observation
    silent: tuple[NodeSilence, ...] = ()
    unknown: tuple[AllocationId, ...] = ()


class EventsReply(_View, frozen=True):
    """Events, oldest first; ask again with `after` = `last_sequence`.

    Of all nodes: `earlier` gives the page before this one (empty: there is none), `later` what follows.
    """

    observation: Observation
    events: tuple[NodeEvent, ...]
    last_sequence: int
    earlier: str = ""
    later: str = ""
    silent: tuple[NodeSilence, ...] = ()


class LogRecord(_View, frozen=True):
    """One line of one copy's output."""

    service: ServiceId
    allocation: AllocationId
    slot: int
    at_ms: WallMs
    stream: str
    text: str


class StatsView(_View, frozen=True):
    """What one copy uses. `cpu_milli` is thousandths of a core over the last interval."""

    allocation: AllocationId
    service: ServiceId
    slot: int
    cpu_milli: int
    memory_bytes: int
    memory_bytes_max: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    processes: int = 0
    problem: str = ""


class StatsReply(_View, frozen=True):
    """What copies use; `problem` is set on those that could not be asked."""

    observation: Observation
    stats: tuple[StatsView, ...]


class ImageBuild(msgspec.Struct, frozen=True, kw_only=True):
    """An image to build from a tar of its directory, tagged `tag` on the node.

    `dockerfile` is a path inside the tar, `target` a stage of it (None: the last one).
    """

    tag: str
    dockerfile: str = "Dockerfile"
    target: str | None = None
    args: dict[str, str] = {}


class MemberState(enum.Enum):
    """What is believed of a member of the gossip."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    LEAVING = "leaving"
    LEFT = "left"
    FAILED = "failed"
    REMOVED = "removed"
    """Taken out of the cluster by its operators, whatever it says of itself."""

    @property
    def is_gone(self) -> bool:
        """Whether it is not to be reached."""
        return self in {MemberState.LEFT, MemberState.FAILED, MemberState.REMOVED}

    @property
    def is_for_good(self) -> bool:
        """Whether it is not expected back as who it was."""
        return self in {MemberState.LEFT, MemberState.REMOVED}


class MemberView(_View, frozen=True):
    """A member as the node that answers sees it; `id` is empty for one that is no Orca node.

    `state_age_ms`: for how long it has been in this state. `heard_age_ms`: how long ago it last
    answered the observer itself; None when it never did, or is the observer. `rtt_ms`: of
    recent probes, smoothed.
    """

    name: str
    id: NodeId | None
    address: str
    state: MemberState
    state_age_ms: int
    is_observer: bool = False
    heard_age_ms: int | None = None
    rtt_ms: float | None = None
    zone: str = ""
    version: str = ""
    tags: dict[str, str] = {}


class NodesReply(_View, frozen=True):
    """All members, by name. `health_score`: how slow the observer takes itself to be, 0 is well."""

    observation: Observation
    members: tuple[MemberView, ...]
    health_score: int


class GossipReply(_View, frozen=True):
    """How gossip is doing on this node. Counters run since its start.

    `drops`: what came in and was not taken in, by layer and cause. `agent`: the RPC address of the Serf agent
    that keeps the membership, empty when the node does; `problem`: why that agent cannot be asked at present.
    `rpc`: where this node serves Serf's RPC, empty when it does not.
    """

    observation: Observation
    address: str
    profile: str
    is_encrypted: bool
    is_paused: bool
    health_score: int
    fact_bytes: int
    counts: dict[str, int]
    drops: dict[str, int]
    queues: dict[str, int]
    agent: str = ""
    problem: str = ""
    rpc: str = ""


class KeyReport(_View, frozen=True):
    """What members said to one operation on their keyrings; keys are shown by fingerprint.

    `silent`: who did not answer. `keys`, `primary_keys`: how many members have each.
    """

    operation: str
    expected: int
    answered: int
    attempt: int = 1
    failures: dict[str, str] = {}
    silent: tuple[str, ...] = ()
    keys: dict[str, int] = {}
    primary_keys: dict[str, int] = {}


class KeysReply(_View, frozen=True):
    """The keys of the cluster, or what a rotation did, step by step."""

    observation: Observation
    reports: tuple[KeyReport, ...]
    is_done: bool = True
    reason: str = ""


class GossipKeyReply(_View, frozen=True):
    """The key that seals gossip, base64: who has it reads and writes whatever members say."""

    observation: Observation
    key: str


class RotateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Replace the gossip keys by `key` (base64 of 16, 24 or 32 bytes), or by one that the node makes.

    With `allow_absent` also while members have failed: they will need the key from a person.
    """

    key: str = ""
    allow_absent: bool = False


class UserEventRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event for every member; `payload` is text. With the name at most 512 bytes."""

    name: str
    payload: str = ""
