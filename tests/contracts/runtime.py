"""What every runtime promises, as tests that each implementation runs.

A test module of an implementation subclasses `RuntimeContract` (the class name must
begin with `Test`) and gives a `subject` fixture: a `Subject` that makes runtimes and
workloads, cleaned up by the fixture when the test ends.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import pytest
import trio

from node.runtime.base import (
    ExecRequest,
    Instance,
    InstanceExited,
    InstanceRemoved,
    InstanceStarted,
    InstanceState,
    LogLine,
    LogStream,
    Runtime,
    RuntimeEvent,
    RuntimeStateChanged,
    Workload,
)
from orca.errors import InstanceNotFoundError, InvalidRequestError, RuntimeFailedError
from orca.model.allocation import PrepareProgress
from orca.model.ids import AllocationId

PATIENCE_S = 90.0
"""How long a test waits for what must come; long, because a shared computer may be busy."""

EventT = TypeVar("EventT", InstanceStarted, InstanceExited, InstanceRemoved, RuntimeStateChanged)


class Subject(Protocol):
    """What an implementation gives to the suite.

    Every workload has a fresh allocation id. `has_adoption`: instances outlive the
    runtime object, and a second one from `make` finds them. `answers_http`: an endpoint
    of `serving` really answers.
    """

    has_exec: bool
    has_adoption: bool
    answers_http: bool

    def make(self) -> Runtime:
        """A runtime object on the same cluster, node and engine each time."""
        ...

    def serving(self) -> Workload:
        """Runs until stopped, with at least one port, on which it answers HTTP 200 if `answers_http`."""
        ...

    def exiting(self, exit_code: int) -> Workload:
        """Ends by itself with `exit_code`."""
        ...

    def printing(self, lines: tuple[str, ...]) -> Workload:
        """Prints `lines` to stdout and `last` to stderr, then ends with 0."""
        ...

    def crashing(self) -> Workload:
        """Dies badly: a signal, a trap; never with exit code 0."""
        ...

    def unpreparable(self) -> tuple[Workload, type[RuntimeFailedError]]:
        """A workload whose image or module is not there, and the error that says so."""
        ...


class Recorder:
    """Takes a runtime's events and waits for those a test needs."""

    def __init__(self) -> None:
        self.events: list[RuntimeEvent] = []
        self._changed = trio.Event()

    def publish(self, event: RuntimeEvent) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = trio.Event()

    def of(self, kind: type[EventT], allocation: AllocationId | None = None) -> list[EventT]:
        """The events of one kind so far, of one allocation if it is given."""
        found = [event for event in self.events if isinstance(event, kind)]
        return [event for event in found if allocation is None or getattr(event, "allocation", None) == allocation]

    async def wait_for(self, kind: type[EventT], allocation: AllocationId | None = None, *, count: int = 1) -> EventT:
        """The `count`-th event of `kind`, when it has come."""
        with trio.move_on_after(PATIENCE_S):
            while len(self.of(kind, allocation)) < count:
                await self._changed.wait()
        found = self.of(kind, allocation)
        assert len(found) >= count, f"{count} x {kind.__name__} of {allocation} never came; what came: {self.events}"
        return found[count - 1]


def ignore_progress(progress: PrepareProgress) -> None:
    """For tests to which progress does not matter."""


@asynccontextmanager
async def running(runtime: Runtime) -> AsyncIterator[Recorder]:
    """`runtime` runs inside the block; gives what it publishes."""
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE_S):
            await nursery.start(runtime.run, recorder.publish)
        yield recorder
        nursery.cancel_scope.cancel()


async def launch(runtime: Runtime, workload: Workload) -> None:
    """Prepare, create and start, as the reconciler does."""
    with trio.fail_after(PATIENCE_S):
        await runtime.prepare(workload, ignore_progress)
        await runtime.create(workload)
        await runtime.start(workload.allocation)


async def collect(runtime: Runtime, allocation: AllocationId, *, tail: int | None = None) -> list[LogLine]:
    """The lines that an allocation has printed so far."""
    with trio.fail_after(PATIENCE_S):
        async with runtime.logs(allocation, tail=tail) as lines:
            return [line async for line in lines]


