"""Nodes that carry out what is planned, as well or as badly as the test wants."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.feasible import misplacement
from consensus.scheduler.fleet import Fleet, fleet_of
from consensus.scheduler.plan import Plan, Planner, make_plan
from consensus.scheduler.reconcile import effective_order, healthy_after_ms, is_healthy
from consensus.scheduler.stages import copies_wanted
from orca.model.allocation import TERMINAL_PHASES, Allocation, AllocationStatus, DesiredStatus, Phase
from orca.model.ids import AllocationId, NodeId, ServiceId
from orca.model.node import NodeFacts, RuntimeState
from orca.model.spec import RuntimeKind, UpdateOrder
from orca.model.units import Bytes, MilliCpu, WallMs
from orca.model.view import RolloutState
from tests.consensus.intent import Cluster, CountingIds


def make_node(name: str, *, cpu: int = 4000, memory: int = 2**33, **fields: Any) -> NodeFacts:
    runtimes = fields.pop("runtimes", None) or tuple(RuntimeState(kind=kind, is_available=True) for kind in RuntimeKind)
    return NodeFacts(
        id=NodeId(f"n-{name}"),
        name=name,
        version="1",
        architecture="x86_64",
        cpu_milli=MilliCpu(cpu),
        memory_bytes=Bytes(memory),
        runtimes=runtimes,
        **fields,
    )


@dataclass
class World(Cluster):
    """A cluster with a scheduler; every plan is checked before it is applied."""

    nodes: tuple[NodeFacts, ...] = (make_node("a"), make_node("b"))
    statuses: dict[AllocationId, AllocationStatus] = field(default_factory=dict)
    bad_images: set[str] = field(default_factory=set)
    plan: Plan | None = None
    departed: dict[NodeId, WallMs] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.ids = CountingIds()
        self.planner = Planner()
        self.versions: dict[ServiceId, int] = {}
        self._known: dict[AllocationId, AllocationStatus] = {}

    @property
    def beliefs(self) -> Beliefs:
        """As a node has them: with a number for each service that grows when a status of it changes."""
        for name in {*self._known, *self.statuses}:
            before, after = self._known.get(name), self.statuses.get(name)
            one = before or after
            if before is not after and one is not None:
                self.versions[one.service] = self.versions.get(one.service, 0) + 1
        self._known = dict(self.statuses)
        return Beliefs(
            nodes={node.id: node for node in self.nodes},
            statuses=self.statuses,
            departed=self.departed,
            status_versions=self.versions,
        )

    def fleet(self) -> Fleet:
        """What is reserved where."""
        return fleet_of(self.state, self.beliefs)

    # -------------------------------------------------------------------- planning

    def think(self) -> bool:
        """Make a plan and apply it; False when there is nothing to do."""
        made = self.ids.made
        self.plan = self.planner.plan(self.state, self.beliefs, WallMs(self.at_ms), self.ids)
        again = CountingIds()
        again.made = made
        assert make_plan(self.state, self.beliefs, WallMs(self.at_ms), again) == self.plan, "it remembers what is over"
        assert self.plan.wake_at_ms is None or self.plan.wake_at_ms > self.at_ms, "it would wake without a pause"
        if self.plan.command is None:
            return False
        serving = {service: self.serving(service) for service in self.state.services}
        of_base = {service: self.serving_base(service) for service in self.state.services}
        stops = set(self.plan.command.stops)
        stopped = [self.state.allocations[one] for one in self.plan.command.stops]
        assert all(one.desired is DesiredStatus.RUNNING for one in stopped), "it stops what is stopped"
        outcome = self.apply(self.plan.command)
        assert not outcome.error, outcome
        for service in self.state.services:
            self._check(service, serving[service], stops)
            self._check_stage(service, of_base[service], stops)
        self._check_room()
        return True

    def _check(self, service: ServiceId, serving_before: int, stops: set[AllocationId]) -> None:
        record = self.state.services[service]
        deploy, wanted = record.spec.deploy, record.replicas
        if record.spec.is_global:
            return
        copies = [one for one in self.copies(service) if any(node.id == one.node for node in self.nodes)]
        running = [one for one in copies if one.desired is DesiredStatus.RUNNING]
        new = [one for one in self.placed() if one.service == service]
        stop_first = effective_order(record.spec) is UpdateOrder.STOP_FIRST
        surge = deploy.max_surge or (0 if deploy.max_unavailable else 1)
        if new and stop_first:
            existing = [one for one in copies if self.phase(one) not in TERMINAL_PHASES]
            assert len(existing) <= wanted, f"{len(existing)} copies exist of {wanted}, and old ones stop first"
        if new and record.is_staged:
            leaving = sum(self._leaves(one) for one in running)
            most = wanted + max(1, surge) + copies_wanted(record) + leaving
            assert len(running) <= most, f"{len(running)} copies of {wanted}"
        elif new:
            assert len(running) <= wanted + (0 if stop_first else surge), f"{len(running)} copies of {wanted}"
        staying = [one for one in running if not self._leaves(one)]
        slots = [one.slot for one in staying if one.template == record.current.template]
        well = {one.slot for one in staying if is_healthy(self.statuses.get(one.id), record.spec, WallMs(self.at_ms))}
        is_spare = len(well) < wanted and not stop_first  # the second serves in place of one that does not
        assert len(set(slots)) == len(slots) or is_spare, f"two current copies in one slot: {slots}"
        is_frozen = record.rollout.state is RolloutState.FAILED and not record.is_staged
        is_forced = self._was_job(service) or self._is_forced()
        if not is_forced and any(self.state.allocations[one].service == service for one in stops):
            unavailable = max(1, deploy.max_unavailable) if stop_first else deploy.max_unavailable
            floor = min(serving_before, wanted - unavailable)
            assert self.serving(service) >= floor, f"{self.serving(service)} of {wanted} serve, {floor} is the least"
        if is_frozen and new:
            assert all(one.template == record.current.template for one in running), "a failed rollout moved"

    def _check_stage(self, service: ServiceId, base_before: int, stops: set[AllocationId]) -> None:
        """What stands beside a revision that serves costs it nothing."""
        record = self.state.services[service]
        is_forced = self._was_job(service) or self._is_forced()
        if record.is_staged and not is_forced and any(self.state.allocations[one].service == service for one in stops):
            floor = min(base_before, record.replicas)
            assert self.serving_base(service) >= floor, f"{self.serving_base(service)} of the base serve, not {floor}"

    def serving_base(self, service: str = "default/web") -> int:
        """Wanted copies of the revision that the newest one stands beside, that take requests."""
        record = self.state.services[ServiceId(service)]
        return sum(
            one.desired is DesiredStatus.RUNNING and one.id in self.statuses and self.statuses[one.id].is_ready
            for one in self.copies(service)
            if record.base is not None and one.template == record.base.template
        )

    def _leaves(self, one: Allocation) -> bool:
        """Whether its node is drained, or does not fit any more."""
        site = next(site for site in self.fleet().sites if site.id == one.node)
        return site.is_draining or bool(misplacement(self.state.services[one.service].spec, site))

    def _is_forced(self) -> bool:
        """Whether the deadline of a drain is over: then copies are stopped, whoever serves instead."""
        drains = [one.drain for one in self.state.nodes.values() if one.drain is not None]
        return any(one.deadline_at_ms is not None and one.deadline_at_ms <= self.at_ms for one in drains)

    def _was_job(self, service: ServiceId) -> bool:
        """Whether a copy of it may end by itself, and so need not serve."""
        return any(one.spec.is_job for one in self.state.services[service].revisions)

    def _check_room(self) -> None:
        fleet = self.fleet()
        for node in self.nodes:
            usage = fleet.usage(node.id)
            assert usage.cpu_milli <= node.cpu_milli, f"{node.name} has more cpu given than it has"
            assert usage.memory_bytes <= node.memory_bytes, f"{node.name} has more memory given"
        taken: dict[tuple[NodeId, int], AllocationId] = {}
        for one in self.state.allocations.values():
            if self.phase(one) in TERMINAL_PHASES:
                continue
            for port in self.state.spec_of(one).ports:
                if port.host_port is not None:
                    other = taken.setdefault((one.node, port.host_port), one.id)
                    assert other == one.id, f"{one.id} and {other} both publish {port.host_port} on {one.node}"

    def placed(self) -> tuple[Allocation, ...]:
        command = None if self.plan is None else self.plan.command
        return () if command is None else command.placements

    def think_all(self) -> None:
        for _ in range(50):
            if not self.think():
                return
        raise AssertionError("it never stops planning")

    # --------------------------------------------------------------------- the nodes

    def copies(self, service: str = "default/web") -> list[Allocation]:
        return self.state.allocations_of(ServiceId(service))

    def phase(self, one: Allocation) -> Phase | None:
        status = self.statuses.get(one.id)
        return None if status is None else status.phase

    def serving(self, service: str) -> int:
        """Wanted copies that take requests."""
        return sum(
            one.desired is DesiredStatus.RUNNING and one.id in self.statuses and self.statuses[one.id].is_ready
            for one in self.copies(service)
        )

    def report(self, one: AllocationId, phase: Phase, **fields: Any) -> None:
        before = self.statuses.get(one)
        allocation = self.state.allocations[one]
        if before is None:
            before = AllocationStatus(
                allocation=one, service=allocation.service, node=allocation.node, revision=allocation.revision
            )
        is_ready = fields.setdefault("is_ready", False)
        if is_ready and not before.is_ready:
            fields.setdefault("ready_since_ms", WallMs(self.at_ms))
        fields.setdefault("since_ms", WallMs(self.at_ms))
        self.statuses[one] = msgspec.structs.replace(before, phase=phase, version=before.version + 1, **fields)

    def make_ready(self, *ids: AllocationId) -> None:
        for one in ids:
            self.report(one, Phase.RUNNING, is_ready=True)

    def is_bad(self, one: Allocation) -> bool:
        image = getattr(self.state.spec_of(one).source, "image", "")
        return image in self.bad_images

    def obey(self) -> bool:
        """The nodes do one thing each for every copy; False when nothing is left to do."""
        before = dict(self.statuses)
        for one in list(self.state.allocations.values()):
            phase = self.phase(one)
            if one.desired is DesiredStatus.STOPPED:
                if phase not in TERMINAL_PHASES:
                    self.report(one.id, Phase.STOPPED)
            elif phase in TERMINAL_PHASES:
                continue
            elif self.is_bad(one):
                restarts = 0 if one.id not in self.statuses else self.statuses[one.id].restarts
                if restarts < 6:
                    self.report(one.id, Phase.BACKOFF, restarts=restarts + 1, reason="exit code 1")
            elif self.state.spec_of(one).is_job:
                self.report(one.id, Phase.COMPLETED)
            elif phase is not Phase.RUNNING or not self.statuses[one.id].is_ready:
                self.make_ready(one.id)
        for gone in [one for one in self.statuses if one not in self.state.allocations]:
            del self.statuses[gone]
        return self.statuses != before

    def wait(self) -> bool:
        """Let time pass to when the scheduler wants to look again; False when it does not."""
        if self.plan is None or self.plan.wake_at_ms is None:
            return False
        self.at_ms = max(self.at_ms, self.plan.wake_at_ms)
        return True

    def settle(self) -> None:
        """Nodes obey, time passes, until nothing changes any more."""
        for _ in range(300):
            self.think_all()
            if not self.obey() and not self.wait():
                return
        raise AssertionError("it never comes to rest")

    def mature(self) -> None:
        """Copies that are ready have been so for long enough."""
        self.at_ms += max((healthy_after_ms(one.spec) for one in self.state.services.values()), default=0)
