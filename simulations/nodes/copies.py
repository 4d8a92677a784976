"""Runs the real reconciler against a simulated engine, by the rules of `node.reconciler.driver`."""

from collections import deque
from collections.abc import Callable, Generator
from typing import Final, Protocol, TypeAlias

import msgspec

from node.reconciler.events import (
    Action,
    ActionEnded,
    Assignment,
    CancelAction,
    Effect,
    Event,
    Happened,
    InstancesListed,
    ListFailed,
    ListInstances,
    RunAction,
    StartProbes,
    StatusChanged,
    StatusDropped,
    StopProbes,
    Tick,
)
from node.reconciler.machine import Reconciler
from orca.config import ReconcilerConfig
from orca.model.allocation import Endpoint
from orca.model.ids import AllocationId
from orca.sources import Clock
from simulations.nodes.engine import Engine, Image, image_of
from simulations.nodes.life import Life
from simulations.world import Chance, Timer

CALL_S: Final = 0.03
"""Mean seconds that a call to the engine takes."""
PULL_S: Final = 0.5
LOOK_EVERY: Final = 4
"""So many steps go by between looks at the invariants of a reconciler, which cost what a node has copies."""
AWAY_S: Final = 2.0
"""An engine that does not answer is given up after so long."""
_Steps: TypeAlias = Generator[float, None, tuple[Endpoint, ...]]
"""The pauses of an action, and what it gives at its end."""


class Around(Protocol):
    """What it needs of the rest of the node."""

    def perform(self, effect: StartProbes | StopProbes | StatusChanged | StatusDropped | Happened) -> None:
        """Take in what it tells others."""
        ...

    def drain(self, assignment: Assignment, timeout_s: float, then: Callable[[], None]) -> None:
        """Call `then` when no request is on its way to the copy any more, or time is over."""
        ...


