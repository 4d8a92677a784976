"""What the state is made of: frozen records, one kind a noun.

All are immutable, mappings in them too by agreement: `apply` replaces a record and never
changes one, so a copy of the tables is a consistent picture of the whole state.
"""

import msgspec

from orca.model.event import Severity
from orca.model.ids import (
    ChannelName,
    LeaseEpoch,
    LeaseName,
    LogIndex,
    NodeId,
    ProjectName,
    SecretId,
    ServiceId,
    SilenceId,
    SpecRevision,
    StateRevision,
    TokenId,
    WebhookId,
)
from orca.model.node import NodeAddresses, NodeAvailability
from orca.model.spec import DeployStrategy, MountKind, ServiceSpec
from orca.model.trust import ApiRole, AuthorityState, NodeRole
from orca.model.units import WallMs
from orca.model.view import RolloutState, ServiceChange


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A part of the state; a field that this release does not know is an error, never dropped.

    `gc=False`: records hold values only, so no cycle can go through one, and a million of them cost the
    collector nothing.
    """


class RevisionRecord(Record, frozen=True, kw_only=True):
    """One accepted version of a service's spec and why it was made."""

    revision: SpecRevision
    spec: ServiceSpec
    template: str
    at_ms: WallMs
    cause: str
    actor: str = ""
    note: str = ""


class RolloutRecord(Record, frozen=True, kw_only=True):
    """How the newest revision is doing, as the leader last recorded it.

    `healthy` is the largest number of healthy new copies so far; each time it grows
    `deadline_at_ms` moves on. `base` is the last revision that was complete before. `promoted_at_ms`: since when a
    revision that stood beside it replaces it. `is_way_back`: the cluster went back to it by itself.
    """

    revision: SpecRevision
    state: RolloutState
    started_at_ms: WallMs
    deadline_at_ms: WallMs
    healthy: int = 0
    message: str = ""
    ended_at_ms: WallMs | None = None
    base: SpecRevision | None = None
    promoted_at_ms: WallMs | None = None
    is_paused: bool = False
    is_way_back: bool = False


class ServiceRecord(Record, frozen=True, kw_only=True):
    """One service. `revisions` are those that one can go back to, oldest first.

    The last of them is the present one.
    """

    id: ServiceId
    created_at_ms: WallMs
    updated_at_ms: WallMs
    revisions: tuple[RevisionRecord, ...]
    rollout: RolloutRecord
    is_stopped: bool = False

    @property
    def current(self) -> RevisionRecord:
        """The revision that is wanted now."""
        return self.revisions[-1]

    @property
    def spec(self) -> ServiceSpec:
        """The spec that is wanted now."""
        return self.revisions[-1].spec

    @property
    def replicas(self) -> int:
        """How many copies are wanted now. What runs by a schedule has none of its own: its runs are jobs."""
        return 0 if self.is_stopped or self.spec.schedule is not None else self.spec.replicas

    @property
    def base(self) -> RevisionRecord | None:
        """The last complete revision, when the present one is another and not complete itself."""
        base = None if self.rollout.base is None else self.find(self.rollout.base)
        return None if base is None or base.template == self.current.template else base

    @property
    def is_staged(self) -> bool:
        """Whether the present revision stands beside the one before it, and has not been promoted."""
        spec, base = self.spec, self.base
        if base is None or spec.deploy.strategy is DeployStrategy.ROLLING or self.rollout.promoted_at_ms is not None:
            return False
        # What only starts afresh (a restart, another secret) is what runs already.
        is_afresh = _hash_of(base.template) == _hash_of(self.current.template)
        if is_afresh or not self.replicas:
            return False
        return all(one.replicas and not (one.is_job or one.is_global) for one in (base.spec, spec))

    def find(self, revision: SpecRevision) -> RevisionRecord | None:
        """The record of `revision`, or None when it is not kept."""
        return next((record for record in self.revisions if record.revision == revision), None)


def _hash_of(template: str) -> str:
    return template.partition("+")[0]


class RemovedSpec(Record, frozen=True, kw_only=True):
    """What is still needed of a removed service: how to stop its last copies."""

    service: ServiceId
    revisions: tuple[RevisionRecord, ...]


class CertificateRecord(Record, frozen=True, kw_only=True):
    """A certificate that the cluster's CA gave a node: serial and SHA-256 of the whole, both in hex.

    `authority` is the fingerprint of the CA that signed it.
    """

    serial: str
    fingerprint: str
    not_after_ms: WallMs
    authority: str = ""


