"""A runtime made of memory and the trio clock, for tests that need no engine.

`FakeEngine` holds the instances and outlives a `FakeRuntime`, as a container engine
outlives the node: make a second `FakeRuntime` on the same engine to play a restarted
node. `Script` says how a service behaves; `FakeRuntime` and `FakeEngine` have knobs for
what happens to it from outside (`kill`, `vanish`, `go_down`, `come_up`, `set_ready`).

Time is trio's clock, so `autojump_clock` makes hours pass at once. With `is_serving`
an instance answers HTTP on a real loopback socket (200, or 503 when not ready).
"""

import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import trio

from node.runtime.base import (
    ExecRequest,
    Instance,
    InstanceExited,
    InstanceRemoved,
    InstanceStarted,
    InstanceState,
    InstanceStats,
    LogLine,
    LogStream,
    Progress,
    Publish,
    RuntimeEvent,
    RuntimeStateChanged,
    Workload,
)
from orca.errors import InstanceNotFoundError, OrcaError, RuntimeUnavailableError
from orca.model.allocation import Endpoint, PrepareProgress
from orca.model.ids import AllocationId, ServiceId
from orca.model.node import RuntimeState
from orca.model.spec import RuntimeKind
from orca.model.units import WallMs

LINES_MAX = 10_000
PIECE_CHARS_MAX = 16 * 1024
WALL_START_MS = 1_800_000_000_000
SIGTERM_EXIT_CODE = 143
SIGKILL_EXIT_CODE = 137


@dataclass(frozen=True, kw_only=True)
class Script:
    """How the copies of a service behave.

    `delays_s`, `hangs` and `failures` are keyed by the name of a call (`prepare`,
    `create`, `start`, `stop`, `remove`, `status`, `endpoints`, `logs`, `exec`, `stats`).
    A hanging call returns only when it is cancelled. `failures_max` None fails for ever,
    otherwise that many times over all calls. `run_s` None runs until it is stopped.
    `ignores_stop` plays a program without a SIGTERM handler.
    """

    delays_s: dict[str, float] = field(default_factory=dict)
    hangs: frozenset[str] = frozenset()
    failures: dict[str, OrcaError] = field(default_factory=dict)
    failures_max: int | None = None
    run_s: float | None = None
    exit_code: int = 0
    is_oom_killed: bool = False
    detail: str = ""
    lines: tuple[tuple[LogStream, str], ...] = ()
    ignores_stop: bool = False
    stop_exit_code: int = SIGTERM_EXIT_CODE
    is_ready: bool = True
    is_serving: bool = False
    endpoints: tuple[Endpoint, ...] | None = None
    exec_exit_code: int = 0


@dataclass
class _Copy:
    """One instance of the engine."""

    workload: Workload
    address: str
    is_ready: bool
    state: InstanceState = InstanceState.CREATED
    started_at_ms: WallMs | None = None
    started_at: float = 0.0
    ends_at: float = math.inf
    exit_code: int | None = None
    is_oom_killed: bool = False
    detail: str = ""
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LINES_MAX))
    lines_seen: int = 0
    is_removed: bool = False
    changed: trio.Event = field(default_factory=trio.Event)
    listener: trio.CancelScope | None = None
    host_ports: dict[int, int] = field(default_factory=dict)

    def notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def as_instance(self) -> Instance:
        return Instance(
            allocation=self.workload.allocation,
            service=self.workload.service,
            revision=self.workload.revision,
            template=self.workload.template,
            state=self.state,
            started_at_ms=self.started_at_ms,
            exit_code=self.exit_code,
            is_oom_killed=self.is_oom_killed,
            detail=self.detail,
            fence=self.workload.fence,
        )


