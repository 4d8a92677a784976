"""The replicated state: services with their revisions, allocations, nodes."""

import msgspec

from orca.model.allocation import Allocation, DesiredStatus
from orca.model.ids import (
    AllocationId,
    NodeId,
    RequestId,
    ServiceId,
    SpecRevision,
    StateRevision,
)
from orca.model.spec import ServiceSpec
from orca.model.units import WallMs
from orca.model.view import RolloutState, ServiceChange

REQUESTS_KEPT = 10_000
"""How many answers are remembered for callers that ask twice."""


class RevisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted version of a service's spec and why it was made."""

    revision: SpecRevision
    spec: ServiceSpec
    template: str
    at_ms: WallMs
    cause: str
    actor: str = ""
    note: str = ""


class RolloutRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How the newest revision is doing, as the leader last recorded it.

    `healthy` is the largest number of healthy new copies so far; each time it grows
    `deadline_at_ms` moves on.
    """

    revision: SpecRevision
    state: RolloutState
    started_at_ms: WallMs
    deadline_at_ms: WallMs
    healthy: int = 0
    message: str = ""
    ended_at_ms: WallMs | None = None


class ServiceRecord(msgspec.Struct, frozen=True, kw_only=True):
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
        """How many copies are wanted now."""
        return 0 if self.is_stopped else self.spec.replicas

    def find(self, revision: SpecRevision) -> RevisionRecord | None:
        """The record of `revision`, or None when it is not kept."""
        return next((record for record in self.revisions if record.revision == revision), None)


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A node that belongs to the cluster."""

    id: NodeId
    name: str
    admitted_at_ms: WallMs


class RemovedSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is still needed of a removed service: how to stop its last copies."""

    service: ServiceId
    revisions: tuple[RevisionRecord, ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a command did. `error` is a code of `orca.errors`, empty on success."""

    revision: StateRevision
    changes: tuple[ServiceChange, ...] = ()
    error: str = ""
    message: str = ""


class ClusterState(msgspec.Struct, kw_only=True):
    """Everything that the log has built. Only `apply` changes it.

    `revision` is the index of the last command that changed something; it identifies
    the state on every replica.
    """

    revision: StateRevision = StateRevision(0)
    services: dict[ServiceId, ServiceRecord] = {}
    removed: dict[ServiceId, RemovedSpec] = {}
    allocations: dict[AllocationId, Allocation] = {}
    nodes: dict[NodeId, NodeRecord] = {}
    requests: dict[RequestId, Outcome] = {}

    def allocations_of(self, service: ServiceId) -> list[Allocation]:
        """The copies of `service`, by slot, older ones first."""
        found = [one for one in self.allocations.values() if one.service == service]
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
        for service, record in self.services.items():
            assert record.id == service, f"{service} is filed under another name"
            numbers = [one.revision for one in record.revisions]
            assert numbers == sorted(set(numbers)), f"{service}: revisions {numbers} do not grow"
            assert record.rollout.revision == record.current.revision, f"{service}: rollout of another revision"
        for name, allocation in self.allocations.items():
            assert allocation.id == name, f"{name} is filed under another id"
            is_wanted = allocation.desired is DesiredStatus.RUNNING
            assert not is_wanted or allocation.service in self.services, f"{name}: a copy of a removed service runs"
            self.spec_of(allocation)
        for service, removed in self.removed.items():
            assert removed.service == service, f"removed {service} is filed under another name"
        assert len(self.requests) <= REQUESTS_KEPT, "the window of requests has grown"
