"""A node's surroundings as a model: an engine with instances, actions in flight, late words.

Holds the machine to its word after every step. What an engine does is done when the
test says so, in any order, and it may fail before or after it had its effect.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from node.reconciler.events import (
    Action,
    ActionEnded,
    Assignment,
    AssignmentsChanged,
    CancelAction,
    Effect,
    Event,
    Happened,
    HealthChanged,
    HealthVerdict,
    InstancesListed,
    ListFailed,
    ListInstances,
    RunAction,
    RuntimeReported,
    StartProbes,
    StatusChanged,
    StatusDropped,
    StopProbes,
    Tick,
)
from node.reconciler.machine import Reconciler
from node.runtime.base import (
    Instance,
    InstanceExited,
    InstanceRemoved,
    InstanceStarted,
    InstanceState,
    RuntimeEvent,
    RuntimeStateChanged,
)
from orca.config import ReconcilerConfig
from orca.model.allocation import TERMINAL_PHASES, Allocation, AllocationStatus, DesiredStatus, Phase
from orca.model.ids import AllocationId, LeaseEpoch, NodeId, ServiceId, ServiceName, SpecRevision
from orca.model.node import RuntimeState
from orca.model.spec import ContainerImage, RestartPolicy, RestartSpec, RuntimeKind, ServiceSpec
from orca.model.units import Instant, WallMs

NODE = NodeId("n-1")
KIND = RuntimeKind.DOCKER
CONFIG = ReconcilerConfig(starts_max=2)


def make_assignment(
    name: str,
    policy: RestartPolicy = RestartPolicy.ALWAYS,
    desired: DesiredStatus = DesiredStatus.RUNNING,
    attempts_max: int | None = None,
) -> Assignment:
    """Copy `name` of a service of its own."""
    service = ServiceName(f"s-{name}")
    restart = RestartSpec(policy=policy, attempts_max=attempts_max)
    spec = ServiceSpec(name=service, source=ContainerImage(image="x"), restart=restart)
    allocation = Allocation(
        id=AllocationId(name),
        service=ServiceId(spec.id),
        revision=SpecRevision(1),
        template="t",
        slot=0,
        node=NODE,
        desired=desired,
    )
    return Assignment(allocation=allocation, spec=spec)


@dataclass
class Thing:
    """An instance in the engine."""

    state: InstanceState = InstanceState.CREATED
    exit_code: int | None = None
    run: int = 0
    fence: LeaseEpoch | None = None


@dataclass
class World:
    """Everything around one `Reconciler`."""

    config: ReconcilerConfig = CONFIG
    now: float = 100.0
    is_up: bool = False
    things: dict[AllocationId, Thing] = field(default_factory=dict)
    wanted: dict[AllocationId, Assignment] = field(default_factory=dict)
    in_flight: dict[AllocationId, RunAction] = field(default_factory=dict)
    cancelled: set[AllocationId] = field(default_factory=set)
    probes: set[AllocationId] = field(default_factory=set)
    statuses: dict[AllocationId, AllocationStatus] = field(default_factory=dict)
    ended: dict[AllocationId, AllocationStatus] = field(default_factory=dict)
    words: deque[RuntimeEvent] = field(default_factory=deque)
    past_words: list[RuntimeEvent] = field(default_factory=list)
    is_list_asked: bool = False
    snapshot: tuple[Instance, ...] | None = None
    is_listed: bool = False
    is_trusted: bool = False
    happened: list[Happened] = field(default_factory=list)
    launches: list[AllocationId] = field(default_factory=list)
    runs: int = 0

    def __post_init__(self) -> None:
        self.machine = Reconciler(NODE, self.config, random.Random(1), self.ended)

    # ------------------------------------------------------------------ the machine

    def step(self, event: Event) -> list[Effect]:
        wall = WallMs(1_000_000 + int(self.now * 1000))
        effects = self.machine.step(event, Instant(self.now), wall)
        for effect in effects:
            self._perform(effect)
        self.machine.check_invariants()
        for status in self.statuses.values():
            assert not status.is_ready or (status.phase is Phase.RUNNING and status.allocation in self.probes)
        return effects

    def _perform(self, effect: Effect) -> None:
        match effect:
            case RunAction():
                self._begin(effect)
            case CancelAction():
                assert effect.allocation in self.in_flight, "nothing is in flight that could be cancelled"
                self.cancelled.add(effect.allocation)
            case ListInstances():
                assert not self.is_list_asked, "two listings at once"
                self.is_list_asked, self.snapshot = True, None
            case StartProbes():
                assert effect.allocation not in self.probes, "probed twice"
                self.probes.add(effect.allocation)
            case StopProbes():
                self.probes.remove(effect.allocation)
            case StatusChanged():
                status, before = effect.status, self.statuses.get(effect.status.allocation)
                assert before is None or status.version > before.version
                assert before is None or before.phase not in TERMINAL_PHASES or status.phase is before.phase, (
                    f"{before.phase} is final, {status.phase} came after it"
                )
                self.statuses[status.allocation] = status
                if status.phase in {Phase.COMPLETED, Phase.FAILED}:
                    self.ended[status.allocation] = status
            case StatusDropped():
                self.statuses.pop(effect.allocation, None)
                self.ended.pop(effect.allocation, None)
            case Happened():
                self.happened.append(effect)

    def _begin(self, order: RunAction) -> None:
        allocation = order.allocation
        assert allocation not in self.in_flight, f"two actions at once: {order} and {self.in_flight[allocation]}"
        assert self.is_listed, f"{order.action} before the engine has listed what there is"
        if allocation not in self.wanted:
            assert self.is_trusted, f"{order.action} of an orphan, and nobody vouches for the assignments"
        if order.action is Action.LAUNCH:
            assert order.assignment is not None
            self.launches.append(allocation)
            assert allocation not in self.ended, "a job that ended runs again"
            thing = self.things.get(allocation)
            is_done = thing is not None and thing.state is InstanceState.EXITED and thing.exit_code == 0
            assert not (is_done and order.assignment.spec.is_job), "a job that ended well runs again"
        self.in_flight[allocation] = order

    # ------------------------------------------------------------------ the cluster

    def assign(self, assignment: Assignment) -> None:
        self.wanted[assignment.allocation.id] = assignment
        self.tell()

    def tell(self) -> None:
        self.is_trusted = True
        self.step(AssignmentsChanged(assignments=tuple(self.wanted.values())))

    # ------------------------------------------------------------------- the engine

    def listing(self) -> tuple[Instance, ...]:
        return tuple(
            Instance(
                allocation=name,
                service=ServiceId(f"default/s-{name}"),
                revision=SpecRevision(1),
                template="t",
                state=thing.state,
                exit_code=thing.exit_code,
                started_at_ms=WallMs(thing.run) if thing.run else None,
                fence=thing.fence,
            )
            for name, thing in self.things.items()
        )

    def answer_list(self, *, fails: bool = False) -> None:
        """Answer with what was there when `snapshot` was taken, or is there now."""
        assert self.is_list_asked
        self.is_list_asked = False
        if fails or not self.is_up:
            self.step(ListFailed(kind=KIND, reason="no"))
            return
        instances = self.listing() if self.snapshot is None else self.snapshot
        self.is_listed = True
        self.step(InstancesListed(kind=KIND, instances=instances))

    def start(self, name: AllocationId) -> None:
        thing = self.things[name]
        if thing.state is not InstanceState.RUNNING:
            self.runs += 1
            thing.state, thing.exit_code, thing.run = InstanceState.RUNNING, None, self.runs
            self.words.append(InstanceStarted(allocation=name))

    def exit(self, name: AllocationId, exit_code: int) -> None:
        thing = self.things[name]
        if thing.state is InstanceState.RUNNING:
            thing.state, thing.exit_code = InstanceState.EXITED, exit_code
            self.words.append(InstanceExited(allocation=name, exit_code=exit_code))

    def remove(self, name: AllocationId) -> None:
        if name in self.things:
            self.exit(name, 137)
            del self.things[name]
            self.words.append(InstanceRemoved(allocation=name))

    def deliver(self) -> None:
        word = self.words.popleft()
        self.past_words = [*self.past_words[-5:], word]
        self.step(RuntimeReported(event=word))

    def go_down(self, *, kills: bool) -> None:
        self.is_up = self.is_listed = False
        self.words.clear()
        if kills:
            for name in self.things:
                self.exit(name, 137)
            self.words.clear()
        self._state("it hangs")

    def come_up(self) -> None:
        self.is_up = True
        self._state("")

    def _state(self, reason: str) -> None:
        state = RuntimeState(kind=KIND, is_available=self.is_up, reason=reason)
        self.step(RuntimeReported(event=RuntimeStateChanged(state=state)))

    # ---------------------------------------------------------------------- actions

    def affect(self, order: RunAction) -> None:
        """What the action does to the engine."""
        name = order.allocation
        match order.action:
            case Action.LAUNCH:
                fence = None if order.assignment is None else order.assignment.permit.fence
                if name in self.things and self.things[name].fence != fence:
                    self.remove(name)
                self.things.setdefault(name, Thing(fence=fence))
                self.start(name)
            case Action.STOP if name in self.things:
                self.exit(name, 143)
                self.things[name].exit_code = 143  # also when it ended by itself meanwhile: nobody can tell
            case Action.REMOVE:
                self.remove(name)
            case _:
                pass

    def end_action(self, name: AllocationId, *, error: str = "", is_late: bool = False) -> None:
        """Bring an action to its end: with `error` it fails, after its effect if `is_late`."""
        order = self.in_flight.pop(name)
        is_cancelled = name in self.cancelled
        self.cancelled.discard(name)
        needs_engine = order.action is not Action.DRAIN
        is_away = needs_engine and not self.is_up
        is_missing = order.action in {Action.STOP, Action.INSPECT} and name not in self.things
        if is_late or not (error or is_away or is_missing or is_cancelled):
            self.affect(order)
        if is_cancelled:
            error = error or "given up"
        if is_away or is_missing:
            error = error or "no"
        has_ended = False
        if order.action in {Action.LAUNCH, Action.INSPECT} and name in self.things and not error:
            has_ended = self.things[name].state is not InstanceState.RUNNING
        if is_away:
            self.is_listed = False
        self.step(
            ActionEnded(
                allocation=name,
                action=order.action,
                error=error,
                is_unavailable=is_away,
                is_missing=is_missing and not is_away,
                has_ended=has_ended,
            )
        )

    def verdict(self, name: AllocationId, verdict: HealthVerdict) -> None:
        if verdict is not HealthVerdict.READY or name in self.probes:
            self.step(HealthChanged(allocation=name, verdict=verdict, reason="probe"))

    # ------------------------------------------------------------------------- time

    def tick(self) -> None:
        deadline = self.machine.deadline()
        if deadline is not None:
            self.now = max(self.now, deadline)
            self.step(Tick())
            after = self.machine.deadline()
            assert after is None or after > self.now, "a tick must not want another one at once"

    def restart(self) -> None:
        """The agent dies and comes back; what was in flight may or may not have had its effect."""
        for index, order in enumerate(list(self.in_flight.values())):
            if index % 2 and self.is_up:
                self.affect(order)
        self.in_flight.clear()
        self.cancelled.clear()
        self.probes.clear()
        self.statuses.clear()
        self.words.clear()
        self.is_list_asked = self.is_listed = self.is_trusted = False
        self.machine = Reconciler(NODE, self.config, random.Random(1), dict(self.ended))
        self.tell()
        if self.is_up:
            self._state("")

    def work(self) -> bool:
        """One thing goes as it should; False when there is nothing to do but to wait."""
        if self.words:
            self.deliver()
        elif self.is_list_asked:
            self.answer_list()
        elif self.in_flight:
            self.end_action(next(iter(self.in_flight)))
        else:
            return False
        return True

    def settle(self, rounds: int = 400) -> None:
        """Let the engine do all that it is asked, until there is nothing more to do."""
        self.snapshot = None
        if not self.is_up:
            self.come_up()
        for _ in range(rounds):
            if not self.work():
                if self.machine.deadline() is None:
                    return
                self.tick()
        raise AssertionError("it never comes to rest")
