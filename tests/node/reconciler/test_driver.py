"""The reconciler on trio against the fake engine: seconds pass at once, hung calls end."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import trio
import trio.testing

from node.reconciler.driver import ReconcilerDriver
from node.reconciler.events import (
    Assignment,
    AssignmentsChanged,
    Happened,
    HealthChanged,
    HealthVerdict,
    RuntimeReported,
    StartProbes,
    StatusChanged,
    StatusDropped,
    StopProbes,
)
from node.reconciler.machine import Reconciler
from node.runtime.base import InstanceState, Workload
from orca.config import ReconcilerConfig
from orca.errors import ImageNotFoundError
from orca.model.allocation import TERMINAL_PHASES, AllocationStatus, DesiredStatus, Phase
from orca.model.ids import AllocationId, ClusterId, NodeId
from orca.model.units import Instant, WallMs
from tests.fakes.runtime import WALL_START_MS, FakeRuntime, Script
from tests.node.reconciler.model_world import make_assignment

A = AllocationId("a")
NODE = NodeId("n-1")
MAKE = "default/s-a"


class VirtualClock:
    def now(self) -> Instant:
        return Instant(trio.current_time())

    def wall(self) -> WallMs:
        return WallMs(WALL_START_MS + int(trio.current_time() * 1000))


class Rng:
    def random(self) -> float:
        return 0.5

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class Node:
    """What the driver needs of the rest: probes that pass at once, a drain that takes a second."""

    def __init__(self) -> None:
        self.statuses: dict[AllocationId, AllocationStatus] = {}
        self.changed = trio.Event()
        self.drained: list[AllocationId] = []
        self.forgotten: list[AllocationId] = []
        self.runtime = FakeRuntime()
        self.driver: ReconcilerDriver

    def perform(self, effect: StartProbes | StopProbes | StatusChanged | StatusDropped | Happened) -> None:
        match effect:
            case StartProbes():
                self.driver.post(HealthChanged(allocation=effect.allocation, verdict=HealthVerdict.READY))
            case StatusChanged():
                self.statuses[effect.status.allocation] = effect.status
                self.changed.set()
                self.changed = trio.Event()
            case StatusDropped():
                self.statuses.pop(effect.allocation, None)
            case _:
                pass

    async def workload(self, assignment: Assignment) -> Workload:
        await trio.lowlevel.checkpoint()
        allocation = assignment.allocation
        return Workload(
            allocation=allocation.id,
            service=allocation.service,
            revision=allocation.revision,
            template=allocation.template,
            slot=allocation.slot,
            cluster=ClusterId("c-1"),
            node=NODE,
            spec=assignment.spec,
        )

    async def drain(self, assignment: Assignment, timeout_s: float) -> None:
        await trio.sleep(1)
        self.drained.append(assignment.allocation.id)

    async def forget_files(self, allocation: AllocationId) -> None:
        await trio.lowlevel.checkpoint()
        self.forgotten.append(allocation)

    def want(self, *assignments: Assignment) -> None:
        self.driver.post(AssignmentsChanged(assignments=assignments))

    async def until(self, is_so: Callable[[AllocationStatus], bool], *, timeout_s: float = 600) -> AllocationStatus:
        with trio.fail_after(timeout_s):
            while A not in self.statuses or not is_so(self.statuses[A]):
                await self.changed.wait()
        return self.statuses[A]


@asynccontextmanager
async def running_node(config: ReconcilerConfig | None = None, script: Script | None = None) -> AsyncIterator[Node]:
    config = config or ReconcilerConfig()
    node = Node()
    if script is not None:
        node.runtime.engine.scripts[MAKE] = script
    machine = Reconciler(NODE, config, Rng(), {})
    node.driver = ReconcilerDriver(machine, {node.runtime.kind: node.runtime}, node, VirtualClock(), config)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.driver.run)
        nursery.start_soon(node.runtime.run, lambda event: node.driver.post(RuntimeReported(event=event)))
        yield node
        machine.check_invariants()
        nursery.cancel_scope.cancel()


def stopped(assignment: Assignment) -> Assignment:
    allocation = msgspec.structs.replace(assignment.allocation, desired=DesiredStatus.STOPPED)
    return msgspec.structs.replace(assignment, allocation=allocation)


def is_ready(status: AllocationStatus) -> bool:
    return status.is_ready


async def test_a_copy_is_launched_and_one_that_dies_is_back_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with running_node() as node:
        node.want(make_assignment("a"))
        await node.until(is_ready)
        died_at = trio.current_time()
        node.runtime.engine.kill(A)
        await node.until(lambda status: status.restarts == 1 and status.is_ready)
        assert trio.current_time() - died_at < 0.5
        assert node.runtime.calls_of("start") == [A, A]


async def test_a_copy_that_is_to_stop_is_drained_stopped_and_removed(autojump_clock: trio.testing.MockClock) -> None:
    async with running_node() as node:
        assignment = make_assignment("a")
        node.want(assignment)
        await node.until(is_ready)
        node.want(stopped(assignment))
        await node.until(lambda status: status.phase is Phase.STOPPED)
        assert (node.drained, node.forgotten, node.runtime.engine.copies) == ([A], [A], {})


async def test_a_hung_launch_is_given_up_and_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    async with running_node(script=Script(hangs=frozenset({"start"}))) as node:
        node.want(make_assignment("a"))
        status = await node.until(lambda status: status.phase is Phase.BACKOFF)
        assert "no end after 70 s" in status.reason
        node.runtime.engine.scripts[MAKE] = Script()
        await node.until(is_ready)


async def test_a_pull_is_cancelled_also_when_it_was_just_ordered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Both orders are performed before the pull's task has run for the first time."""
    async with running_node(script=Script(hangs=frozenset({"prepare"}))) as node:
        await trio.testing.wait_all_tasks_blocked()
        assignment = make_assignment("a")
        node.want(assignment)
        node.want(stopped(assignment))
        started_at = trio.current_time()
        await node.until(lambda status: status.phase is Phase.STOPPED)
        assert trio.current_time() - started_at < 5


