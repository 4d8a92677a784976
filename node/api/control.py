"""What the API needs of the node: implemented by `node/control.py`, and by a small fake in tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gossip.serf import RotationEnded
from node.runtime.base import ExecRequest, ExecSession
from orca.model.ids import AllocationId, BlobDigest, ProjectName, ServiceId
from orca.model.units import WallMs
from orca.model.view import (
    AllocationsReply,
    ChangeReply,
    ChangeRequest,
    DeployRequest,
    EventsReply,
    GossipReply,
    HistoryReply,
    ImageBuild,
    KeyReport,
    LogRecord,
    MemberView,
    NodeView,
    Observation,
    PlanReply,
    QuorumReply,
    RollbackRequest,
    ScaleRequest,
    ServiceReply,
    ServicesReply,
    StatsReply,
    StatusReply,
)


class MembershipControl(Protocol):
    """The node's gossip as the API drives it; `node/membership` has it, and tests have a small fake."""

    @property
    def health_score(self) -> int:
        """How slow this node takes itself to be; 0 is well."""
        ...

    def members(self) -> tuple[MemberView, ...]:
        """All members by name."""
        ...

    def describe(self, reply: Callable[..., GossipReply]) -> GossipReply:
        """How gossip is doing; `reply` adds who says so."""
        ...

    def pause(self, *, is_paused: bool) -> None:
        """Stop or resume the exchange of facts."""
        ...

    async def send_event(self, name: str, payload: str) -> None:
        """Tell every member."""
        ...

    async def list_keys(self) -> KeyReport:
        """Which keys the members have."""
        ...

    async def rotate_keys(self, key: str, *, allow_absent: bool) -> tuple[tuple[KeyReport, ...], RotationEnded]:
        """Replace the keys of the cluster."""
        ...


class GroupControl(Protocol):
    """The group that decides, as the API drives it."""

    def describe(self, observation: Observation) -> QuorumReply:
        """The group as this node knows it."""
        ...

    async def recover(self, *, is_forced: bool) -> None:
        """Start it anew from this node. Raises ConflictError with what speaks against it."""
        ...


class Control(Protocol):
    """The node as the API drives it. Reads are of memory and do not wait.

    Every call may raise errors of `orca.errors`: `NotFoundError` for what does not
    exist, `NotAvailableError` for what cannot be done at present. A context manager raises
    such an error on entry, before it gives anything.
    """

    @property
    def membership(self) -> MembershipControl:
        """The node's gossip."""
        ...

    @property
    def quorum(self) -> GroupControl:
        """The group that decides."""
        ...

    def observation(self) -> Observation:
        """Who says so, and how fresh it is."""
        ...

    async def status(self) -> StatusReply:
        """The cluster at a glance."""
        ...

    def node(self) -> NodeView:
        """The node itself."""
        ...

    async def services(self, project: ProjectName | None = None, only: tuple[ServiceId, ...] = ()) -> ServicesReply:
        """Services of `project` (None: of all), and among them those in `only` (empty: all)."""
        ...

    def service(self, service: ServiceId) -> ServiceReply:
        """One service with its spec."""
        ...

    def history(self, service: ServiceId) -> HistoryReply:
        """Its revisions, newest first."""
        ...

    async def allocations(self, service: ServiceId | None = None) -> AllocationsReply:
        """Copies of `service`, None: of all."""
        ...

    def plan(self, request: DeployRequest) -> PlanReply:
        """What `deploy` would do; changes nothing."""
        ...

    async def deploy(self, request: DeployRequest, *, actor: str) -> ChangeReply:
        """Put specs, all or none; returns when that is committed."""
        ...

    async def scale(self, service: ServiceId, request: ScaleRequest, *, actor: str) -> ChangeReply:
        """Want another number of copies."""
        ...

    async def stop(self, service: ServiceId, request: ChangeRequest, *, actor: str) -> ChangeReply:
        """Stop all copies, keep the service."""
        ...

    async def start(self, service: ServiceId, request: ChangeRequest, *, actor: str) -> ChangeReply:
        """Start a stopped service."""
        ...

    async def restart(self, service: ServiceId, request: ChangeRequest, *, actor: str) -> ChangeReply:
        """Replace all copies by new ones of the same spec."""
        ...

    async def rollback(self, service: ServiceId, request: RollbackRequest, *, actor: str) -> ChangeReply:
        """Make an older revision's spec the newest one."""
        ...

    async def remove(self, service: ServiceId, request: ChangeRequest, *, actor: str) -> ChangeReply:
        """Remove the service."""
        ...

    def change_count(self) -> int:
        """A counter of changes that `services` and `status` show."""
        ...

    async def wait_change(self, after: int) -> int:
        """The counter, once it is greater than `after`; may be cancelled."""
        ...

    async def events(
        self,
        *,
        after: int | None,
        before: int | None,
        limit: int,
        service: ServiceId | None,
        allocation: AllocationId | None,
        is_of_cluster: bool = False,
    ) -> EventsReply:
        """At most `limit` events after sequence `after`; None: the newest `limit`. All are below `before`.

        `last_sequence` of the reply is that of the last event looked at, matching or not,
        and `after` itself when there was none.
        """
        ...

    async def wait_event(self, after: int) -> None:
        """Returns once an event with a sequence above `after` exists; may be cancelled."""
        ...

    def logs(
        self,
        *,
        service: ServiceId | None,
        allocation: AllocationId | None,
        follow: bool,
        tail: int | None,
        since_ms: WallMs | None,
    ) -> AbstractAsyncContextManager[AsyncIterator[LogRecord]]:
        """Lines of the copies that are meant, by time; with `follow` as they come."""
        ...

    async def stats(self, *, service: ServiceId | None, allocation: AllocationId | None) -> StatsReply:
        """What copies use now."""
        ...

    def exec(self, allocation: AllocationId, request: ExecRequest) -> AbstractAsyncContextManager[ExecSession]:
        """A command inside a copy; leaving the context ends it."""
        ...

    def build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Build an image; gives the builder's lines and raises from the iterator when it fails."""
        ...

    async def put_blob(self, digest: BlobDigest, chunks: AsyncIterator[bytes]) -> bool:
        """Keep content under its own hash; True when it is new.

        Raises `InvalidRequestError` when the content has another hash; then nothing is kept.
        """
        ...

    def has_blob(self, digest: BlobDigest) -> bool:
        """Whether that content is on this node."""
        ...