class FakeEngine:
    """What holds the instances; it goes on while no runtime is attached."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.default = Script()
        self.copies: dict[AllocationId, _Copy] = {}
        self.is_up = True
        self.reason = ""
        self.prepared: set[ServiceId] = set()
        self._failed: dict[str, int] = {}
        self._listeners: list[Publish] = []
        self._clock_start: float | None = None
        self.woken = trio.Event()

    def script(self, key: ServiceId | AllocationId, script: Script) -> None:
        """Make the copies of a service, or one allocation, behave like `script` from their next call on."""
        self.scripts[str(key)] = script

    def script_of(self, workload: Workload) -> Script:
        """The script of the allocation, else of its service, else the default."""
        found = self.scripts.get(str(workload.allocation)) or self.scripts.get(str(workload.service))
        return found or self.default

    def wall(self) -> WallMs:
        """Milliseconds since 1970 that follow trio's clock."""
        now = trio.current_time()
        if self._clock_start is None:
            self._clock_start = now
        return WallMs(WALL_START_MS + int((now - self._clock_start) * 1000))

    def subscribe(self, publish: Publish) -> None:
        self._listeners.append(publish)

    def unsubscribe(self, publish: Publish) -> None:
        self._listeners.remove(publish)

    def publish(self, event: RuntimeEvent) -> None:
        for listener in tuple(self._listeners):
            listener(event)

    def wake(self) -> None:
        self.woken.set()
        self.woken = trio.Event()

    def settle(self) -> float:
        """End what should have ended by now; gives the time of the next end."""
        now = trio.current_time()
        for copy in tuple(self.copies.values()):
            if copy.state is InstanceState.RUNNING and copy.ends_at <= now:
                script = self.script_of(copy.workload)
                self.end(copy, script.exit_code, script.detail, is_oom_killed=script.is_oom_killed)
        running = (copy.ends_at for copy in self.copies.values() if copy.state is InstanceState.RUNNING)
        return min(running, default=math.inf)

    def end(self, copy: _Copy, exit_code: int, detail: str = "", *, is_oom_killed: bool = False) -> None:
        """The workload of `copy` ends."""
        copy.state, copy.exit_code = InstanceState.EXITED, exit_code
        copy.is_oom_killed, copy.detail = is_oom_killed, detail
        if copy.listener is not None:
            copy.listener.cancel()
            copy.listener = None
        copy.notify()
        self.publish(
            InstanceExited(
                allocation=copy.workload.allocation, exit_code=exit_code, is_oom_killed=is_oom_killed, detail=detail
            )
        )

    def kill(
        self, allocation: AllocationId, exit_code: int = SIGKILL_EXIT_CODE, *, is_oom_killed: bool = False
    ) -> None:
        """The workload dies at once, as by `docker kill` or the kernel."""
        copy = self.copies[allocation]
        assert copy.state is InstanceState.RUNNING, f"{allocation} does not run: {copy.state}"
        self.end(copy, exit_code, "out of memory" if is_oom_killed else "", is_oom_killed=is_oom_killed)

    def vanish(self, allocation: AllocationId) -> None:
        """Somebody removes the instance by hand."""
        copy = self.copies.pop(allocation)
        if copy.state is InstanceState.RUNNING:
            self.end(copy, SIGKILL_EXIT_CODE)
        copy.is_removed = True
        copy.notify()
        self.publish(InstanceRemoved(allocation=allocation))

    def set_ready(self, allocation: AllocationId, is_ready: bool) -> None:
        """Whether a serving instance answers 200 or 503, and its exec probes 0 or 1."""
        self.copies[allocation].is_ready = is_ready

    def print_line(self, allocation: AllocationId, text: str, stream: LogStream = LogStream.STDOUT) -> None:
        """The workload prints a line."""
        copy = self.copies[allocation]
        for start in range(0, max(len(text), 1), PIECE_CHARS_MAX):
            piece = text[start : start + PIECE_CHARS_MAX]
            copy.lines.append(LogLine(at_ms=self.wall(), stream=stream, text=piece))
            copy.lines_seen += 1
        copy.notify()

    def go_down(self, reason: str = "the engine does not answer", *, kills: bool = False) -> None:
        """The engine stops answering; with `kills` its instances die, unseen by anyone."""
        self.is_up, self.reason = False, reason
        if kills:
            listeners, self._listeners = self._listeners, []
            for copy in self.copies.values():
                if copy.state is InstanceState.RUNNING:
                    self.end(copy, SIGKILL_EXIT_CODE)
            self._listeners = listeners
        self.wake()

    def come_up(self) -> None:
        """The engine answers again."""
        self.is_up, self.reason = True, ""
        self.wake()

    def take_failure(self, call: str, workload: Workload) -> OrcaError | None:
        """The error that `call` has to raise now, if any."""
        script = self.script_of(workload)
        error = script.failures.get(call)
        if error is None:
            return None
        key = f"{workload.service} {call}"
        if script.failures_max is not None and self._failed.get(key, 0) >= script.failures_max:
            return None
        self._failed[key] = self._failed.get(key, 0) + 1
        return error


class FakeExec:
    """A session of the tiny commands `echo WORD…`, `cat` and `sh -c 'exit N'`; others give the script's exit code."""

    def __init__(self, request: ExecRequest, exit_code: int) -> None:
        self.size = (request.rows, request.columns)
        self._send, self._receive = trio.open_memory_channel[bytes](100)
        self._echoes = request.command == ("cat",)
        self._exit_code = exit_code
        if request.command[:1] == ("echo",):
            self._send.send_nowait(" ".join(request.command[1:]).encode() + b"\n")
        elif request.command[:2] == ("sh", "-c") and request.command[2].startswith("exit "):
            self._exit_code = int(request.command[2].removeprefix("exit "))
        if not self._echoes or not request.stdin:
            self._send.close()

    async def send(self, chunk: bytes) -> None:
        if self._echoes:
            await self._send.send(chunk)

    async def close_stdin(self) -> None:
        self._send.close()
        await trio.lowlevel.checkpoint()

    async def receive(self) -> tuple[LogStream, bytes] | None:
        try:
            return LogStream.STDOUT, await self._receive.receive()
        except trio.EndOfChannel:
            return None

    async def resize(self, rows: int, columns: int) -> None:
        self.size = (rows, columns)
        await trio.lowlevel.checkpoint()

    async def exit_code(self) -> int:
        await trio.lowlevel.checkpoint()
        return self._exit_code


