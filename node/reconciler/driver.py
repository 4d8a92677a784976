"""Performs the reconciler's orders on trio, one task an action.

Holds no policy. Every action has a deadline; whatever goes wrong in a runtime comes
back to the machine as one `ActionEnded`, never as an exception that ends the node.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
import structlog
import trio

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
    PrepareProgressed,
    RunAction,
    StartProbes,
    StatusChanged,
    StatusDropped,
    StopProbes,
    Tick,
)
from node.reconciler.machine import Reconciler
from node.runtime.base import InstanceState, Runtime, Workload
from orca.config import ReconcilerConfig
from orca.errors import InstanceNotFoundError, OrcaError, RuntimeFailedError, RuntimeUnavailableError
from orca.model.allocation import Endpoint, PrepareProgress
from orca.model.ids import AllocationId
from orca.model.spec import RuntimeKind
from orca.sources import Clock

_log = structlog.get_logger("orca.reconciler")
LIST_DEADLINE_S = 10.0
PROGRESS_BACKLOG_MAX = 1000


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What an action gave besides its success."""

    endpoints: tuple[Endpoint, ...] = ()
    has_ended: bool = False


class Surroundings(Protocol):
    """What the reconciler's driver needs of the rest of the node. Plain calls return at once."""

    def perform(self, effect: StartProbes | StopProbes | StatusChanged | StatusDropped | Happened) -> None:
        """Take in what is not the driver's own to do."""
        ...

    async def workload(self, assignment: Assignment) -> Workload:
        """What the runtime needs, with the spec's files written."""
        ...

    async def drain(self, assignment: Assignment, timeout_s: float) -> None:
        """Return when no request is on its way to the copy any more, or time is over."""
        ...

    async def forget_files(self, allocation: AllocationId) -> None:
        """The instance is removed; what was written for it may go."""
        ...


