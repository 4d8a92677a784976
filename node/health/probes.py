"""Asks the questions: HTTP, TCP and commands, and one task for each watched allocation."""

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias, assert_never

import h11
import msgspec
import trio

from node.bell import Bell
from node.health.verdict import HealthMonitor, HealthTransition, ProbeKind
from node.runtime.base import ExecRequest, Runtime
from orca.errors import OrcaError
from orca.model.allocation import Endpoint
from orca.model.ids import AllocationId
from orca.model.spec import ExecCheck, HealthCheck, HttpCheck, ProbeSpec, Protocol, TcpCheck
from orca.sources import Clock

_HEAD_BYTES_MAX: Final = 64 * 1024
_OUTPUT_BYTES_MAX: Final = 4096
_DETAIL_CHARACTERS_MAX: Final = 200
_PROBES_AT_ONCE: Final = 64


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """One answer; `detail` says it in words ("HTTP 503 from :8080/healthz")."""

    ok: bool
    detail: str


class ExecOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a command inside an instance ended; `output` is the end of what it printed."""

    exit_code: int
    output: str = ""


ExecCall: TypeAlias = Callable[[tuple[str, ...]], Awaitable[ExecOutcome]]
"""Runs a command inside one instance; may raise OrcaError."""
PublishHealth: TypeAlias = Callable[[AllocationId, HealthTransition], None]
"""Takes one transition; returns at once and never raises."""


class ProbeSet(msgspec.Struct, frozen=True, kw_only=True):
    """The probes of one instance."""

    startup: ProbeSpec | None = None
    readiness: ProbeSpec | None = None
    liveness: ProbeSpec | None = None


def exec_through(runtime: Runtime, allocation: AllocationId) -> ExecCall:
    """An `ExecCall` that runs commands inside `allocation` by `runtime`."""

    async def call(command: tuple[str, ...]) -> ExecOutcome:
        output = bytearray()
        async with runtime.exec(allocation, ExecRequest(command=command)) as session:
            while (received := await session.receive()) is not None:
                output += received[1]
                del output[:-_OUTPUT_BYTES_MAX]
            return ExecOutcome(exit_code=await session.exit_code(), output=output.decode("utf-8", "replace"))

    return call


async def run_check(
    check: HealthCheck,
    *,
    endpoints: Sequence[Endpoint],
    main_port: int | None,
    timeout_s: float,
    exec_: ExecCall | None,
) -> CheckResult:
    """Ask once, for at most `timeout_s`; every way of failing is an answer, nothing is raised."""
    subject = _subject(check, main_port)
    try:
        with trio.move_on_after(timeout_s):
            return await _ask(check, endpoints, main_port, exec_)
        detail = f"{subject} did not answer within {timeout_s:g} s"
    except OSError as error:
        detail = f"{subject}: {_words(error)}"
    except trio.BrokenResourceError:
        detail = f"{subject} broke the connection"
    except h11.RemoteProtocolError as error:
        detail = f"{subject} answered no HTTP: {error}"
    except OrcaError as error:
        detail = error.message
    except Exception as error:  # noqa: BLE001 - a probe of whatever kind must not end the watch over its allocation
        detail = f"{subject} failed: {type(error).__name__}: {error}"
    return CheckResult(ok=False, detail=detail)


async def _ask(
    check: HealthCheck, endpoints: Sequence[Endpoint], main_port: int | None, exec_: ExecCall | None
) -> CheckResult:
    match check:
        case HttpCheck():
            return await _ask_http(check, endpoints, main_port)
        case TcpCheck():
            return await _ask_tcp(check, endpoints, main_port)
        case ExecCheck():
            return await _ask_exec(check, exec_)
        case _:
            assert_never(check)


def _subject(check: HealthCheck, main_port: int | None) -> str:
    match check:
        case HttpCheck(path=path, port=port):
            return f"GET :{port or main_port}{path}"
        case TcpCheck(port=port):
            return f"port {port or main_port}"
        case ExecCheck(command=command):
            return " ".join(command)[:_DETAIL_CHARACTERS_MAX]
        case _:
            assert_never(check)


def _words(error: OSError) -> str:
    """What the system says. trio's own error about a connection has no number, its causes have."""
    cause = error.__cause__
    first = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else error
    return os.strerror(first.errno) if isinstance(first, OSError) and first.errno else str(error)


def _find(endpoints: Sequence[Endpoint], port: int | None) -> Endpoint | None:
    return next((one for one in endpoints if one.port == port and one.protocol is Protocol.TCP), None)


def _no_endpoint(port: int | None) -> CheckResult:
    if port is None:
        return CheckResult(ok=False, detail="the check names no port and the service has none")
    return CheckResult(ok=False, detail=f"port {port} of the instance cannot be reached from its node")


async def _ask_tcp(check: TcpCheck, endpoints: Sequence[Endpoint], main_port: int | None) -> CheckResult:
    port = check.port or main_port
    endpoint = _find(endpoints, port)
    if endpoint is None:
        return _no_endpoint(port)
    stream = await trio.open_tcp_stream(endpoint.host, endpoint.host_port)
    stream.socket.close()
    return CheckResult(ok=True, detail=f"port {port} accepts connections")