class DrainRecord(Record, frozen=True, kw_only=True):
    """Who cordoned or drained a node, when and why; `deadline_at_ms` is when a drain stops waiting."""

    since_ms: WallMs
    actor: str
    reason: str = ""
    deadline_at_ms: WallMs | None = None


class NodeRecord(Record, frozen=True, kw_only=True):
    """A node that belongs to the cluster.

    `key` is the SHA-256 of its public key in hex, `wrap_key` the X25519 key that data keys are wrapped
    for; both are empty until they are told. Only `certificates`
    are good; one that is not listed is not, even if our CA signed it. `labels` are those that
    people set here, beside those of the node's own configuration. `schema` is the newest that
    its release knows.
    """

    id: NodeId
    name: str
    admitted_at_ms: WallMs
    role: NodeRole = NodeRole.MEMBER
    addresses: NodeAddresses = NodeAddresses()
    key: str = ""
    wrap_key: bytes = b""
    certificates: tuple[CertificateRecord, ...] = ()
    labels: dict[str, str] = {}
    availability: NodeAvailability = NodeAvailability.ACTIVE
    drain: DrainRecord | None = None
    schema: int = 1
    release: str = ""


class RevokedNode(Record, frozen=True, kw_only=True):
    """A node that was removed: its identity never comes back."""

    id: NodeId
    name: str
    at_ms: WallMs
    actor: str
    reason: str = ""
    key: str = ""
    certificates: tuple[CertificateRecord, ...] = ()


class Redemption(Record, frozen=True, kw_only=True):
    """A node that came in by a join token."""

    node: NodeId
    key: str
    at_ms: WallMs


class JoinTokenRecord(Record, frozen=True, kw_only=True):
    """A join token; only the SHA-256 of its secret is known here."""

    id: TokenId
    secret_hash: bytes
    role: NodeRole
    uses_left: int
    expires_at_ms: WallMs
    created_at_ms: WallMs
    created_by: str
    note: str = ""
    redeemed: tuple[Redemption, ...] = ()


class ApiTokenRecord(Record, frozen=True, kw_only=True):
    """An API token; only the SHA-256 of its secret is known here. No `projects` means all."""

    id: TokenId
    name: str
    secret_hash: bytes
    role: ApiRole
    created_at_ms: WallMs
    created_by: str
    projects: tuple[ProjectName, ...] = ()
    expires_at_ms: WallMs | None = None


class AuthorityRecord(Record, frozen=True, kw_only=True):
    """A certificate authority of the cluster.

    `fingerprint` is the SHA-256 of `certificate` (DER, self-signed) in hex. `sealed_key` is its private key,
    sealed under data key `key_version`. `cross` is a certificate for the same key that the authority before
    it signed: who was away during a change of authority believes the new one by it. Empty for the first.
    """

    fingerprint: str
    certificate: bytes
    sealed_key: bytes
    key_version: int
    created_at_ms: WallMs
    state: AuthorityState = AuthorityState.TRUSTED
    cross: bytes = b""


class DataKeyRecord(Record, frozen=True, kw_only=True):
    """A version of the key that seals secrets, wrapped for each node that may open it.

    `is_exposed`: a node that was removed could open it, so it is to be replaced.
    """

    version: int
    created_at_ms: WallMs
    wrapped: dict[NodeId, bytes]
    is_exposed: bool = False


class SecretRecord(Record, frozen=True, kw_only=True):
    """A sealed value. `version` is the revision of the state that set it: never the same twice."""

    id: SecretId
    version: StateRevision
    key_version: int
    ciphertext: bytes
    created_at_ms: WallMs
    updated_at_ms: WallMs
    updated_by: str


class WebhookRecord(Record, frozen=True, kw_only=True):
    """A call from outside that deploys `service`; only the SHA-256 of its secret is known here."""

    id: WebhookId
    service: ServiceId
    secret_hash: bytes
    created_at_ms: WallMs
    created_by: str
    branch: str = ""


class LockRecord(Record, frozen=True, kw_only=True):
    """Who holds back deploys to `project`; `id` is what a deploy names to be let through."""

    id: str
    project: ProjectName
    holder: str
    since_ms: WallMs
    origin: str = ""
    note: str = ""
    expires_at_ms: WallMs | None = None