async def _find(runtime: Runtime, allocation: AllocationId) -> Instance | None:
    with trio.fail_after(PATIENCE_S):
        instances = await runtime.list_instances()
    found = [instance for instance in instances if instance.allocation == allocation]
    assert len(found) <= 1, f"{allocation} is listed {len(found)} times"
    return found[0] if found else None


async def _http_status_line(host: str, port: int) -> bytes:
    """First line of the answer to GET /, tried until the workload listens."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                stream = await trio.open_tcp_stream(host, port)
            except OSError:
                await trio.sleep(0.02)
                continue
            async with stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
                answer = b""
                while b"\r\n" not in answer:
                    chunk = await stream.receive_some(4096)
                    assert chunk, f"the connection ended after {answer!r}"
                    answer += chunk
                return answer.split(b"\r\n")[0]


class RuntimeContract:
    """Subclass it as `Test…` and give a `subject` fixture."""

    async def test_run_first_publishes_that_the_runtime_is_available(self, subject: Subject) -> None:
        runtime = subject.make()
        async with running(runtime) as recorder:
            first = recorder.events[0]
            assert isinstance(first, RuntimeStateChanged), first
            assert first.state.is_available
            assert first.state == runtime.state()
            assert first.state.kind is runtime.kind

    async def test_prepare_can_be_repeated_and_run_twice_at_once(self, subject: Subject) -> None:
        workload, steps = subject.serving(), list[PrepareProgress]()
        runtime = subject.make()
        async with running(runtime):
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(runtime.prepare, workload, steps.append)
                await runtime.prepare(workload, steps.append)
        assert all(step.total == 0 or step.current <= step.total for step in steps), steps

    async def test_prepare_says_when_the_image_or_module_is_not_there(self, subject: Subject) -> None:
        workload, expected = subject.unpreparable()
        runtime = subject.make()
        async with running(runtime):
            with trio.fail_after(PATIENCE_S), pytest.raises(expected):
                await runtime.prepare(workload, ignore_progress)

    async def test_created_instance_is_listed_with_what_it_was_made_of_but_does_not_run(self, subject: Subject) -> None:
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime):
            await runtime.prepare(workload, ignore_progress)
            await runtime.create(workload)
            await runtime.create(workload)
            instance = await _find(runtime, workload.allocation)
            assert instance is not None
            assert instance.state is InstanceState.CREATED
            assert instance.service == workload.service
            assert instance.revision == workload.revision
            assert instance.template == workload.template
            assert instance.exit_code is None
            assert await runtime.endpoints(workload.allocation) == ()

    async def test_start_makes_it_run_says_so_once_and_repeats_harmlessly(self, subject: Subject) -> None:
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            await recorder.wait_for(InstanceStarted, workload.allocation)
            await runtime.start(workload.allocation)
            status = await runtime.status(workload.allocation)
            assert status.state is InstanceState.RUNNING
            assert status.started_at_ms is not None
            assert status == await _find(runtime, workload.allocation)
            await runtime.stop(workload.allocation, 5.0)
            await recorder.wait_for(InstanceExited, workload.allocation)
            assert len(recorder.of(InstanceStarted, workload.allocation)) == 1

    async def test_endpoints_reach_every_port_of_a_running_instance(self, subject: Subject) -> None:
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime):
            await launch(runtime, workload)
            endpoints = await runtime.endpoints(workload.allocation)
            assert [endpoint.port for endpoint in endpoints] == [port.port for port in workload.spec.ports]
            if subject.answers_http:
                line = await _http_status_line(endpoints[0].host, endpoints[0].host_port)
                assert line.split(b" ")[1] == b"200", line

    @pytest.mark.parametrize("exit_code", [0, 7])
    async def test_exit_is_published_and_listed_with_its_code(self, subject: Subject, exit_code: int) -> None:
        workload = subject.exiting(exit_code)
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            exited = await recorder.wait_for(InstanceExited, workload.allocation)
            assert exited.exit_code == exit_code
            assert not exited.is_oom_killed
            status = await runtime.status(workload.allocation)
            assert (status.state, status.exit_code) == (InstanceState.EXITED, exit_code)
            assert await runtime.endpoints(workload.allocation) == ()

    async def test_crash_is_an_exit_with_a_code_other_than_zero(self, subject: Subject) -> None:
        workload = subject.crashing()
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            exited = await recorder.wait_for(InstanceExited, workload.allocation)
            assert exited.exit_code != 0
            assert (await runtime.status(workload.allocation)).exit_code == exited.exit_code

    async def test_ended_instance_starts_again(self, subject: Subject) -> None:
        workload = subject.exiting(3)
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            await recorder.wait_for(InstanceExited, workload.allocation)
            await runtime.start(workload.allocation)
            assert (await recorder.wait_for(InstanceExited, workload.allocation, count=2)).exit_code == 3
            await recorder.wait_for(InstanceStarted, workload.allocation, count=2)

    async def test_stop_returns_when_it_ended_and_does_nothing_to_an_ended_one(self, subject: Subject) -> None:
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            with trio.fail_after(PATIENCE_S):
                await runtime.stop(workload.allocation, 5.0)
            assert (await runtime.status(workload.allocation)).state is InstanceState.EXITED
            await recorder.wait_for(InstanceExited, workload.allocation)
            await runtime.stop(workload.allocation, 5.0)
            await runtime.start(workload.allocation)
            assert (await runtime.status(workload.allocation)).state is InstanceState.RUNNING
            assert len(recorder.of(InstanceExited, workload.allocation)) == 1

    async def test_remove_kills_a_running_instance_and_can_be_repeated(self, subject: Subject) -> None:
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            with trio.fail_after(PATIENCE_S):
                await runtime.remove(workload.allocation)
                await runtime.remove(workload.allocation)
            assert await _find(runtime, workload.allocation) is None
            await recorder.wait_for(InstanceRemoved, workload.allocation)
            with pytest.raises(InstanceNotFoundError):
                await runtime.status(workload.allocation)

    async def test_unknown_allocation_is_not_found_by_any_call(self, subject: Subject) -> None:
        unknown = subject.serving().allocation
        runtime = subject.make()
        async with running(runtime):
            await runtime.remove(unknown)
            for call in (runtime.start, runtime.status, runtime.endpoints, runtime.stats):
                with pytest.raises(InstanceNotFoundError):
                    await call(unknown)
            with pytest.raises(InstanceNotFoundError):
                await runtime.stop(unknown, 1.0)
            with pytest.raises(InstanceNotFoundError):
                await collect(runtime, unknown)

    async def test_logs_keep_order_streams_and_the_asked_number_of_lines(self, subject: Subject) -> None:
        printed = tuple(f"line {number} ä" for number in range(200))
        workload = subject.printing(printed)
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            await recorder.wait_for(InstanceExited, workload.allocation)
            lines = await collect(runtime, workload.allocation)
            assert [line.text for line in lines if line.stream is LogStream.STDOUT] == list(printed)
            assert [line.text for line in lines if line.stream is LogStream.STDERR] == ["last"]
            assert all(line.at_ms > 1_500_000_000_000 for line in lines)
            assert await collect(runtime, workload.allocation, tail=5) == lines[-5:]
            assert await collect(runtime, workload.allocation, tail=0) == []

    async def test_logs_since_a_time_leave_out_what_was_printed_before(self, subject: Subject) -> None:
        workload = subject.printing(("one", "two"))
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            await recorder.wait_for(InstanceExited, workload.allocation)
            lines = await collect(runtime, workload.allocation)
            last = max(line.at_ms for line in lines)
            with trio.fail_after(PATIENCE_S):
                async with runtime.logs(workload.allocation, since_ms=last) as later:
                    assert [line async for line in later] == []

    async def test_long_line_comes_in_pieces_that_join_to_the_line(self, subject: Subject) -> None:
        long = "0123456789" * 5_000
        workload = subject.printing((long, "after"))
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            await recorder.wait_for(InstanceExited, workload.allocation)
            texts = [x.text for x in await collect(runtime, workload.allocation) if x.stream is LogStream.STDOUT]
            assert all(len(text.encode()) <= 16 * 1024 for text in texts)
            assert "".join(texts[:-1]) == long
            assert texts[-1] == "after"

    async def test_following_goes_on_over_a_restart_and_ends_with_removal(self, subject: Subject) -> None:
        workload = subject.printing(("hello",))
        runtime = subject.make()
        texts: list[str] = []
        has_both = trio.Event()

        async def follow(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            async with runtime.logs(workload.allocation, follow=True) as lines:
                task_status.started()
                async for line in lines:
                    texts.append(line.text)
                    if len(texts) == 4:
                        has_both.set()

        async with running(runtime) as recorder:
            await launch(runtime, workload)
            with trio.fail_after(2 * PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    await nursery.start(follow)
                    await recorder.wait_for(InstanceExited, workload.allocation)
                    await runtime.start(workload.allocation)
                    await recorder.wait_for(InstanceExited, workload.allocation, count=2)
                    await has_both.wait()
                    await runtime.remove(workload.allocation)
        assert sorted(texts) == ["hello", "hello", "last", "last"]

    async def test_follower_may_leave_at_any_time(self, subject: Subject) -> None:
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime):
            await launch(runtime, workload)
            with trio.fail_after(PATIENCE_S):
                with trio.move_on_after(0.2) as scope:
                    async with runtime.logs(workload.allocation, follow=True) as lines:
                        async for _ in lines:
                            pass
                assert scope.cancelled_caught
                async with runtime.logs(workload.allocation, follow=True):
                    pass

    async def test_stats_of_a_running_instance_count_something(self, subject: Subject) -> None:
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime):
            await launch(runtime, workload)
            with trio.fail_after(PATIENCE_S):
                stats = await runtime.stats(workload.allocation)
            assert stats.allocation == workload.allocation
            assert stats.at_ms > 1_500_000_000_000
            assert stats.cpu_ns >= 0
            assert stats.memory_bytes > 0

    async def test_exec_gives_output_and_exit_code_or_says_that_there_is_none(self, subject: Subject) -> None:
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime):
            await launch(runtime, workload)
            if not subject.has_exec:
                with pytest.raises(InvalidRequestError):
                    async with runtime.exec(workload.allocation, ExecRequest(command=("echo", "hi"))):
                        pass
                return
            assert await run_command(runtime, workload.allocation, ("echo", "hi", "there")) == (b"hi there\n", 0)
            assert await run_command(runtime, workload.allocation, ("sh", "-c", "exit 7")) == (b"", 7)

    async def test_exec_sees_the_end_of_its_stdin(self, subject: Subject) -> None:
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime):
            await launch(runtime, workload)
            if not subject.has_exec:
                with trio.fail_after(PATIENCE_S), pytest.raises(InvalidRequestError, match="cat"):
                    await run_command(runtime, workload.allocation, ("cat",), stdin=b"x")
                assert (await runtime.status(workload.allocation)).state is InstanceState.RUNNING
                return
            assert await run_command(runtime, workload.allocation, ("cat",), stdin=b"x" * 3000) == (b"x" * 3000, 0)

    async def test_second_runtime_object_finds_what_the_first_left(self, subject: Subject) -> None:
        workload = subject.serving()
        first = subject.make()
        async with running(first):
            await launch(first, workload)
            before = await first.status(workload.allocation)
        second = subject.make()
        async with running(second) as recorder:
            if not subject.has_adoption:
                assert await _find(second, workload.allocation) is None
                return
            assert await _find(second, workload.allocation) == before
            assert len(await second.endpoints(workload.allocation)) == len(workload.spec.ports)
            await second.create(workload)
            await second.stop(workload.allocation, 5.0)
            await recorder.wait_for(InstanceExited, workload.allocation)

    @pytest.mark.parametrize("patience_s", [0.0, 0.05, 0.3])
    async def test_cancelled_calls_leave_something_that_is_listed_truly(
        self, subject: Subject, patience_s: float
    ) -> None:
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime):
            await runtime.prepare(workload, ignore_progress)
            with trio.move_on_after(patience_s):
                await runtime.create(workload)
                await runtime.start(workload.allocation)
                await runtime.stop(workload.allocation, 5.0)
            await launch(runtime, workload)
            assert (await runtime.status(workload.allocation)).state is InstanceState.RUNNING
            await runtime.remove(workload.allocation)
            assert await _find(runtime, workload.allocation) is None


async def run_command(
    runtime: Runtime, allocation: AllocationId, command: tuple[str, ...], *, stdin: bytes | None = None
) -> tuple[bytes, int]:
    """The output of both streams and the exit code of `command` inside an instance."""
    request = ExecRequest(command=command, stdin=stdin is not None)
    output = b""
    with trio.fail_after(PATIENCE_S):
        async with runtime.exec(allocation, request) as session:
            if stdin is not None:
                await session.send(stdin)
                await session.close_stdin()
            while (piece := await session.receive()) is not None:
                output += piece[1]
            return output, await session.exit_code()
