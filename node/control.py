"""What the API can do on this node: the one door between requests and the parts.

Reads answer at once from this node's copy of intent and from its beliefs, and say so.
Writes become one command each and return when it is committed and applied.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager

from consensus.driver import ReplicaDriver
from consensus.state.cluster import ServiceRecord
from consensus.state.commands import (
    Command,
    PauseService,
    PromoteService,
    RemoveService,
    RestartService,
    ResumeService,
    ScaleService,
    StartService,
    StopService,
)
from node import changes
from node.access import ApiTokens, audit_page
from node.alert_desk import AlertDesk
from node.api.control import MetricsControl
from node.beliefs import BeliefTable
from node.building import ImageBuilder
from node.certificates.pairs import check_pairs
from node.channel_desk import ChannelDesk
from node.copies import LocalCopies
from node.doctor.examine import Doctor
from node.figures.history import FigureHistory
from node.group.quorum import Quorum
from node.locks import Locks
from node.membership import Membership
from node.overview import Moment
from node.runtime.base import Runtime
from node.secrets import SecretControl
from node.store.blobs import BlobStore
from node.store.events import EventLog
from node.trust.control import TrustControl
from node.upkeep import Upkeep
from node.views import node_views, revision_views, service_view
from orca.errors import InvalidRequestError, NotAvailableError
from orca.model.access import AuditView
from orca.model.doctor import DoctorReply
from orca.model.ids import (
    AllocationId,
    BlobDigest,
    ClusterId,
    LogIndex,
    NodeId,
    ProjectName,
    RequestId,
    SecretId,
    ServiceId,
    StateRevision,
)
from orca.model.spec import RuntimeKind
from orca.model.trust import Author
from orca.model.units import Instant, WallMs
from orca.model.view import (
    AllocationsReply,
    ChangeReply,
    ChangeRequest,
    DeployRequest,
    EventsReply,
    HistoryReply,
    ImageBuild,
    NodeView,
    Observation,
    PlanReply,
    RollbackRequest,
    ScaleRequest,
    ServiceReply,
    ServicesReply,
    ServiceView,
    StatusReply,
)
from orca.sources import Clock, IdSource

REPLICAS_MAX = 10_000

_Simple = StopService | StartService | PromoteService | PauseService | ResumeService


class Control:
    """Everything that a request can ask of this node.

    `trust`, `metrics` and `figures` are set before any of it is asked.
    """

    trust: TrustControl
    metrics: MetricsControl
    figures: FigureHistory
    upkeep: Upkeep
    locks: Locks
    alerts: AlertDesk
    channels: ChannelDesk

    def __init__(  # noqa: PLR0913 - the door to all parts
        self,
        *,
        cluster: ClusterId,
        node: NodeId,
        clock: Clock,
        ids: IdSource,
        replica: ReplicaDriver,
        beliefs: BeliefTable,
        events: EventLog,
        blobs: BlobStore,
        runtimes: Mapping[RuntimeKind, Runtime],
        membership: Membership,
        quorum: Quorum,
        secrets: SecretControl,
        doctor: Doctor,
        age_s: Callable[[], float],
        builder: ImageBuilder | None,
        describe_node: Callable[[], NodeView],
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._clock = clock
        self._ids = ids
        self._replica = replica
        self._beliefs = beliefs
        self._events = events
        self._blobs = blobs
        self.copies = LocalCopies(node, clock, replica, beliefs, runtimes)
        self.tokens = ApiTokens(replica, clock, ids)
        self.membership = membership
        self.quorum = quorum
        self.secrets = secrets
        self._doctor = doctor
        self._age_s = age_s
        self._builder = builder
        self._describe_node = describe_node
        self._caught_up_at: Instant | None = None
        self.upkeep = Upkeep(replica, clock, ids, self)
        self.locks = Locks(replica, clock, ids, self)
        self.alerts = AlertDesk(replica, clock, ids, self)
        self.channels = ChannelDesk(node, cluster, replica, clock, ids, self)

    # -------------------------------------------------------------------- reads

    def observation(self) -> Observation:
        """Who says so, and how fresh it is."""
        return Observation(
            observer=self._node,
            at_ms=self._clock.wall(),
            state_revision=self._replica.state.revision,
            age_ms=round(self._observation_age_s() * 1000),
        )

    def _observation_age_s(self) -> float:
        if self._caught_up_at is None:
            return self._age_s()
        return min(self._age_s(), self._clock.now() - self._caught_up_at)

    async def catch_up(self) -> None:
        """Return when this node knows all that was committed when this was called; raises like `read_barrier`."""
        asked_at = self._clock.now()
        await self._replica.read_barrier()
        self._caught_up_at = max(asked_at, self._caught_up_at or asked_at)

    async def wait_state(self, revision: StateRevision) -> None:
        """Return when this node's state is at `revision` or later."""
        await self._replica.wait_applied(LogIndex(int(revision)))

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
        return await audit_page(
            self._replica.state, limit=limit, before=before, since_ms=since_ms, actor=actor, subject=subject
        )

    def _view(self, record: ServiceRecord) -> ServiceView:
        blocked = self._replica.blocked.get(record.id, "")
        return service_view(self._replica.state, record, self._beliefs.statuses, blocked)

    def _moment(self) -> Moment:
        return Moment(self._replica.state, self._beliefs.statuses, self._replica.blocked)

    async def status(self) -> StatusReply:
        """The whole cluster at a glance."""
        leader = self._replica.leader
        nodes = node_views(self._replica.state, self._describe_node(), self._beliefs.nodes, leader)
        found = await self.services()
        return StatusReply(
            observation=found.observation,
            cluster=self._cluster,
            leader=leader,
            nodes=nodes,
            services=found.services,
            locks=self.locks.list().locks,
        )

    async def examine(self) -> DoctorReply:
        """All nodes, as far as they answer, and what is wrong with them."""
        return await self._doctor.examine(self.observation(), frozenset(self._replica.raft.membership.voters))

    def node(self) -> NodeView:
        """What this node says of itself."""
        return self._describe_node()

    async def services(self, project: ProjectName | None = None, only: tuple[ServiceId, ...] = ()) -> ServicesReply:
        """Services by id: all, those of one project, or those named (unknown ones are left out)."""
        known = self._replica.state.services
        chosen = [known[name] for name in sorted(set(only) or known) if name in known]
        if project is not None:
            chosen = [record for record in chosen if record.spec.project == project]
        observation = self.observation()
        return ServicesReply(observation=observation, services=await self._moment().services(chosen))

    def service(self, service: ServiceId) -> ServiceReply:
        """One service. Raises NotFoundError."""
        record = changes.existing(self._replica.state, service)
        return ServiceReply(observation=self.observation(), service=self._view(record), spec=record.spec)

    def history(self, service: ServiceId) -> HistoryReply:
        """The revisions of one service, newest first. Raises NotFoundError."""
        record = changes.existing(self._replica.state, service)
        return HistoryReply(observation=self.observation(), service=service, revisions=revision_views(record))

    async def allocations(self, service: ServiceId | None = None) -> AllocationsReply:
        """Copies by service and slot, those of removed services that still stop included."""
        state = self._replica.state
        chosen = list(state.allocations.values()) if service is None else state.allocations_of(service)
        if service is not None and not chosen:
            changes.existing(state, service)
        observation = self.observation()
        return AllocationsReply(observation=observation, allocations=await self._moment().allocations(chosen))

    def plan(self, request: DeployRequest) -> PlanReply:
        """What `deploy` would do now. Changes nothing. Raises InvalidSpecError."""
        state = self._replica.state
        changes.check_specs(state, request.specs, lambda _: True, request.secrets)
        self._check_certificates(request)
        return PlanReply(
            observation=self.observation(),
            services=changes.plan_services(state, self._replica.fleet(), request),
        )

    def change_count(self) -> int:
        """A counter of visible changes."""
        return self._beliefs.changes

    async def wait_change(self, after: int) -> int:
        """The counter, once it is higher than `after`."""
        return await self._beliefs.wait_change(after)

    # ------------------------------------------------------------------- writes

    async def deploy(self, request: DeployRequest, *, by: Author) -> ChangeReply:
        """Put all specs or none. Raises InvalidSpecError, ConflictError, NotAvailableError.

        Secrets that come with them are set before; they stay set when the specs are refused after all.
        """
        changes.check_specs(self._replica.state, request.specs, self._blobs.has, request.secrets)
        self._check_certificates(request)
        changes.check_locks(self._replica.state, request, self._clock.wall())
        request_id = self.request_id(request.request_id)
        if request.secrets:
            await self.secrets.set(request.secrets, request_id=RequestId(f"{request_id}/secrets"), by=by)
        return await self._change(changes.put_command(request, request_id, by, self._clock.wall()))

    def _check_certificates(self, request: DeployRequest) -> None:
        """Raise InvalidSpecError for a certificate that could not be shown, as far as its secrets open here."""

        def value_of(secret: SecretId) -> bytes | None:
            if secret in request.secrets:
                return request.secrets[secret] or None  # a plan has names alone
            return self.secrets.value(secret)

        check_pairs(self._replica.state, request.specs, value_of, request.secrets, self._clock.wall())

    async def scale(self, service: ServiceId, request: ScaleRequest, *, by: Author) -> ChangeReply:
        """Ask for another number of copies."""
        if not 0 <= request.replicas <= REPLICAS_MAX:
            raise InvalidRequestError(f"replicas is {request.replicas}; it must be 0 to {REPLICAS_MAX}")
        return await self._change(
            ScaleService(
                request_id=self.request_id(request.request_id),
                at_ms=self._clock.wall(),
                actor=by.actor,
                origin=by.origin,
                service=service,
                replicas=request.replicas,
            )
        )

    async def stop(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Keep the service, stop its copies."""
        return await self._simple(StopService, service, request, by)

    async def start(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Undo `stop`."""
        return await self._simple(StartService, service, request, by)

    async def _simple(
        self, kind: Callable[..., _Simple], service: ServiceId, request: ChangeRequest, by: Author
    ) -> ChangeReply:
        return await self._change(
            kind(
                request_id=self.request_id(request.request_id),
                at_ms=self._clock.wall(),
                actor=by.actor,
                origin=by.origin,
                service=service,
            )
        )

    async def restart(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Replace every copy by the rules of its deploy section."""
        record = changes.existing(self._replica.state, service)
        return await self._change(
            RestartService(
                request_id=self.request_id(request.request_id),
                at_ms=self._clock.wall(),
                actor=by.actor,
                origin=by.origin,
                service=service,
                template=f"{changes.template_hash(record.spec)}+{self._ids.fresh()}",
            )
        )

    async def promote(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Let the new revision replace the one that it stands beside."""
        return await self._simple(PromoteService, service, request, by)

    async def pause(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Leave the rollout where it is."""
        return await self._simple(PauseService, service, request, by)

    async def resume(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Undo `pause`."""
        return await self._simple(ResumeService, service, request, by)

    async def rollback(self, service: ServiceId, request: RollbackRequest, *, by: Author) -> ChangeReply:
        """Make an earlier revision the newest again."""
        record = changes.existing(self._replica.state, service)
        request_id = self.request_id(request.request_id)
        return await self._change(changes.rollback_command(record, request, request_id, by, self._clock.wall()))

    async def remove(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        """Forget the service; its copies stop."""
        return await self._change(
            RemoveService(
                request_id=self.request_id(request.request_id),
                at_ms=self._clock.wall(),
                actor=by.actor,
                origin=by.origin,
                service=service,
            )
        )

    def request_id(self, given: RequestId | None) -> RequestId:
        """The id of a change: the caller's, or a new one."""
        return RequestId(self._ids.fresh()) if given is None else given

    async def _change(self, command: Command) -> ChangeReply:
        outcome = await self._replica.propose(command)
        changes.raise_refusal(outcome)
        return ChangeReply(observation=self.observation(), changes=outcome.changes)

    # ------------------------------------------------------------------- events

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
        """Events after `after`, or the last `limit`; oldest first, and only those below `before`."""
        # Taken before reading: what comes meanwhile must be looked at next time.
        newest = self._events.last_sequence
        found = tuple(
            self._events.read(
                after, limit, service=service, allocation=allocation, before=before, is_of_cluster=is_of_cluster
            )
        )
        last = found[-1].sequence if found else (after or 0)
        if len(found) < limit and before is None:
            # All that did not match has been looked at too, and nobody should wait for it again.
            last = max(last, newest)
        return EventsReply(observation=self.observation(), events=found, last_sequence=last)

    async def wait_event(self, after: int) -> None:
        """Return once there is an event with a higher sequence."""
        await self._events.wait_after(after)

    # ------------------------------------------------------------ blobs and builds

    async def put_blob(self, digest: BlobDigest, chunks: AsyncIterator[bytes]) -> bool:
        """Keep content under its own hash; True when it is new here."""
        if self._blobs.has(digest):
            async for _ in chunks:
                pass
            return False
        await self._blobs.put(chunks, digest)
        return True

    def has_blob(self, digest: BlobDigest) -> bool:
        """Whether this node has the content."""
        return self._blobs.has(digest)

    def build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Build an image on this node. Raises NotAvailableError without Docker."""
        if self._builder is None:
            raise NotAvailableError("Docker is switched off on this node; images cannot be built here")
        return self._builder.build(tar, request)
