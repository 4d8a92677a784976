"""The replicated state as a whole: its tables, a frozen view of them, what must always hold."""

from itertools import islice
from typing import Any

import msgspec

from consensus.state.allocations import AllocationTable
from consensus.state.records import (
    AlertMarkRecord,
    ApiTokenRecord,
    AuditRecord,
    AuthorityRecord,
    CertificateRecord,
    ChannelRecord,
    ClusterSettings,
    DataKeyRecord,
    DrainRecord,
    JoinTokenRecord,
    LeaseRecord,
    LockRecord,
    NodeRecord,
    NoticeRecord,
    Outcome,
    Redemption,
    RemovedSpec,
    RevisionRecord,
    RevokedNode,
    RolloutRecord,
    SecretRecord,
    ServiceRecord,
    SilenceRecord,
    VolumeRecord,
    WebhookRecord,
    notice_key,
)
from orca.model.allocation import Allocation, DesiredStatus
from orca.model.ids import (
    AllocationId,
    ChannelName,
    LeaseName,
    LogIndex,
    NodeId,
    ProjectName,
    RequestId,
    SecretId,
    ServiceId,
    SilenceId,
    StateRevision,
    TokenId,
    WebhookId,
)
from orca.model.spec import ServiceSpec
from orca.model.trust import AuthorityState

REQUESTS_KEPT = 4_096
"""How many answers are remembered for callers that ask twice."""
REQUEST_CHANGES_KEPT = 100_000
"""How many changes of services these answers may name in all: a large deploy has thousands."""
TRIMMED_AT_ONCE = 256
"""A table whose oldest records go is cut when it is so much longer: finding the first key of a dict costs more the
more were taken from its front."""
AUDIT_KEPT = 10_000
MARKS_KEPT = 2_000
"""What people said about so many alerts, the newest."""
REFUSALS_KEPT = 2_000
"""Refusals that nodes report are kept apart from what was done: no flood of them pushes that out."""


