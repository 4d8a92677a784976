"""The fake keeps the same promises as the real runtimes, and its knobs have an effect."""

from itertools import count

import pytest
import trio

from node.runtime.base import InstanceExited, InstanceState, LogStream, Workload
from orca.errors import ImageNotFoundError, RuntimeFailedError, RuntimeUnavailableError
from orca.model.allocation import PrepareProgress
from orca.model.ids import AllocationId, ClusterId, NodeId, ServiceId, ServiceName, SpecRevision
from orca.model.spec import ContainerImage, PortSpec, ServiceSpec
from tests.contracts.runtime import Recorder, RuntimeContract, launch, running
from tests.fakes.runtime import FakeEngine, FakeRuntime, Script


class FakeSubject:
    """A subject whose workloads each have a script of their own."""

    has_exec = True
    has_adoption = True
    answers_http = True

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self._numbers = count()

    def make(self) -> FakeRuntime:
        return FakeRuntime(engine=self.engine)

    def _workload(self, script: Script) -> Workload:
        spec = ServiceSpec(
            name=ServiceName("web"), source=ContainerImage(image="web:1"), ports=(PortSpec(port=80), PortSpec(port=81))
        )
        workload = Workload(
            allocation=AllocationId(f"alloc{next(self._numbers):07}"),
            service=spec.id,
            revision=SpecRevision(3),
            template="t3",
            slot=0,
            cluster=ClusterId("c-test"),
            node=NodeId("n-test"),
            spec=spec,
        )
        self.engine.script(workload.allocation, script)
        return workload

    def serving(self) -> Workload:
        return self._workload(Script(is_serving=True))

    def exiting(self, exit_code: int) -> Workload:
        return self._workload(Script(run_s=0.01, exit_code=exit_code))

    def printing(self, lines: tuple[str, ...]) -> Workload:
        printed = (*((LogStream.STDOUT, line) for line in lines), (LogStream.STDERR, "last"))
        return self._workload(Script(run_s=0.01, lines=printed))

    def crashing(self) -> Workload:
        return self._workload(Script(run_s=0.01, exit_code=139))

    def unpreparable(self) -> tuple[Workload, type[RuntimeFailedError]]:
        error = ImageNotFoundError("image web:1 is not on this node and its registry has none")
        return self._workload(Script(failures={"prepare": error})), ImageNotFoundError


@pytest.fixture
def subject() -> FakeSubject:
    return FakeSubject()


class TestFakeRuntime(RuntimeContract):
    pass


async def test_delays_and_deaths_follow_the_clock_of_trio(subject: FakeSubject, autojump_clock: object) -> None:
    workload = subject.serving()
    subject.engine.script(workload.allocation, Script(delays_s={"start": 50.0}, run_s=1000.0, exit_code=4))
    runtime = subject.make()
    async with running(runtime) as recorder:
        began = trio.current_time()
        await runtime.create(workload)
        await runtime.start(workload.allocation)
        assert trio.current_time() - began == pytest.approx(50.0)
        await trio.sleep(1001)
        assert recorder.of(InstanceExited, workload.allocation)[0].exit_code == 4


async def test_hanging_call_returns_only_when_cancelled(subject: FakeSubject, autojump_clock: object) -> None:
    workload = subject.serving()
    subject.engine.script(workload.allocation, Script(hangs=frozenset({"create"})))
    runtime = subject.make()
    async with running(runtime):
        with trio.move_on_after(10_000) as scope:
            await runtime.create(workload)
        assert scope.cancelled_caught
        assert await runtime.list_instances() == ()


async def test_failure_may_pass_after_some_times(subject: FakeSubject) -> None:
    workload = subject.serving()
    script = Script(failures={"start": RuntimeFailedError("no luck")}, failures_max=2)
    subject.engine.script(workload.allocation, script)
    runtime = subject.make()
    async with running(runtime):
        await runtime.create(workload)
        for _ in range(2):
            with pytest.raises(RuntimeFailedError, match="no luck"):
                await runtime.start(workload.allocation)
        await runtime.start(workload.allocation)
        assert runtime.calls_of("start") == [workload.allocation] * 3


async def test_engine_that_goes_down_is_reported_and_comes_back(subject: FakeSubject, autojump_clock: object) -> None:
    workload = subject.exiting(0)
    subject.engine.script(workload.allocation, Script())
    runtime = subject.make()
    recorder: Recorder
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        subject.engine.go_down("stopped", kills=True)
        await trio.sleep(5)
        assert not runtime.state().is_available
        with pytest.raises(RuntimeUnavailableError):
            await runtime.list_instances()
        assert recorder.of(InstanceExited) == []
        subject.engine.come_up()
        await trio.sleep(1)
        assert runtime.state().is_available
        assert (await runtime.status(workload.allocation)).state is InstanceState.EXITED


async def test_outside_kills_and_removals_are_published(subject: FakeSubject) -> None:
    workload = subject.serving()
    runtime = subject.make()
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        subject.engine.kill(workload.allocation, is_oom_killed=True)
        assert (await recorder.wait_for(InstanceExited, workload.allocation)).is_oom_killed
        subject.engine.vanish(workload.allocation)
        assert await runtime.list_instances() == ()


async def test_program_that_ignores_stop_is_killed_after_the_timeout(
    subject: FakeSubject, autojump_clock: object
) -> None:
    workload = subject.exiting(0)
    subject.engine.script(workload.allocation, Script(ignores_stop=True))
    runtime = subject.make()
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        began = trio.current_time()
        await runtime.stop(workload.allocation, 9.0)
        assert trio.current_time() - began == pytest.approx(9.0)
        assert recorder.of(InstanceExited)[0].exit_code == 137


async def test_progress_is_reported(subject: FakeSubject) -> None:
    steps: list[PrepareProgress] = []
    runtime = subject.make()
    async with running(runtime):
        await runtime.prepare(subject.serving(), steps.append)
    assert [step.current for step in steps] == [0, 100]


def test_scripts_of_a_service_hold_for_its_allocations(subject: FakeSubject) -> None:
    workload = subject.serving()
    subject.engine.scripts.clear()
    subject.engine.script(ServiceId("default/web"), Script(exit_code=9))
    assert subject.engine.script_of(workload).exit_code == 9