class FakeRuntime:
    """`node.runtime.base.Runtime` over a `FakeEngine`; `calls` records what was asked, oldest first."""

    def __init__(
        self, kind: RuntimeKind = RuntimeKind.DOCKER, *, engine: FakeEngine | None = None, detect_s: float = 1.0
    ) -> None:
        self.kind = kind
        self.engine = engine or FakeEngine()
        self.calls: deque[tuple[str, AllocationId | None]] = deque(maxlen=100_000)
        self._detect_s = detect_s
        self._state = RuntimeState(kind=kind, is_available=False, reason="not started")
        self._nursery: trio.Nursery | None = None

    def calls_of(self, call: str) -> list[AllocationId | None]:
        """The allocations for which `call` was asked, oldest first."""
        return [allocation for name, allocation in self.calls if name == call]

    def script(self, key: ServiceId | AllocationId, script: Script) -> None:
        """See `FakeEngine.script`."""
        self.engine.script(key, script)

    async def run(self, publish: Publish, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.engine.subscribe(publish)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for copy in tuple(self.engine.copies.values()):
                    await self._serve(copy)
                self._report(publish)
                task_status.started()
                while True:
                    woken, next_end = self.engine.woken, self.engine.settle()
                    with trio.move_on_at(next_end):
                        await woken.wait()
                    if self.engine.is_up != self._state.is_available:
                        await trio.sleep(0 if self.engine.is_up else self._detect_s)
                        self._report(publish)
        finally:
            self._nursery = None
            self.engine.unsubscribe(publish)

    def _report(self, publish: Publish) -> None:
        up = self.engine.is_up
        state = RuntimeState(kind=self.kind, is_available=up, version="fake" if up else "", reason=self.engine.reason)
        if state != self._state:
            self._state = state
            publish(RuntimeStateChanged(state=state))

    async def _serve(self, copy: _Copy) -> None:
        script = self.engine.script_of(copy.workload)
        if self._nursery is None or not script.is_serving or copy.state is not InstanceState.RUNNING:
            return
        copy.listener = trio.CancelScope()
        await self._nursery.start(self._answer, copy, copy.listener)

    async def _answer(
        self, copy: _Copy, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async def handler(stream: trio.SocketStream) -> None:
            try:
                while await stream.receive_some(65536):
                    line = b"200 OK" if copy.is_ready else b"503 Service Unavailable"
                    body = f"{copy.workload.service} {copy.workload.revision}\n".encode()
                    head = b"HTTP/1.1 " + line + b"\r\ncontent-length: " + str(len(body)).encode() + b"\r\n\r\n"
                    await stream.send_all(head + body)
            except trio.BrokenResourceError:
                pass  # the client left, which is its right

        with scope:
            async with trio.open_nursery() as nursery:
                for port in copy.workload.spec.ports:
                    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
                    copy.host_ports[port.port] = listeners[0].socket.getsockname()[1]
                    nursery.start_soon(trio.serve_listeners, handler, listeners)
                task_status.started()

    def state(self) -> RuntimeState:
        return self._state

    async def _enter(self, call: str, workload: Workload | None, allocation: AllocationId | None) -> None:
        self.calls.append((call, allocation))
        await trio.lowlevel.checkpoint()
        self._require_up()
        if workload is None:
            return
        script = self.engine.script_of(workload)
        if call in script.hangs:
            await trio.sleep_forever()
        await trio.sleep(script.delays_s.get(call, 0.0))
        self._require_up()
        error = self.engine.take_failure(call, workload)
        if error is not None:
            raise error

    def _require_up(self) -> None:
        if not self.engine.is_up:
            raise RuntimeUnavailableError(f"the fake engine is down: {self.engine.reason}")
        self.engine.settle()

    async def _find(self, call: str, allocation: AllocationId) -> _Copy:
        copy = self.engine.copies.get(allocation)
        await self._enter(call, None if copy is None else copy.workload, allocation)
        copy = self.engine.copies.get(allocation)
        if copy is None:
            raise InstanceNotFoundError(f"the fake engine has no instance of allocation {allocation}")
        return copy

    async def prepare(self, workload: Workload, progress: Progress) -> None:
        progress(PrepareProgress(step="pulling", current=0, total=100))
        await self._enter("prepare", workload, workload.allocation)
        self.engine.prepared.add(workload.service)
        progress(PrepareProgress(step="pulling", current=100, total=100))

    async def create(self, workload: Workload) -> None:
        await self._enter("create", workload, workload.allocation)
        if workload.allocation not in self.engine.copies:
            host = f"10.0.{len(self.engine.copies) // 250}.{len(self.engine.copies) % 250 + 2}"
            is_ready = self.engine.script_of(workload).is_ready
            self.engine.copies[workload.allocation] = _Copy(workload=workload, address=host, is_ready=is_ready)

    async def start(self, allocation: AllocationId) -> None:
        copy = await self._find("start", allocation)
        if copy.state is InstanceState.RUNNING:
            return
        script = self.engine.script_of(copy.workload)
        copy.state, copy.exit_code, copy.is_oom_killed, copy.detail = InstanceState.RUNNING, None, False, ""
        copy.started_at, copy.started_at_ms = trio.current_time(), self.engine.wall()
        copy.ends_at = math.inf if script.run_s is None else copy.started_at + script.run_s
        await self._serve(copy)
        self.engine.publish(InstanceStarted(allocation=allocation))
        for stream, text in script.lines:
            self.engine.print_line(allocation, text, stream)
        self.engine.wake()

    async def stop(self, allocation: AllocationId, timeout_s: float) -> None:
        copy = await self._find("stop", allocation)
        if copy.state is not InstanceState.RUNNING:
            return
        script = self.engine.script_of(copy.workload)
        if script.ignores_stop:
            await trio.sleep(timeout_s)
        if copy.state is InstanceState.RUNNING:
            self.engine.end(copy, SIGKILL_EXIT_CODE if script.ignores_stop else script.stop_exit_code)

    async def remove(self, allocation: AllocationId) -> None:
        copy = self.engine.copies.get(allocation)
        await self._enter("remove", None if copy is None else copy.workload, allocation)
        if allocation in self.engine.copies:
            self.engine.vanish(allocation)

    async def list_instances(self) -> tuple[Instance, ...]:
        await self._enter("list_instances", None, None)
        return tuple(copy.as_instance() for copy in self.engine.copies.values())

    async def status(self, allocation: AllocationId) -> Instance:
        return (await self._find("status", allocation)).as_instance()

    async def endpoints(self, allocation: AllocationId) -> tuple[Endpoint, ...]:
        copy = await self._find("endpoints", allocation)
        if copy.state is not InstanceState.RUNNING:
            return ()
        script = self.engine.script_of(copy.workload)
        if script.endpoints is not None:
            return script.endpoints
        host = "127.0.0.1" if script.is_serving else copy.address
        return tuple(
            Endpoint(
                port=port.port, host=host, host_port=copy.host_ports.get(port.port, port.port), protocol=port.protocol
            )
            for port in copy.workload.spec.ports
        )

    @asynccontextmanager
    async def logs(
        self, allocation: AllocationId, *, follow: bool = False, tail: int | None = None, since_ms: WallMs | None = None
    ) -> AsyncIterator[AsyncIterator[LogLine]]:
        copy = await self._find("logs", allocation)
        old = [line for line in copy.lines if since_ms is None or line.at_ms > since_ms]
        async with aclosing(_lines(copy, old if tail is None else old[max(len(old) - tail, 0) :], follow)) as lines:
            yield lines

    @asynccontextmanager
    async def exec(self, allocation: AllocationId, request: ExecRequest) -> AsyncIterator[FakeExec]:
        copy = await self._find("exec", allocation)
        failed = self.engine.script_of(copy.workload).exec_exit_code
        yield FakeExec(request, failed if copy.is_ready else failed or 1)

    async def stats(self, allocation: AllocationId) -> InstanceStats:
        copy = await self._find("stats", allocation)
        is_running = copy.state is InstanceState.RUNNING
        age_s = trio.current_time() - copy.started_at if is_running else 0.0
        return InstanceStats(
            allocation=allocation,
            at_ms=self.engine.wall(),
            cpu_ns=int(age_s * 1e7),
            memory_bytes=2**20 if is_running else 0,
            memory_bytes_max=copy.workload.spec.resources.memory_bytes or 0,
            processes=1 if is_running else 0,
        )


async def _lines(copy: _Copy, old: list[LogLine], follow: bool) -> AsyncGenerator[LogLine, None]:
    seen = copy.lines_seen
    for line in old:
        yield line
    while follow:
        changed = copy.changed
        fresh, seen = min(copy.lines_seen - seen, len(copy.lines)), copy.lines_seen
        for line in list(copy.lines)[len(copy.lines) - fresh :]:
            yield line
        if copy.is_removed:
            return
        if changed is copy.changed:
            await changed.wait()
