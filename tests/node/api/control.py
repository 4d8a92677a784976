"""A small node in memory: what the API and the client are tested against."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import msgspec
import trio

from gossip.serf import RotationEnded, RotationStep
from node.figures.history import FigureHistory
from node.figures.minutes import Recorder
from node.runtime.base import ExecRequest
from node.selection import Placed, Selection
from orca.errors import ConflictError, InvalidRequestError, NotFoundError, RuntimeFailedError
from orca.model.access import AuditView
from orca.model.doctor import DoctorReply
from orca.model.event import CLUSTER_KINDS, EventKind, NodeEvent
from orca.model.ids import (
    AllocationId,
    ClusterId,
    LogIndex,
    NodeId,
    ProjectName,
    RequestId,
    ServiceId,
    SpecRevision,
    StateRevision,
)
from orca.model.node import NodeFacts
from orca.model.quorum_view import QuorumReply
from orca.model.spec import ContainerImage, ServiceSpec
from orca.model.trust import Author
from orca.model.units import Bytes, MilliCpu, WallMs
from orca.model.view import (
    AllocationsReply,
    AllocationView,
    ChangeAction,
    ChangeReply,
    ChangeRequest,
    DeployRequest,
    EventsReply,
    GossipReply,
    HistoryReply,
    ImageBuild,
    KeyReport,
    LogRecord,
    MemberState,
    MemberView,
    NodeView,
    Observation,
    PlanReply,
    RevisionView,
    RollbackRequest,
    RolloutState,
    RolloutView,
    ScaleRequest,
    ServiceChange,
    ServicePlan,
    ServiceReply,
    ServicesReply,
    ServiceView,
    StatsView,
    StatusReply,
)
from tests.node.api.access import FakeTokens
from tests.node.api.blobs import FakeBlobs, FakeMetrics
from tests.node.api.echo import EchoSession
from tests.node.api.fake_secrets import FakeSecrets
from tests.node.api.no_series import NoSeries
from tests.node.api.trust import FakeTrust
from tests.node.scheduling import Admitted

NODE = NodeId("n-test")
WEB = ServiceId("default/web")
COPY = AllocationId("aaaaaaaaaaaa")


def spec(name: str, **fields: object) -> ServiceSpec:
    return msgspec.convert(
        {"name": name, "source": msgspec.to_builtins(ContainerImage(image="web:1")), **fields}, ServiceSpec
    )


def event(sequence: int, service: ServiceId | None = None, kind: EventKind = EventKind.ALLOCATION_READY) -> NodeEvent:
    return NodeEvent(
        sequence=sequence,
        at_ms=WallMs(sequence),
        node=NODE,
        kind=kind,
        message=f"event {sequence}",
        service=service,
    )


class FakeMembership:
    """Two members and a keyring of one key."""

    def __init__(self) -> None:
        self.is_paused = False
        self.sent: list[tuple[str, str]] = []
        self.health_score = 0
        self.nodes: tuple[MemberView, ...] = ()

    def members(self) -> tuple[MemberView, ...]:
        own = MemberView(
            name="here", id=NODE, address="127.0.0.1:7946", state=MemberState.ALIVE, state_age_ms=5, is_observer=True
        )
        other = MemberView(name="real", id=None, address="127.0.0.1:7947", state=MemberState.FAILED, state_age_ms=7)
        return (own, other, *self.nodes)

    def describe(self, reply: Callable[..., GossipReply]) -> GossipReply:
        return reply(
            address="127.0.0.1:7946",
            profile="orca",
            is_encrypted=False,
            is_paused=self.is_paused,
            health_score=self.health_score,
            fact_bytes=3,
            counts={"probes": 1},
            drops={},
            queues={"events": 0},
        )

    def pause(self, *, is_paused: bool) -> None:
        self.is_paused = is_paused

    async def send_event(self, name: str, payload: str) -> None:
        if not name:
            raise InvalidRequestError("an event needs a name")
        self.sent.append((name, payload))

    async def list_keys(self) -> KeyReport:
        return KeyReport(operation="list-keys", expected=2, answered=2, keys={"abc": 2}, primary_keys={"abc": 2})

    async def show_key(self) -> str:
        return "a2V5"

    async def rotate_keys(self, key: str, *, allow_absent: bool) -> tuple[tuple[KeyReport, ...], RotationEnded]:
        if key == "bad":
            raise InvalidRequestError("the key is no base64 of 16, 24 or 32 bytes")
        end = RotationEnded(
            is_done=allow_absent, step=RotationStep.INSTALL, reason="" if allow_absent else "real failed"
        )
        return (await self.list_keys(),), end


class FakeControl(FakeBlobs):
    """Keeps specs, events and contents; `crash` makes the next status call fail as a bug would."""

    def __init__(self, node: NodeId = NODE) -> None:
        super().__init__()
        self.id = node
        self.copy = COPY
        self.membership = FakeMembership()
        self.secrets = FakeSecrets()
        self.access = FakeTokens()
        self.trust = FakeTrust()
        admitted = self.admitted = Admitted()
        self.upkeep, self.locks = admitted.upkeep, admitted.locks
        self.alerts, self.channels = admitted.alerts, admitted.channels
        self.metrics = FakeMetrics()
        self.recorder = Recorder()
        self.figures = FigureHistory(self.recorder, NoSeries())
        self.placements: tuple[Placed, ...] = ()
        self.ready: tuple[AllocationView, ...] = ()
        self.rollout = RolloutState.PROGRESSING
        self.specs: dict[ServiceId, ServiceSpec] = {}
        self.revisions: dict[ServiceId, int] = {}
        self.recorded: list[NodeEvent] = []
        self.calls: list[tuple[str, str, object]] = []
        self.open_logs = 0
        self.open_execs = 0
        self.crash: Exception | None = None
        self.reject: list[Exception] = []
        self.built: bytes = b""
        self._changes = 0
        self._changed = trio.Condition()

    async def publish(self, *events: NodeEvent) -> None:
        self.recorded.extend(events)
        await self.notify()

    async def notify(self) -> None:
        self._changes += 1
        async with self._changed:
            self._changed.notify_all()

    def observation(self) -> Observation:
        return Observation(observer=self.id, at_ms=WallMs(1), state_revision=StateRevision(self._changes))

    def _view(self, found: ServiceSpec) -> ServiceView:
        revision = SpecRevision(self.revisions[found.id])
        return ServiceView(
            id=found.id,
            project=found.project,
            name=found.name,
            runtime=found.runtime,
            workload="web:1",
            revision=revision,
            replicas=found.replicas,
            ready=0,
            is_stopped=False,
            is_job=False,
            restarts=0,
            routes=(),
            rollout=RolloutView(revision=revision, state=self.rollout, started_at_ms=WallMs(0)),
            updated_at_ms=WallMs(0),
            allocations=tuple(one for one in self.ready if one.service == found.id),
        )

    def _find(self, service: ServiceId) -> ServiceSpec:
        if service not in self.specs:
            raise NotFoundError(f"there is no service {service}")
        return self.specs[service]

    async def status(self) -> StatusReply:
        if self.crash is not None:
            raise self.crash
        services = (await self.services()).services
        return StatusReply(
            observation=self.observation(),
            cluster=ClusterId("c-test"),
            leader=NODE,
            nodes=(self.node(),),
            services=services,
        )

    def request_id(self, given: RequestId | None) -> RequestId:
        return given or RequestId("made-here")

    async def examine(self) -> DoctorReply:
        return DoctorReply(observation=self.observation(), nodes=(), findings=(), outlook=("all is well",))

    @property
    def quorum(self) -> "FakeControl":
        return self

    async def recover(self, *, is_forced: bool) -> None:
        self.calls.append(("recover", "", is_forced))
        if not is_forced:
            raise ConflictError("the group is not started anew: a quorum lives")

    def describe(self, observation: Observation) -> QuorumReply:
        return QuorumReply(
            observation=observation,
            term=1,
            epoch=0,
            leader=NODE,
            commit_index=1,
            applied_index=1,
            wanted=1,
            voters_alive=1,
            has_quorum=True,
            members=(),
        )

    def node(self) -> NodeView:
        facts = NodeFacts(
            id=NODE, name="test", version="0", architecture="x", cpu_milli=MilliCpu(1), memory_bytes=Bytes(1)
        )
        return NodeView(facts=facts, is_leader=True, allocations=0, started_at_ms=WallMs(0))

    async def services(self, project: ProjectName | None = None, only: tuple[ServiceId, ...] = ()) -> ServicesReply:
        found = (
            self._view(entry)
            for entry in self.specs.values()
            if (project is None or entry.project == project) and (not only or entry.id in only)
        )
        return ServicesReply(observation=self.observation(), services=tuple(found))

    def service(self, service: ServiceId) -> ServiceReply:
        found = self._find(service)
        return ServiceReply(observation=self.observation(), service=self._view(found), spec=found)

    def history(self, service: ServiceId) -> HistoryReply:
        found = self._find(service)
        revision = RevisionView(
            revision=SpecRevision(1),
            created_at_ms=WallMs(0),
            cause="deploy",
            workload="web:1",
            replicas=found.replicas,
            is_current=True,
        )
        return HistoryReply(observation=self.observation(), service=service, revisions=(revision,))

    async def allocations(self, service: ServiceId | None = None) -> AllocationsReply:
        if service is not None:
            self._find(service)
        return AllocationsReply(observation=self.observation(), allocations=())

    def plan(self, request: DeployRequest) -> PlanReply:
        plans = tuple(ServicePlan(service=entry.id, action=ChangeAction.CREATE) for entry in request.specs)
        return PlanReply(observation=self.observation(), services=plans)

    def _reply(self, service: ServiceId, action: ChangeAction) -> ChangeReply:
        change = ServiceChange(service=service, action=action, revision=SpecRevision(self.revisions.get(service, 0)))
        return ChangeReply(observation=self.observation(), changes=(change,))

    def _note(self, verb: str, actor: str, request: object) -> None:
        self.calls.append((verb, actor, request))
        if self.reject:
            raise self.reject.pop(0)

    async def deploy(self, request: DeployRequest, *, by: Author) -> ChangeReply:
        self._note("deploy", by.actor, request)
        for entry in request.specs:
            self.specs[entry.id] = entry
            self.revisions[entry.id] = self.revisions.get(entry.id, 0) + 1
        await self.notify()
        changes = (self._reply(entry.id, ChangeAction.CREATE).changes for entry in request.specs)
        return ChangeReply(observation=self.observation(), changes=tuple(change for (change,) in changes))

    async def scale(self, service: ServiceId, request: ScaleRequest, *, by: Author) -> ChangeReply:
        self._note("scale", by.actor, request)
        self.specs[service] = msgspec.structs.replace(self._find(service), replicas=request.replicas)
        await self.notify()
        return self._reply(service, ChangeAction.UPDATE)

    async def _change(self, verb: str, service: ServiceId, request: object, by: Author) -> ChangeReply:
        self._note(verb, by.actor, request)
        self._find(service)
        return self._reply(service, ChangeAction.UPDATE)

    async def stop(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        return await self._change("stop", service, request, by)

    async def start(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        return await self._change("start", service, request, by)

    async def restart(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        return await self._change("restart", service, request, by)

    async def promote(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        return await self._change("promote", service, request, by)

    async def pause(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        return await self._change("pause", service, request, by)

    async def resume(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        return await self._change("resume", service, request, by)

    async def rollback(self, service: ServiceId, request: RollbackRequest, *, by: Author) -> ChangeReply:
        if request.revision == 99:
            raise ConflictError("there is no revision 99")
        return await self._change("rollback", service, request, by)

    async def remove(self, service: ServiceId, request: ChangeRequest, *, by: Author) -> ChangeReply:
        await self._change("remove", service, request, by)
        del self.specs[service]
        await self.notify()
        return self._reply(service, ChangeAction.REMOVE)

    def change_count(self) -> int:
        return self._changes

    async def wait_change(self, after: int) -> int:
        async with self._changed:
            while self._changes <= after:
                await self._changed.wait()
        return self._changes

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
        await trio.lowlevel.checkpoint()
        known = [e for e in self.recorded if before is None or e.sequence < before]
        looked = known[-limit:] if after is None else [e for e in known if e.sequence > after][:limit]
        found = tuple(
            e
            for e in looked
            if (service is None or e.service == service) and (not is_of_cluster or e.kind in CLUSTER_KINDS)
        )
        last = looked[-1].sequence if looked else after or 0
        return EventsReply(observation=self.observation(), events=found, last_sequence=last)

    async def wait_event(self, after: int) -> None:
        async with self._changed:
            while not self.recorded or self.recorded[-1].sequence <= after:
                await self._changed.wait()

    @property
    def copies(self) -> "FakeControl":
        return self

    @property
    def tokens(self) -> "FakeTokens":
        return self.access

    async def catch_up(self) -> None:
        self.calls.append(("catch_up", "", None))
        if self.reject:
            raise self.reject.pop(0)

    async def wait_state(self, revision: StateRevision) -> None:
        await trio.lowlevel.checkpoint()

    async def audit(
        self, *, limit: int, before: LogIndex | None, since_ms: WallMs | None, actor: str | None, subject: str | None
    ) -> tuple[AuditView, ...]:
        self.calls.append(("audit", "", (limit, before, since_ms, actor, subject)))
        await trio.lowlevel.checkpoint()
        return (
            AuditView(
                index=LogIndex(7),
                at_ms=WallMs(1),
                actor="token:ci",
                origin="tcp:10.0.0.9:1",
                action="exec",
                subject="web.1: sh",
                result="forbidden",
                message="no",
                count=3,
            ),
        )

    def placed(self, selection: Selection) -> tuple[Placed, ...]:
        if selection.service is not None:
            self._find(selection.service)
        known = (*self.placements, Placed(allocation=self.copy, service=WEB, slot=0, node=self.id, is_started=True))
        found = tuple(
            one
            for one in known
            if selection.allocation in {None, one.allocation}
            and selection.service in {None, one.service}
            and selection.sees(one.service)
        )
        if selection.allocation is not None and not found:
            raise NotFoundError(f"there is no copy {selection.allocation}")
        return found

    @contextlib.asynccontextmanager
    async def logs(
        self, selection: Selection, *, follow: bool, tail: int | None, since_ms: WallMs | None
    ) -> AsyncGenerator[AsyncIterator[LogRecord], None]:
        self.open_logs += 1
        try:
            # A nursery, as the real one has: what the reader raises would come out as a group.
            async with trio.open_nursery() as nursery, contextlib.aclosing(self._records(follow, tail)) as records:
                yield records
                nursery.cancel_scope.cancel()
        finally:
            self.open_logs -= 1
            await self.notify_shielded()

    async def notify_shielded(self) -> None:
        with trio.CancelScope(shield=True):
            await self.notify()

    async def _records(self, follow: bool, tail: int | None) -> AsyncGenerator[LogRecord, None]:
        for index in range(3)[-(tail or 3) :]:
            yield LogRecord(
                service=WEB, allocation=self.copy, slot=0, at_ms=WallMs(index), stream="stdout", text=f"line {index}"
            )
        if tail == 1 and not follow:
            raise RuntimeFailedError("the engine went away")
        if follow:
            await trio.sleep_forever()

    async def stats(self, selection: Selection) -> tuple[StatsView, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(
            StatsView(allocation=one.allocation, service=one.service, slot=one.slot, cpu_milli=5, memory_bytes=7)
            for one in self.placed(selection)
            if one.node == self.id
        )

    @contextlib.asynccontextmanager
    async def exec(self, allocation: AllocationId, request: ExecRequest) -> AsyncGenerator[EchoSession, None]:
        if allocation != self.copy:
            raise NotFoundError(f"there is no copy {allocation}")
        self.calls.append(("exec", str(allocation), request))
        self.open_execs += 1
        try:
            async with trio.open_nursery():
                yield EchoSession(request)
        finally:
            self.open_execs -= 1
            await self.notify_shielded()

    @contextlib.asynccontextmanager
    async def build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AsyncGenerator[AsyncIterator[str], None]:
        async with contextlib.aclosing(self._build(tar, request)) as lines:
            yield lines

    async def _build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AsyncGenerator[str, None]:
        yield f"building {request.tag}"
        async for piece in tar:
            self.built += piece
            yield f"read {len(self.built)}"
        self.calls.append(("build", request.tag, request))
        if request.target == "broken":
            raise RuntimeFailedError("step 2 failed")
