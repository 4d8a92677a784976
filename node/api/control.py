"""What the API needs of the node: implemented by `node/control.py`, and by a small fake in tests."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gossip.serf import RotationEnded
from node.alert_desk import AlertDesk
from node.channel_desk import ChannelDesk
from node.figures.history import FigureHistory
from node.locks import Locks
from node.runtime.base import ExecRequest, ExecSession
from node.selection import Placed, Selection
from node.upkeep import Upkeep
from orca.model.access import ApiTokenView, AuditView, CreateApiTokenRequest
from orca.model.doctor import DoctorReply
from orca.model.ids import (
    AllocationId,
    BlobDigest,
    LogIndex,
    NodeId,
    ProjectName,
    RequestId,
    SecretId,
    ServiceId,
    StateRevision,
    TokenId,
)
from orca.model.quorum_view import QuorumReply
from orca.model.secret_view import SecretView
from orca.model.trust import Author, TokenGrant
from orca.model.trust_view import AuthoritiesReply, CreateTokenRequest, NodeRemoval, TokenReply, TokensReply
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
    RollbackRequest,
    ScaleRequest,
    ServiceChange,
    ServiceReply,
    ServicesReply,
    StatsView,
    StatusReply,
)


class SecretsControl(Protocol):
    """The node's secrets as the API drives them; `node/secrets` has it."""

    def list(self, project: ProjectName | None = None) -> tuple[SecretView, ...]:
        """All secrets by id, without values."""
        ...

    def sealers(self) -> tuple[NodeId, ...]:
        """The living nodes that can seal, on one that cannot; empty where this node does it itself."""
        ...

    async def set(
        self, values: Mapping[SecretId, bytes], *, request_id: RequestId, by: Author
    ) -> tuple[tuple[SecretId, ...], tuple[ServiceChange, ...]]:
        """Set them, all or none; which were changed, and the services that get new copies."""
        ...

    async def rotate(self, *, by: Author) -> tuple[int, int]:
        """Seal all of them with a new data key; its version, and how many there are."""
        ...

    async def remove(self, secrets: tuple[SecretId, ...], *, request_id: RequestId, by: Author) -> None:
        """Forget them, all or none."""
        ...


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

    async def show_key(self) -> str:
        """The key that seals gossip, base64."""
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


class TokenControl(Protocol):
    """The cluster's API tokens."""

    def admit(self, token: TokenId, secret_hash: bytes) -> TokenGrant:
        """What it gives; raises UnauthorizedError for one that is unknown, wrong or expired. In constant time."""
        ...

    def grant(self, token: TokenId) -> TokenGrant | None:
        """What a token that was admitted gives now; None when it gives nothing any more."""
        ...

    def views(self) -> tuple[ApiTokenView, ...]:
        """All of them, by name."""
        ...

    async def create(self, request: CreateApiTokenRequest, *, by: Author) -> ApiTokenView:
        """Make it known."""
        ...

    async def revoke(self, token: TokenId, *, request_id: RequestId | None, by: Author) -> None:
        """Nobody is let in by it any more."""
        ...


class CopiesControl(Protocol):
    """The copies of services, and what can be asked of those that this node runs.

    All but `placed` is about this node's own copies only: others are asked where they are.
    """

    def placed(self, selection: Selection) -> tuple[Placed, ...]:
        """Which copies are meant and where they are; raises NotFoundError for a name that nothing has."""
        ...

    def logs(
        self, selection: Selection, *, follow: bool, tail: int | None, since_ms: WallMs | None
    ) -> AbstractAsyncContextManager[AsyncIterator[LogRecord]]:
        """Lines of the copies that are meant, by time; with `follow` as they come."""
        ...

    async def stats(self, selection: Selection) -> tuple[StatsView, ...]:
        """What copies use now."""
        ...

    def exec(self, allocation: AllocationId, request: ExecRequest) -> AbstractAsyncContextManager[ExecSession]:
        """A command inside a copy; leaving the context ends it."""
        ...