async def test_an_engine_that_goes_away_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async with running_node() as node:
        node.want(make_assignment("a"))
        await node.until(is_ready)
        node.runtime.engine.go_down(kills=True)
        await trio.sleep(300)
        node.runtime.engine.come_up()
        await node.until(lambda status: status.restarts == 1 and status.is_ready, timeout_s=5)


async def test_a_hung_engine_does_not_cost_other_copies_their_turn_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_node(ReconcilerConfig(starts_max=1, call_deadline_s=5)) as node:
        node.runtime.engine.scripts["default/s-b"] = Script(hangs=frozenset({"create"}))
        node.want(make_assignment("b"), make_assignment("a"))
        await node.until(is_ready)


async def test_what_a_runtime_refuses_is_shown_and_tried_again_ever_more_rarely(
    autojump_clock: trio.testing.MockClock,
) -> None:
    script = Script(failures={"prepare": ImageNotFoundError("no image called x")}, failures_max=4)
    async with running_node(script=script) as node:
        node.want(make_assignment("a"))
        status = await node.until(lambda status: status.phase is Phase.BACKOFF)
        assert status.reason == "no image called x"
        await node.until(is_ready)
        assert 1 + 1 + 2 + 4 - 1 < trio.current_time() < 1 + 1 + 2 + 4 + 2


async def test_a_defect_in_a_runtime_costs_one_try_and_not_the_node(autojump_clock: trio.testing.MockClock) -> None:
    async with running_node() as node:
        broken = node.runtime.create
        tries = 0

        async def create(workload: Workload) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise ZeroDivisionError
            await broken(workload)

        node.runtime.create = create  # type: ignore[method-assign]
        node.want(make_assignment("a"))
        status = await node.until(is_ready)
        assert status.restarts == 1


async def test_a_program_that_ends_at_once_is_never_called_ready(autojump_clock: trio.testing.MockClock) -> None:
    async with running_node(script=Script(run_s=0.0, exit_code=1)) as node:
        was_ready = False

        def is_hopeless(status: AllocationStatus) -> bool:
            nonlocal was_ready
            was_ready = was_ready or status.is_ready
            return status.restarts == 5

        node.want(make_assignment("a"))
        status = await node.until(is_hopeless)
        assert status.exit_code == 1
        assert not was_ready


async def test_a_new_agent_takes_over_what_the_old_one_left(autojump_clock: trio.testing.MockClock) -> None:
    async with running_node() as node:
        node.want(make_assignment("a"))
        await node.until(is_ready)
        engine = node.runtime.engine
    assert engine.copies[A].state is InstanceState.RUNNING, "the agent's end is not the workload's"
    machine = Reconciler(NODE, ReconcilerConfig(), Rng(), {})
    again = Node()
    again.runtime = FakeRuntime(engine=engine)
    runtimes = {again.runtime.kind: again.runtime}
    again.driver = ReconcilerDriver(machine, runtimes, again, VirtualClock(), ReconcilerConfig())
    async with trio.open_nursery() as nursery:
        await nursery.start(again.driver.run)
        again.want(make_assignment("a"))
        nursery.start_soon(again.runtime.run, lambda event: again.driver.post(RuntimeReported(event=event)))
        await again.until(is_ready)
        assert not again.runtime.calls_of("create")
        assert not again.runtime.calls_of("start")
        assert again.statuses[A].phase not in TERMINAL_PHASES
        nursery.cancel_scope.cancel()