class ReconcilerDriver:
    """The trio shell of one `Reconciler`."""

    def __init__(
        self,
        machine: Reconciler,
        runtimes: Mapping[RuntimeKind, Runtime],
        surroundings: Surroundings,
        clock: Clock,
        config: ReconcilerConfig,
    ) -> None:
        self._machine = machine
        self._runtimes = runtimes
        self._around = surroundings
        self._clock = clock
        self._config = config
        self._inbox: deque[Event] = deque()
        self._wake = trio.Event()
        self._scopes: dict[AllocationId, trio.CancelScope] = {}

    def post(self, event: Event) -> None:
        """Give the machine `event`; returns at once.

        What runtimes and actions say is bounded by how many copies there are, except how far
        a pull is: that is dropped while much else waits.
        """
        if isinstance(event, PrepareProgressed) and len(self._inbox) >= PROGRESS_BACKLOG_MAX:
            return
        self._inbox.append(event)
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; running workloads are left as they are."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                deadline = self._machine.deadline()
                with trio.move_on_after(math.inf if deadline is None else max(0.0, deadline - self._clock.now())):
                    await self._wake.wait()
                self._wake = trio.Event()
                if deadline is not None and self._clock.now() >= deadline:
                    self._step(Tick(), nursery)
                while self._inbox:
                    self._step(self._inbox.popleft(), nursery)
                    await trio.lowlevel.checkpoint()

    def _step(self, event: Event, nursery: trio.Nursery) -> None:
        for effect in self._machine.step(event, self._clock.now(), self._clock.wall()):
            self._perform(effect, nursery)

    def _perform(self, effect: Effect, nursery: trio.Nursery) -> None:
        match effect:
            case RunAction():
                # Made here, so that an order to cancel finds it even before the task has begun.
                scope = self._scopes[effect.allocation] = trio.CancelScope()
                nursery.start_soon(self._run_action, effect, scope)
            case CancelAction():
                running = self._scopes.get(effect.allocation)
                if running is not None:
                    running.cancel()
            case ListInstances():
                nursery.start_soon(self._list, effect.kind)
            case _:
                self._around.perform(effect)

    async def _list(self, kind: RuntimeKind) -> None:
        try:
            with trio.fail_after(LIST_DEADLINE_S):
                instances = await self._runtimes[kind].list_instances()
        except (OrcaError, trio.TooSlowError) as error:
            self.post(ListFailed(kind=kind, reason=str(error) or "no answer in time"))
        except Exception as error:  # noqa: BLE001 - a defect in a runtime must not end the node
            _log.exception("instances could not be listed", runtime=kind.value)
            self.post(ListFailed(kind=kind, reason=f"a defect of this node: {error}"))
        else:
            self.post(InstancesListed(kind=kind, instances=instances))

    async def _run_action(self, order: RunAction, scope: trio.CancelScope) -> None:
        deadline_s = self._config.call_deadline_s + order.timeout_s
        if order.action is Action.PREPARE:
            deadline_s = self._config.prepare_deadline_s
        scope.deadline = trio.current_time() + deadline_s
        with scope:
            ended = await self._attempt(order)
        self._scopes.pop(order.allocation, None)
        if scope.cancelled_caught:
            why = f"{order.action.value} was given up" + (
                f": no end after {deadline_s:g} s" if trio.current_time() >= scope.deadline else ""
            )
            ended = ActionEnded(allocation=order.allocation, action=order.action, error=why)
        self.post(ended)

    async def _attempt(self, order: RunAction) -> ActionEnded:
        name, allocation = order.action, order.allocation
        try:
            done = await self._actions[name](self, order)
        except OrcaError as error:
            return ActionEnded(
                allocation=allocation,
                action=name,
                error=error.message or type(error).__name__,
                is_unavailable=isinstance(error, RuntimeUnavailableError),
                is_missing=isinstance(error, InstanceNotFoundError),
            )
        except Exception:  # noqa: BLE001 - see below
            # A defect in a runtime must cost one try of one copy, not the node and all
            # that it runs.
            _log.exception("action failed unexpectedly", action=name.value, allocation=allocation)
            why = f"{name.value} failed by a defect of this node; its log has the details"
            return ActionEnded(allocation=allocation, action=name, error=why)
        return ActionEnded(allocation=allocation, action=name, endpoints=done.endpoints, has_ended=done.has_ended)

    # ----------------------------------------------------------------- actions

    async def _prepare(self, order: RunAction) -> Done:
        def progress(now: PrepareProgress) -> None:
            self.post(PrepareProgressed(allocation=order.allocation, progress=now))

        workload = await self._around.workload(_assignment(order))
        await self._runtimes[order.kind].prepare(workload, progress)
        return Done()

    async def _launch(self, order: RunAction) -> Done:
        runtime = self._runtimes[order.kind]
        workload = await self._around.workload(_assignment(order))
        if workload.fence is not None:
            await self._remove_foreign(runtime, workload)
        await runtime.create(workload)
        await runtime.start(order.allocation)
        return await self._inspect(order)

    async def _remove_foreign(self, runtime: Runtime, workload: Workload) -> None:
        """What was made under another lease has another number in it, and is made anew."""
        try:
            there = await runtime.status(workload.allocation)
        except InstanceNotFoundError:
            return
        if there.fence != workload.fence:
            await runtime.remove(workload.allocation)

    async def _inspect(self, order: RunAction) -> Done:
        runtime = self._runtimes[order.kind]
        try:
            return Done(endpoints=await runtime.endpoints(order.allocation))
        except RuntimeUnavailableError:
            raise
        except RuntimeFailedError:
            if (await runtime.status(order.allocation)).state is InstanceState.RUNNING:
                raise
            return Done(has_ended=True)

    async def _drain(self, order: RunAction) -> Done:
        await self._around.drain(_assignment(order), order.timeout_s)
        return Done()

    async def _stop(self, order: RunAction) -> Done:
        await self._runtimes[order.kind].stop(order.allocation, order.timeout_s)
        return Done()

    async def _remove(self, order: RunAction) -> Done:
        await self._runtimes[order.kind].remove(order.allocation)
        await self._around.forget_files(order.allocation)
        return Done()

    _actions: Mapping[Action, Callable[["ReconcilerDriver", RunAction], Awaitable[Done]]] = {
        Action.PREPARE: _prepare,
        Action.LAUNCH: _launch,
        Action.INSPECT: _inspect,
        Action.DRAIN: _drain,
        Action.STOP: _stop,
        Action.REMOVE: _remove,
    }


def _assignment(order: RunAction) -> Assignment:
    assert order.assignment is not None, f"{order.action} of {order.allocation} needs its spec"
    return order.assignment