class MetricsControl(Protocol):
    """What the node's parts have counted."""

    async def scrape(self) -> tuple[bytes, str]:
        """All of it in the text format of Prometheus, and the media type of that."""
        ...


class TrustControl(Protocol):
    """Who belongs to the cluster, and what proves it, as the API drives it."""

    def check_member(self) -> None:
        """Raise RemovedError on a node that was removed from its cluster."""
        ...

    async def create_token(self, request: CreateTokenRequest, *, by: Author) -> TokenReply:
        """A new join token, whose secret is only in this answer."""
        ...

    def tokens(self) -> TokensReply:
        """All join tokens, without their secrets."""
        ...

    async def revoke_token(self, token: TokenId, *, by: Author) -> None:
        """Nobody joins by it any more."""
        ...

    async def remove_node(self, name: str, *, is_forced: bool, by: Author) -> NodeRemoval:
        """The node is out for ever."""
        ...

    async def leave(self, *, is_forced: bool) -> None:
        """The node that is asked leaves its cluster, and stops shortly after."""
        ...

    def authorities(self) -> AuthoritiesReply:
        """The CAs that are believed."""
        ...

    async def rotate(self, *, by: Author) -> AuthoritiesReply:
        """Begin a change of the CA."""
        ...

    async def rotate_ingress(self, *, by: Author) -> AuthoritiesReply:
        """Replace the CA of served names."""
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
    def trust(self) -> TrustControl:
        """Who belongs to the cluster."""
        ...

    @property
    def metrics(self) -> MetricsControl:
        """Its counters."""
        ...

    @property
    def upkeep(self) -> Upkeep:
        """Where copies go, and what people decided about nodes."""
        ...

    @property
    def locks(self) -> Locks:
        """Who holds back deploys."""
        ...

    @property
    def alerts(self) -> AlertDesk:
        """What people say about alerts."""
        ...

    @property
    def channels(self) -> ChannelDesk:
        """Who is told of them."""
        ...

    @property
    def figures(self) -> FigureHistory:
        """What was noted of this node, over time."""
        ...

    @property
    def secrets(self) -> SecretsControl:
        """Secrets, sealed."""
        ...

    def request_id(self, given: RequestId | None) -> RequestId:
        """The id of a change: the caller's, or a new one."""
        ...

    async def examine(self) -> DoctorReply:
        """All nodes, as far as they answer, and what is wrong with them."""
        ...

    @property
    def quorum(self) -> GroupControl:
        """The group that decides."""
        ...

    @property
    def tokens(self) -> TokenControl:
        """The cluster's API tokens."""
        ...

    @property
    def copies(self) -> CopiesControl:
        """The copies of services."""
        ...

    async def catch_up(self) -> None:
        """Return when this node knows everything that was committed when this was called (Raft §6.4).

        Raises NotLeaderError or NotAvailableError when nobody can say what that is.
        """
        ...

    async def wait_state(self, revision: StateRevision) -> None:
        """Return when this node's state is at `revision` or later."""
        ...

    async def audit(
        self,
        *,
        limit: int,
        before: LogIndex | None,
        since_ms: WallMs | None,
        actor: str | None,
        subject: str | None,
    ) -> tuple[AuditView, ...]:
        """The newest records below index `before`, oldest first."""
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

    async def deploy(self, request: DeployRequest, *, by: Author) -> ChangeReply:
        """Put specs, all or none; returns when that is committed."""
        ...

    async def scale(self, service: ServiceId, request: ScaleRequest, *, by: Author) -> ChangeReply:
        """Want another number of copies."""
        ...

    async def stop(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Stop all copies, keep the service."""
        ...

    async def start(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Start a stopped service."""
        ...

    async def restart(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Replace all copies by new ones of the same spec."""
        ...

    async def promote(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Let the new revision replace the one that it stands beside."""
        ...

    async def pause(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Leave the rollout where it is."""
        ...

    async def resume(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Go on with it."""
        ...

    async def rollback(self, service: ServiceId, request: RollbackRequest, *, by: Author) -> ChangeReply:
        """Make an older revision's spec the newest one."""
        ...

    async def remove(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
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