class ClusterState(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything that the log has built. Only `apply` changes it.

    `revision` is the index of the last command that changed something that people or
    nodes act on: all but the audit, the answers, and leases that were only prolonged.
    `plan_revision` is the last that changed what plans are made from; a plan based on an earlier
    state is void. `schema` is explained in `consensus.state.schema`. `epoch` counts how often the
    group began anew. `clock_ms` is lease time, see `consensus.state.applying.leases`.
    """

    revision: StateRevision = StateRevision(0)
    plan_revision: StateRevision = StateRevision(0)
    schema: int = 1
    epoch: int = 0
    clock_ms: int = 0
    settings: ClusterSettings = ClusterSettings()
    ingress_authority: AuthorityRecord | None = None
    services: dict[ServiceId, ServiceRecord] = {}
    removed: dict[ServiceId, RemovedSpec] = {}
    allocations: dict[AllocationId, Allocation] = msgspec.field(default_factory=AllocationTable)
    volumes: dict[str, VolumeRecord] = {}
    nodes: dict[NodeId, NodeRecord] = {}
    revoked: dict[NodeId, RevokedNode] = {}
    join_tokens: dict[TokenId, JoinTokenRecord] = {}
    api_tokens: dict[TokenId, ApiTokenRecord] = {}
    authorities: dict[str, AuthorityRecord] = {}
    data_keys: dict[int, DataKeyRecord] = {}
    secrets: dict[SecretId, SecretRecord] = {}
    webhooks: dict[WebhookId, WebhookRecord] = {}
    locks: dict[ProjectName, LockRecord] = {}
    silences: dict[SilenceId, SilenceRecord] = {}
    alert_marks: dict[str, AlertMarkRecord] = {}
    channels: dict[ChannelName, ChannelRecord] = {}
    notices: dict[str, NoticeRecord] = {}
    leases: dict[LeaseName, LeaseRecord] = {}
    audit: dict[LogIndex, AuditRecord] = {}
    refusals: dict[LogIndex, AuditRecord] = {}
    requests: dict[RequestId, Outcome] = {}
    request_changes: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.allocations, AllocationTable) and type(self) is ClusterState:
            self.allocations = AllocationTable(self.allocations)

    @property
    def copies(self) -> AllocationTable:
        """`allocations`, with those of one service and of one node at hand. Not of a frozen state."""
        assert isinstance(self.allocations, AllocationTable), "a frozen state has its copies in a plain table"
        return self.allocations

    def freeze(self) -> "FrozenState":
        """The state as it is now, for another thread: what is applied later does not show in it.

        It shares the records, which never change, and copies the tables: a few milliseconds
        for a hundred thousand allocations.
        """
        fields: dict[str, Any] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            fields[name] = value.copy() if isinstance(value, dict) else value
        return FrozenState(**fields)

    def allocations_of(self, service: ServiceId) -> list[Allocation]:
        """The copies of `service`, by slot, older ones first."""
        found = self.copies.of_service(service).values()
        return sorted(found, key=lambda one: (one.slot, one.revision, one.id))

    def spec_of(self, allocation: Allocation) -> ServiceSpec:
        """The spec that `allocation` was placed for, also after its service was removed."""
        record = self.services.get(allocation.service)
        found = record.find(allocation.revision) if record is not None else None
        if found is not None:
            return found.spec
        removed = self.removed.get(allocation.service)
        kept = () if removed is None else removed.revisions
        for revision in kept:
            if revision.revision == allocation.revision and revision.template == allocation.template:
                return revision.spec
        raise AssertionError(f"allocation {allocation.id} of {allocation.service} has lost its spec")

    def check_invariants(self) -> None:
        """Raise AssertionError when the state contradicts itself."""
        assert self.plan_revision <= self.revision, "plans are made from more than there is"
        self._check_services()
        self._check_nodes()
        self._check_trust()
        assert len(self.audit) <= AUDIT_KEPT + TRIMMED_AT_ONCE, "the audit has grown"
        assert len(self.refusals) <= REFUSALS_KEPT + TRIMMED_AT_ONCE, "the audit of refusals has grown"
        for table in (self.audit, self.refusals):
            assert list(table) == sorted(table), "the audit is out of order"
        assert len(self.requests) <= REQUESTS_KEPT + TRIMMED_AT_ONCE, "the window of requests has grown"
        counted = sum(len(outcome.changes) for outcome in self.requests.values())
        assert self.request_changes == counted, f"{self.request_changes} changes in answers, {counted} counted"

    def _check_services(self) -> None:
        self.copies.check_invariants()
        for service, record in self.services.items():
            assert record.id == service, f"{service} is filed under another name"
            numbers = [one.revision for one in record.revisions]
            assert numbers == sorted(set(numbers)), f"{service}: revisions {numbers} do not grow"
            assert record.rollout.revision == record.current.revision, f"{service}: rollout of another revision"
        for name, allocation in self.allocations.items():
            assert allocation.id == name, f"{name} is filed under another id"
            is_wanted = allocation.desired is DesiredStatus.RUNNING
            assert not is_wanted or allocation.service in self.services, f"{name}: a copy of a removed service runs"
            assert allocation.node not in self.revoked, f"{name} is on the removed node {allocation.node}"
            self.spec_of(allocation)
        for volume, kept in self.volumes.items():
            assert kept.id == volume, f"volume {volume} is filed under another name"
            assert all(home.node not in self.revoked for home in kept.homes), f"{volume} is on a removed node"
        for service, removed in self.removed.items():
            assert removed.service == service, f"removed {service} is filed under another name"
        for project, lock in self.locks.items():
            assert lock.project == project, f"the lock of {project} is filed under another name"
        for number, silence in self.silences.items():
            assert silence.id == number, f"silence {number} is filed under another id"
        assert len(self.alert_marks) <= MARKS_KEPT, "the marks of alerts have grown"
        for alert, mark in self.alert_marks.items():
            assert mark.alert == alert, f"the mark of {alert} is filed under another name"
        for key, notice in self.notices.items():
            assert key == notice_key(notice.channel, notice.alert), f"notice {key} is filed under another name"
            assert notice.channel in self.channels, f"{notice.channel} was told something and is no channel"
        for channel in self.channels.values():
            assert channel.secret in self.secrets, f"the address of {channel.name} is gone"
        for hook in self.webhooks.values():
            assert hook.service in self.services, f"webhook {hook.id} is for {hook.service}, which does not exist"

    def _check_nodes(self) -> None:
        names: dict[str, NodeId] = {}
        for node, record in self.nodes.items():
            assert record.id == node, f"{node} is filed under another id"
            assert node not in self.revoked, f"{node} is admitted and revoked"
            assert names.setdefault(record.name, node) == node, f"two nodes are called {record.name}"
            assert record.schema >= self.schema, f"{node} knows schema {record.schema}, {self.schema} is in force"
        for token in self.join_tokens.values():
            assert token.uses_left >= 0, f"join token {token.id} was used too often"
        for name, lease in self.leases.items():
            assert lease.name == name, f"lease {name} is filed under another name"
            assert lease.renewed_clock_ms <= self.clock_ms, f"lease {name} was renewed in the future"

    def _check_trust(self) -> None:
        for version, key in self.data_keys.items():
            assert key.wrapped, f"nobody can open data key {version}"
            for node in key.wrapped:
                assert node in self.nodes, f"data key {version} is wrapped for {node}, which is no node"
        for fingerprint, authority in self.authorities.items():
            assert authority.fingerprint == fingerprint, f"authority {fingerprint} is filed under another name"
            assert authority.key_version in self.data_keys, f"the data key of authority {fingerprint} is gone"
        signing = [one for one in self.authorities.values() if one.state is AuthorityState.SIGNING]
        assert len(signing) == min(1, len(self.authorities)), f"{len(signing)} authorities sign"
        served = self.ingress_authority
        assert served is None or served.key_version in self.data_keys, "the data key of the ingress CA is gone"
        for secret in self.secrets.values():
            assert secret.key_version in self.data_keys, f"the key of {secret.id} is gone"


def trim(table: dict[Any, Any], kept: int) -> None:
    """Take the oldest away once there are `TRIMMED_AT_ONCE` more than `kept`."""
    if len(table) >= kept + TRIMMED_AT_ONCE:
        for key in list(islice(table, len(table) - kept)):
            del table[key]


class FrozenState(ClusterState, frozen=True):  # type: ignore[misc] # msgspec can, dataclasses cannot
    """A state at one moment, for readers in other threads; `apply` refuses it."""


__all__ = [
    "AUDIT_KEPT",
    "MARKS_KEPT",
    "REFUSALS_KEPT",
    "REQUESTS_KEPT",
    "REQUEST_CHANGES_KEPT",
    "TRIMMED_AT_ONCE",
    "AlertMarkRecord",
    "ApiTokenRecord",
    "AuditRecord",
    "AuthorityRecord",
    "CertificateRecord",
    "ChannelRecord",
    "ClusterSettings",
    "ClusterState",
    "DataKeyRecord",
    "DrainRecord",
    "FrozenState",
    "JoinTokenRecord",
    "LeaseRecord",
    "LockRecord",
    "NodeRecord",
    "NoticeRecord",
    "Outcome",
    "Redemption",
    "RemovedSpec",
    "RevisionRecord",
    "RevokedNode",
    "RolloutRecord",
    "SecretRecord",
    "ServiceRecord",
    "SilenceRecord",
    "WebhookRecord",
]