class _Refused(Exception):  # noqa: N818 - a signal, not an error
    """An action came to a bad end."""

    def __init__(self, error: str, *, is_unavailable: bool = False, is_missing: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.is_unavailable = is_unavailable
        self.is_missing = is_missing


class _Running(msgspec.Struct):
    """An action in flight."""

    order: RunAction
    deadline: Timer | None = None
    is_over: bool = False


class CopyShell:
    """The shell of one `Reconciler`, for one life of a node."""

    def __init__(
        self,
        life: Life,
        machine: Reconciler,
        engine: Engine,
        around: Around,
        config: ReconcilerConfig,
        chance: Chance,
        clock: Clock,
    ) -> None:
        self.machine = machine
        self.steps = 0
        self._life = life
        self._engine = engine
        self._around = around
        self._config = config
        self._chance = chance
        self._clock = clock
        self._inbox: deque[Event] = deque()
        self._running: dict[AllocationId, _Running] = {}
        self._timer: Timer | None = None
        self._is_due = False

    def post(self, event: Event) -> None:
        """Give the machine `event` in the next turn."""
        self._inbox.append(event)
        if not self._is_due:
            self._is_due = True
            self._life.after(0.0, self._turn)

    def _turn(self) -> None:
        self._is_due = False
        deadline = self.machine.deadline()
        if deadline is not None and self._clock.now() >= deadline:
            self._step(Tick())
        while self._inbox and not self._life.is_over:
            self._step(self._inbox.popleft())
        self._set_timer()

    def _set_timer(self) -> None:
        deadline = self.machine.deadline()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None and not self._life.is_over:
            self._timer = self._life.after(max(0.0, deadline - self._clock.now()) + 1e-6, self._turn)

    def _step(self, event: Event) -> None:
        self.steps += 1
        effects = self.machine.step(event, self._clock.now(), self._clock.wall())
        if self.steps % LOOK_EVERY == 0:
            self.machine.check_invariants()
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case RunAction():
                self._begin(effect)
            case CancelAction():
                running = self._running.get(effect.allocation)
                if running is not None:
                    self._life.after(0.0, lambda: self._give_up(running, "was given up"))
            case ListInstances():
                self._life.after(self._call_s(), lambda: self._list(effect))
            case _:
                self._around.perform(effect)

    def _call_s(self) -> float:
        return self._chance.pause_s(CALL_S)

    def _list(self, order: ListInstances) -> None:
        if self._engine.is_available:
            self.post(InstancesListed(kind=order.kind, instances=self._engine.instances()))
        else:
            self._life.after(AWAY_S, lambda: self.post(ListFailed(kind=order.kind, reason="no answer in time")))

    # ------------------------------------------------------------------------ actions

    def _begin(self, order: RunAction) -> None:
        """Walk through the steps of the action, each after a pause."""
        running = self._running[order.allocation] = _Running(order)
        deadline_s = self._config.call_deadline_s + order.timeout_s
        if order.action is Action.PREPARE:
            deadline_s = self._config.prepare_deadline_s
        running.deadline = self._life.after(
            deadline_s, lambda: self._give_up(running, f"no end after {deadline_s:g} s")
        )
        if order.action is Action.DRAIN:
            assert order.assignment is not None, "nobody drains an orphan"
            self._around.drain(order.assignment, order.timeout_s, lambda: self._end(running))
        else:
            self._go_on(running, self._steps_of(order))

    def _go_on(self, running: _Running, steps: _Steps) -> None:
        if running.is_over:
            return
        try:
            pause_s = next(steps)
        except StopIteration as stop:
            self._end(running, stop.value or ())
        except _Refused as refused:
            self._finish(running, refused)
        else:
            self._life.after(pause_s, lambda: self._go_on(running, steps))

    def _steps_of(self, order: RunAction) -> _Steps:
        """What an action does, with the pauses in between; it returns the endpoints."""
        allocation = order.allocation
        match order.action:
            case Action.PREPARE:
                yield from self._prepare(order)
            case Action.LAUNCH:
                assert order.assignment is not None, "nobody launches an orphan"
                yield from self._call()
                self._engine.create(order.assignment)
                yield from self._call()
                self._engine.start(allocation)
                return (yield from self._inspect(allocation))
            case Action.INSPECT:
                return (yield from self._inspect(allocation))
            case Action.STOP:
                yield from self._call()
                if not self._engine.stop(allocation):
                    raise _Refused("there is no such container", is_missing=True)
            case Action.REMOVE:
                yield from self._call()
                self._engine.remove(allocation)
            case _:
                raise AssertionError(f"{order.action} has no steps")
        return ()

    def _call(self) -> _Steps:
        yield self._call_s()
        if not self._engine.is_available:
            yield AWAY_S
            raise _Refused("the engine does not answer", is_unavailable=True)
        return ()

    def _prepare(self, order: RunAction) -> _Steps:
        yield self._chance.pause_s(PULL_S)
        if not self._engine.is_available:
            raise _Refused("the engine does not answer", is_unavailable=True)
        assert order.assignment is not None, "nobody prepares an orphan"
        if image_of(order.assignment) is Image.MISSING:
            raise _Refused("there is no such image")
        return ()

    def _inspect(self, allocation: AllocationId) -> _Steps:
        yield from self._call()
        if allocation not in self._engine.containers:
            raise _Refused("there is no such container", is_missing=True)
        return self._engine.endpoints(allocation)

    def _end(self, running: _Running, endpoints: tuple[Endpoint, ...] = ()) -> None:
        order = running.order
        has_ended = order.action in {Action.LAUNCH, Action.INSPECT} and not self._engine.is_running(order.allocation)
        self._settle(
            running,
            ActionEnded(
                allocation=order.allocation,
                action=order.action,
                endpoints=() if has_ended else endpoints,
                has_ended=has_ended,
            ),
        )

    def _finish(self, running: _Running, refused: _Refused) -> None:
        self._settle(
            running,
            ActionEnded(
                allocation=running.order.allocation,
                action=running.order.action,
                error=refused.error,
                is_unavailable=refused.is_unavailable,
                is_missing=refused.is_missing,
            ),
        )

    def _give_up(self, running: _Running, why: str) -> None:
        order = running.order
        error = f"{order.action.value}: {why}"
        self._settle(running, ActionEnded(allocation=order.allocation, action=order.action, error=error))

    def _settle(self, running: _Running, ended: ActionEnded) -> None:
        if running.is_over:
            return
        running.is_over = True
        if running.deadline is not None:
            running.deadline.cancel()
        if self._running.get(ended.allocation) is running:
            del self._running[ended.allocation]
        self.post(ended)