class AlertDeedRecord(Record, frozen=True, kw_only=True):
    """Who said something about an alert, when and why; it holds until `ends_at_ms`, None: until the alert is over."""

    at_ms: WallMs
    actor: str
    reason: str = ""
    ends_at_ms: WallMs | None = None


class AlertMarkRecord(Record, frozen=True, kw_only=True):
    """What was said about `alert`: that somebody sees to it, and that it is over."""

    alert: str
    acknowledged: AlertDeedRecord | None = None
    resolved: AlertDeedRecord | None = None


class SilenceRecord(Record, frozen=True, kw_only=True):
    """Until `ends_at_ms` nobody is told of alerts that all its given fields fit."""

    id: SilenceId
    created_at_ms: WallMs
    created_by: str
    ends_at_ms: WallMs
    reason: str
    service: ServiceId | None = None
    project: ProjectName | None = None
    node: NodeId | None = None
    rule: str = ""


class ChannelRecord(Record, frozen=True, kw_only=True):
    """Who is told of alerts of at least `severity`; the address is the value of `secret`."""

    name: ChannelName
    secret: SecretId
    severity: Severity
    created_at_ms: WallMs
    created_by: str
    project: ProjectName | None = None


class NoticeState(Record, frozen=True, kw_only=True):
    """What a channel is told of an alert: that it fires since when and how bad it is, or that it is over."""

    is_firing: bool
    severity: Severity
    since_ms: WallMs


class NoticeClaim(Record, frozen=True, kw_only=True):
    """`node` began to tell it at `at_ms`."""

    node: NodeId
    at_ms: WallMs
    state: NoticeState


class NoticeRecord(Record, frozen=True, kw_only=True):
    """What `channel` was told of `alert`, and what somebody is about to tell."""

    channel: ChannelName
    alert: str
    told: NoticeState | None = None
    claim: NoticeClaim | None = None


def notice_key(channel: ChannelName, alert: str) -> str:
    """Where the state keeps what `channel` was told of `alert`; names of channels have no spaces."""
    return f"{channel} {alert}"


class LeaseRecord(Record, frozen=True, kw_only=True):
    """Who holds a lease. Lease times are the cluster's own clock, not the time of day."""

    name: LeaseName
    epoch: LeaseEpoch
    node: NodeId
    holder: str
    ttl_ms: int
    renewed_clock_ms: int

    @property
    def expires_clock_ms(self) -> int:
        """The lease time from which it may be declared expired."""
        return self.renewed_clock_ms + self.ttl_ms


class AuditRecord(Record, frozen=True, kw_only=True):
    """Who asked for what, from where, and what came of it: `result` is `ok` or an error's code.

    `count`: how many like it this one stands for.
    """

    index: LogIndex
    at_ms: WallMs
    actor: str
    action: str
    subject: str
    result: str
    origin: str = ""
    message: str = ""
    count: int = 1


class VolumeHome(Record, frozen=True, kw_only=True):
    """Copy `slot` of `service` wrote to the volume on `node`."""

    service: ServiceId
    slot: int
    node: NodeId


class VolumeRecord(Record, frozen=True, kw_only=True):
    """Where the data of a volume is: `id` is `<project>/<name>`, as each node has its own volume of that name."""

    id: str
    homes: tuple[VolumeHome, ...]


def volume_ids(spec: ServiceSpec) -> tuple[str, ...]:
    """The volumes that copies of `spec` write to, for a service whose copies are not the same everywhere."""
    if spec.is_global:
        return ()
    writable = (one for one in spec.mounts if one.kind is MountKind.VOLUME and not one.read_only)
    return tuple(dict.fromkeys(f"{spec.project}/{one.source}" for one in writable))


class ClusterSettings(Record, frozen=True, kw_only=True):
    """Settings of the whole cluster; `voters` None is: as many as its size asks for.

    `gossip_key_removals`: how many nodes were removed when gossip got its last key because of that.
    """

    name: str = ""
    voters: int | None = None
    gossip_key_version: int = 0
    gossip_key_removals: int = 0


class Outcome(Record, frozen=True, kw_only=True):
    """What a command did. `error` is a code of `orca.errors`, empty on success.

    `leases` are those that its proposer holds now, `secrets` those that were set or removed.
    """

    revision: StateRevision
    changes: tuple[ServiceChange, ...] = ()
    error: str = ""
    message: str = ""
    leases: tuple[LeaseRecord, ...] = ()
    secrets: tuple[SecretId, ...] = ()
