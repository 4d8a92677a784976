"""Probes against real sockets, and the driver that asks them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from node.health.probes import CheckResult, ExecOutcome, HealthDriver, ProbeSet, exec_through, run_check
from node.health.verdict import BecameReady, BecameUnready, HealthTransition, LivenessFailed
from node.runtime.base import ExecRequest, LogStream
from orca.errors import InstanceNotFoundError
from orca.model.allocation import Endpoint
from orca.model.ids import AllocationId
from orca.model.spec import ExecCheck, HealthCheck, HttpCheck, ProbeSpec, Protocol, TcpCheck
from orca.model.units import Instant, WallMs

ALLOCATION = AllocationId("a23456723456")
Handler = Callable[[trio.SocketStream], Awaitable[None]]


class TrioClock:
    def now(self) -> Instant:
        return Instant(trio.current_time())

    def wall(self) -> WallMs:
        return WallMs(0)


@asynccontextmanager
async def workload(handler: Handler) -> AsyncIterator[Endpoint]:
    """A workload on loopback whose port 8080 is answered by `handler`."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        port = listeners[0].socket.getsockname()[1]
        yield Endpoint(port=8080, host="127.0.0.1", host_port=port)
        nursery.cancel_scope.cancel()


def answering(payload: bytes, seen: list[bytes] | None = None) -> Handler:
    async def handler(stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            received = await stream.receive_some()
            if not received:
                return
            request += received
        if seen is not None:
            seen.append(request)
        await stream.send_all(payload)
        await stream.aclose()

    return handler


async def ask(check: HealthCheck, *endpoints: Endpoint, timeout_s: float = 5.0) -> CheckResult:
    return await run_check(check, endpoints=endpoints, main_port=8080, timeout_s=timeout_s, exec_=None)


@pytest.mark.parametrize(
    ("answer", "ok", "detail"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True, "HTTP 200"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True, "HTTP 204"),
        (b"HTTP/1.0 301 Moved\r\nLocation: /elsewhere\r\n\r\n", True, "HTTP 301"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nendless body", True, "HTTP 200"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, "HTTP 400"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False, "HTTP 503"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False, "answered no HTTP"),
        (b"HTTP/1.1 200", False, "answered no HTTP"),
        (b"", False, "answered no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, False, "answered no HTTP"),
    ],
)
async def test_http_is_well_from_200_to_399_only(answer: bytes, ok: bool, detail: str) -> None:
    async with workload(answering(answer)) as endpoint:
        result = await ask(HttpCheck(path="/healthz"), endpoint)
    assert result.ok is ok, result
    assert detail in result.detail


async def test_http_names_the_host_and_path_that_were_asked_for() -> None:
    seen: list[bytes] = []
    async with workload(answering(b"HTTP/1.1 200 OK\r\n\r\n", seen)) as endpoint:
        await ask(HttpCheck(path="/ready?deep=1", host="shop.example"), endpoint)
        await ask(HttpCheck(path="/"), endpoint)
    assert seen[0].startswith(b"GET /ready?deep=1 HTTP/1.1\r\nHost: shop.example\r\n")
    assert b"Host: localhost\r\n" in seen[1]


async def test_a_workload_that_never_answers_fails_at_the_timeout(autojump_clock: MockClock) -> None:
    async def mute(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with workload(mute) as endpoint:
        autojump_clock.autojump_threshold = 0.05
        result = await ask(HttpCheck(path="/"), endpoint, timeout_s=30.0)
    assert result == CheckResult(ok=False, detail="GET :8080/ did not answer within 30 s")


async def test_tcp_is_well_when_the_port_accepts() -> None:
    async with workload(answering(b"")) as endpoint:
        assert (await ask(TcpCheck(), endpoint)).ok
        other = Endpoint(port=9090, host="127.0.0.1", host_port=endpoint.host_port)
        assert (await ask(TcpCheck(port=9090), endpoint, other)).ok
    refused = await ask(TcpCheck(), endpoint)
    assert not refused.ok
    assert "port 8080" in refused.detail


async def test_a_port_without_an_endpoint_is_said_so() -> None:
    udp = Endpoint(port=8080, host="127.0.0.1", host_port=1, protocol=Protocol.UDP)
    assert (await ask(TcpCheck(), udp)).detail == "port 8080 of the instance cannot be reached from its node"
    nothing = await run_check(TcpCheck(), endpoints=(), main_port=None, timeout_s=1.0, exec_=None)
    assert nothing.detail == "the check names no port and the service has none"


async def test_a_path_that_is_no_path_is_an_answer_and_no_exception() -> None:
    async with workload(answering(b"")) as endpoint:
        result = await ask(HttpCheck(path="/a b\r\nX: y"), endpoint)
    assert not result.ok
    assert "cannot be asked" in result.detail


async def test_exec_is_well_on_exit_code_zero_and_shows_the_last_line_otherwise() -> None:
    async def call(command: tuple[str, ...]) -> ExecOutcome:
        return ExecOutcome(exit_code=int(command[0]), output="first\nno space left\n")

    async def check(code: str) -> CheckResult:
        return await run_check(ExecCheck(command=(code,)), endpoints=(), main_port=None, timeout_s=1.0, exec_=call)

    assert (await check("0")).ok
    assert await check("3") == CheckResult(ok=False, detail="exit code 3: no space left")


async def test_exec_errors_of_every_kind_are_answers(autojump_clock: MockClock) -> None:
    async def gone(_: tuple[str, ...]) -> ExecOutcome:
        raise InstanceNotFoundError("there is no instance of a23456723456")

    async def broken(_: tuple[str, ...]) -> ExecOutcome:
        raise KeyError("surprise")

    async def hangs(_: tuple[str, ...]) -> ExecOutcome:
        await trio.sleep_forever()
        raise AssertionError

    check = ExecCheck(command=("true",))
    for call, words in ((gone, "no instance"), (broken, "KeyError"), (hangs, "did not answer"), (None, "cannot run")):
        result = await run_check(check, endpoints=(), main_port=None, timeout_s=2.0, exec_=call)
        assert not result.ok
        assert words in result.detail


class LoudSession:
    """Prints a lot, then ends with 7."""

    def __init__(self) -> None:
        self._left = 100

    async def send(self, chunk: bytes) -> None:
        raise AssertionError("a probe sends nothing")

    async def close_stdin(self) -> None: ...

    async def receive(self) -> tuple[LogStream, bytes] | None:
        await trio.lowlevel.checkpoint()
        self._left -= 1
        return (LogStream.STDOUT, b"x" * 1000 + b"\nthe end") if self._left else None

    async def resize(self, rows: int, columns: int) -> None: ...

    async def exit_code(self) -> int:
        return 7


class LoudRuntime:
    def exec(self, allocation: AllocationId, request: ExecRequest) -> object:
        @asynccontextmanager
        async def session() -> AsyncIterator[LoudSession]:
            assert request.command == ("check",)
            yield LoudSession()

        return session()


async def test_exec_output_is_bounded_and_its_end_is_kept() -> None:
    outcome = await exec_through(LoudRuntime(), ALLOCATION)(("check",))  # type: ignore[arg-type]
    assert outcome.exit_code == 7
    assert len(outcome.output) <= 4096
    assert outcome.output.endswith("the end")


class Told:
    """What a driver published, with times since the start."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, AllocationId, HealthTransition]] = []
        self._start = trio.current_time()

    def publish(self, allocation: AllocationId, transition: HealthTransition) -> None:
        self.seen.append((round(trio.current_time() - self._start, 2), allocation, transition))

    def changes(self) -> list[HealthTransition]:
        return [change for _, _, change in self.seen]


def exec_probe(name: str, interval_s: float = 5.0) -> ProbeSpec:
    return ProbeSpec(check=ExecCheck(command=(name,)), interval_s=interval_s)


@asynccontextmanager
async def running_driver() -> AsyncIterator[HealthDriver]:
    driver = HealthDriver(TrioClock())
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        yield driver
        nursery.cancel_scope.cancel()


class Patient:
    """An instance whose commands succeed from `well_from` to `well_until`."""

    def __init__(self, well_from: float = 0.0, well_until: float = float("inf")) -> None:
        self._from = trio.current_time() + well_from
        self._until = trio.current_time() + well_until
        self.asked = 0

    async def call(self, command: tuple[str, ...]) -> ExecOutcome:
        self.asked += 1
        await trio.sleep(0.01)
        is_well = self._from <= trio.current_time() < self._until
        return ExecOutcome(exit_code=0 if is_well else 1, output=command[0])


async def test_driver_finds_a_copy_ready_soon_after_it_is(autojump_clock: MockClock) -> None:
    told, patient = Told(), Patient(well_from=0.5)
    async with running_driver() as driver:
        driver.start(
            ALLOCATION,
            ProbeSet(readiness=exec_probe("ready")),
            endpoints=tuple,
            main_port=None,
            exec_=patient.call,
            publish=told.publish,
        )
        await trio.sleep(4.0)
    assert told.changes() == [BecameReady()]
    assert 0.5 <= told.seen[0][0] <= 1.0


async def test_driver_reports_lost_readiness_and_failed_liveness(autojump_clock: MockClock) -> None:
    told, patient = Told(), Patient(well_until=12.0)
    async with running_driver() as driver:
        driver.start(
            ALLOCATION,
            ProbeSet(readiness=exec_probe("ready"), liveness=exec_probe("alive", interval_s=10.0)),
            endpoints=tuple,
            main_port=None,
            exec_=patient.call,
            publish=told.publish,
        )
        await trio.sleep(120.0)
        assert driver.watched() == (ALLOCATION,)
        asked = patient.asked
        await trio.sleep(120.0)
        assert patient.asked == asked
    assert told.changes() == [
        BecameReady(),
        BecameUnready(reason="exit code 1: ready"),
        LivenessFailed(reason="exit code 1: alive"),
    ]


async def test_driver_says_nothing_after_stop(autojump_clock: MockClock) -> None:
    told, patient = Told(), Patient(well_from=1.0)
    async with running_driver() as driver:
        driver.start(
            ALLOCATION,
            ProbeSet(readiness=exec_probe("ready")),
            endpoints=tuple,
            main_port=None,
            exec_=patient.call,
            publish=told.publish,
        )
        await trio.sleep(0.5)
        driver.stop(ALLOCATION)
        driver.stop(ALLOCATION)
        await trio.sleep(30.0)
    assert told.seen == []
    assert driver.watched() == ()


async def test_driver_begins_anew_when_an_allocation_is_started_again(autojump_clock: MockClock) -> None:
    told, patient = Told(), Patient()
    async with running_driver() as driver:
        for _ in range(2):
            driver.start(
                ALLOCATION,
                ProbeSet(startup=exec_probe("up")),
                endpoints=tuple,
                main_port=None,
                exec_=patient.call,
                publish=told.publish,
            )
            await trio.sleep(1.0)
    assert told.changes() == [BecameReady(), BecameReady()]


async def test_driver_watches_many_and_one_that_hangs_delays_no_other(autojump_clock: MockClock) -> None:
    told = Told()

    async def hangs(_: tuple[str, ...]) -> ExecOutcome:
        await trio.sleep_forever()
        raise AssertionError

    async def fine(_: tuple[str, ...]) -> ExecOutcome:
        return ExecOutcome(exit_code=0)

    async with running_driver() as driver:
        for number in range(20):
            driver.start(
                AllocationId(f"a{number:011d}"),
                ProbeSet(readiness=exec_probe("ready")),
                endpoints=tuple,
                main_port=None,
                exec_=hangs if number == 0 else fine,
                publish=told.publish,
            )
        await trio.sleep(1.0)
        assert len(told.seen) == 19