async def _ask_http(check: HttpCheck, endpoints: Sequence[Endpoint], main_port: int | None) -> CheckResult:
    port = check.port or main_port
    endpoint = _find(endpoints, port)
    if endpoint is None:
        return _no_endpoint(port)
    # Many frameworks refuse unknown names in Host; "localhost" is known to nearly all.
    headers = [("Host", check.host or "localhost"), ("User-Agent", "orca-health"), ("Accept", "*/*")]
    pilot = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX)
    try:
        request = h11.Request(method="GET", target=check.path, headers=[*headers, ("Connection", "close")])
    except h11.LocalProtocolError as error:
        return CheckResult(ok=False, detail=f"GET :{port}{check.path} cannot be asked: {error}")
    stream = await trio.open_tcp_stream(endpoint.host, endpoint.host_port)
    try:
        await stream.send_all(pilot.send(request) + pilot.send(h11.EndOfMessage()))
        status = await _read_status(stream, pilot)
    finally:
        stream.socket.close()
    return CheckResult(ok=200 <= status <= 399, detail=f"HTTP {status} from :{port}{check.path}")


async def _read_status(stream: trio.SocketStream, pilot: h11.Connection) -> int:
    """The status of the final answer; its body is not read."""
    while True:
        event = pilot.next_event()
        if event is h11.NEED_DATA:
            pilot.receive_data(await stream.receive_some(4096))
        elif isinstance(event, h11.Response):
            return event.status_code
        elif not isinstance(event, h11.InformationalResponse):
            raise h11.RemoteProtocolError("the connection ended without an answer")


async def _ask_exec(check: ExecCheck, exec_: ExecCall | None) -> CheckResult:
    if exec_ is None:
        return CheckResult(ok=False, detail="this runtime cannot run commands inside an instance")
    outcome = await exec_(check.command)
    if outcome.exit_code == 0:
        return CheckResult(ok=True, detail="exit code 0")
    lines = outcome.output.strip().splitlines()
    said = f": {lines[-1][:_DETAIL_CHARACTERS_MAX]}" if lines else ""
    return CheckResult(ok=False, detail=f"exit code {outcome.exit_code}{said}")


class _Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to watch one allocation."""

    allocation: AllocationId
    probes: ProbeSet
    endpoints: Callable[[], Sequence[Endpoint]]
    main_port: int | None
    exec_: ExecCall | None
    publish: PublishHealth
    scope: trio.CancelScope


class HealthDriver:
    """Watches allocations: `start` and `stop` return at once, transitions come by `publish`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._nursery: trio.Nursery | None = None
        self._watches: dict[AllocationId, _Watch] = {}
        self._limiter = trio.CapacityLimiter(_PROBES_AT_ONCE)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the tasks of all watches until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._watches.clear()

    def start(
        self,
        allocation: AllocationId,
        probes: ProbeSet,
        *,
        endpoints: Callable[[], Sequence[Endpoint]],
        main_port: int | None,
        exec_: ExecCall | None,
        publish: PublishHealth,
    ) -> None:
        """Watch a run of `allocation` that starts now; an earlier watch of it ends.

        `endpoints` is read before every question. Nothing is published before `start`
        returned. Call it while `run` runs.
        """
        assert self._nursery is not None, "HealthDriver.start needs a running driver"
        self.stop(allocation)
        watch = _Watch(
            allocation=allocation,
            probes=probes,
            endpoints=endpoints,
            main_port=main_port,
            exec_=exec_,
            publish=publish,
            scope=trio.CancelScope(),
        )
        self._watches[allocation] = watch
        self._nursery.start_soon(self._watch, watch, name=f"health of {allocation}")

    def stop(self, allocation: AllocationId) -> None:
        """Watch `allocation` no longer; nothing of it is published after this."""
        watch = self._watches.pop(allocation, None)
        if watch is not None:
            watch.scope.cancel()

    def watched(self) -> tuple[AllocationId, ...]:
        """What is watched, in the order of `start`; a failed instance stays until `stop`."""
        return tuple(self._watches)

    async def _watch(self, watch: _Watch) -> None:
        with watch.scope:
            probes = watch.probes
            monitor = HealthMonitor(probes.startup, probes.readiness, probes.liveness, self._clock.now())
            self._publish(watch, monitor.on_started())
            answered = Bell()
            async with trio.open_nursery() as nursery:
                while not monitor.is_over():
                    heard = answered.rings
                    for kind in monitor.due(self._clock.now()):
                        nursery.start_soon(self._ask, watch, monitor, kind, answered)
                    await answered.wait(heard, monitor.deadline() - self._clock.now())

    async def _ask(self, watch: _Watch, monitor: HealthMonitor, kind: ProbeKind, answered: Bell) -> None:
        spec = _spec_of(watch.probes, kind)
        async with self._limiter:
            result = await run_check(
                spec.check,
                endpoints=watch.endpoints(),
                main_port=watch.main_port,
                timeout_s=spec.timeout_s,
                exec_=watch.exec_,
            )
        now = self._clock.now()
        self._publish(watch, monitor.on_result(kind, result.ok, result.detail, now) or monitor.explain(now))
        answered.ring()

    def _publish(self, watch: _Watch, transitions: Sequence[HealthTransition]) -> None:
        for transition in transitions:
            if self._watches.get(watch.allocation) is watch:
                watch.publish(watch.allocation, transition)


def _spec_of(probes: ProbeSet, kind: ProbeKind) -> ProbeSpec:
    match kind:
        case ProbeKind.STARTUP:
            spec = probes.startup
        case ProbeKind.READINESS:
            spec = probes.readiness
        case ProbeKind.LIVENESS:
            spec = probes.liveness
        case _:
            assert_never(kind)
    assert spec is not None, f"{kind} was asked without a probe"
    return spec
