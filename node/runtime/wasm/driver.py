"""`WasmRuntime`: the runtime interface over the engine, the guests and the listeners."""

import contextlib
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from node.runtime.base import (
    ExecRequest,
    ExecSession,
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
    RuntimeStateChanged,
    Workload,
)
from node.runtime.wasm.calls import Call, Outcome, Pool, StopReason
from node.runtime.wasm.engine import Program, WasmEngine, installed_version
from node.runtime.wasm.guest import (
    EXIT_ABANDONED,
    EXIT_STOPPED,
    MEMORY_BYTES_DEFAULT,
    Setup,
    define_host,
    run_command_component,
    run_core,
)
from node.runtime.wasm.handlers import WagiHandler, make_http_handler
from node.runtime.wasm.listener import Handler, Limits, Listener
from node.runtime.wasm.logs import AllocationLog
from node.runtime.wasm.mounts import prepare_mounts
from orca.errors import (
    InstanceNotFoundError,
    InvalidRequestError,
    ModuleInvalidError,
    OrcaError,
    RuntimeFailedError,
    RuntimeUnavailableError,
)
from orca.model.allocation import Endpoint, PrepareProgress
from orca.model.ids import AllocationId, BlobDigest, ClusterId, NodeId
from orca.model.node import RuntimeState
from orca.model.spec import Protocol, RuntimeKind, ServiceSpec, WasmModule, WasmWorld
from orca.model.units import WallMs
from orca.sources import Clock

GUEST_THREADS_MAX: Final = 64
_LOG_AGE_S_MAX: Final = 7 * 86400.0
_END_GRACE_S: Final = 2.0
_LOOPBACK: Final = "127.0.0.1"
_PORT_WITHOUT_SPEC: Final = 80
_PAGE_BYTES: Final = 65536


class _Record:
    """One instance: what it was made of, and what became of it."""

    def __init__(self, workload: Workload, program: Program, world: WasmWorld, log: AllocationLog) -> None:
        self.workload = workload
        self.program = program
        self.world = world
        self.log = log
        self.state = InstanceState.CREATED
        self.started_at_ms: WallMs | None = None
        self.exit_code: int | None = None
        self.is_oom_killed = False
        self.detail = ""
        self.endpoints: tuple[Endpoint, ...] = ()
        self.listener: Listener | None = None
        self.call: Call | None = None
        self.is_stopping = False
        self.ended = trio.Event()
        self.start_lock = trio.Lock()
        self.cpu_ns = 0
        self.memory_bytes = 0

    def instance(self) -> Instance:
        """As the interface shows it."""
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


class WasmRuntime:
    """Runs WebAssembly in this process.

    `cache_dir` keeps machine code, logs and scratch directories; `volumes_dir` (default
    beside it) the named volumes. `read_blob` gives the file that holds a module; it is
    called in a worker thread and may block.
    """

    kind = RuntimeKind.WASM

    def __init__(
        self,
        cluster: ClusterId,
        node: NodeId,
        clock: Clock,
        *,
        cache_dir: Path,
        read_blob: Callable[[BlobDigest], Path],
        volumes_dir: Path | None = None,
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._clock = clock
        self._read_blob = read_blob
        self._logs_dir = cache_dir / "logs"
        self._scratch_dir = cache_dir / "scratch"
        self._volumes_dir = volumes_dir or cache_dir.parent / "volumes"
        self._version = installed_version()
        self._engine = WasmEngine(cache_dir / "aot", define_host)
        self._pool = Pool("orca-wasm-guest", GUEST_THREADS_MAX)
        self._records: dict[AllocationId, _Record] = {}
        self._nursery: trio.Nursery | None = None
        self._publish: Publish = lambda _event: None

    def state(self) -> RuntimeState:
        """Available when the wasmtime package is installed; nothing is imported to find out."""
        if self._version is None:
            reason = "the Python package wasmtime is not installed"
            return RuntimeState(kind=RuntimeKind.WASM, is_available=False, reason=reason)
        return RuntimeState(kind=RuntimeKind.WASM, is_available=True, version=self._version)

    async def run(self, publish: Publish, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; every instance ends with it."""
        self._publish = publish
        await trio.to_thread.run_sync(_tidy, self._logs_dir, self._scratch_dir)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                publish(RuntimeStateChanged(state=self.state()))
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for record in self._records.values():
                if record.call is not None:
                    record.call.interrupt(StopReason.STOPPED)
            self._records.clear()

    async def prepare(self, workload: Workload, progress: Progress) -> None:
        """Compile the module, or find it compiled; raises `ModuleInvalidError`."""
        progress(PrepareProgress(step="compile"))
        await self._load(workload)
        progress(PrepareProgress(step="compile", current=1, total=1))

    async def create(self, workload: Workload) -> None:
        """Make the instance; nothing runs yet."""
        if workload.allocation in self._records:
            return
        program, world = await self._load(workload)
        directory = self._logs_dir / workload.allocation
        log = await trio.to_thread.run_sync(AllocationLog, directory, workload.spec.log, self._clock.wall)
        if workload.allocation not in self._records:
            self._records[workload.allocation] = _Record(workload, program, world, log)

    async def start(self, allocation: AllocationId) -> None:
        """Open the listener, or run the command in a thread of its own."""
        record = self._find(allocation)
        async with record.start_lock:
            if record.state is InstanceState.RUNNING and record.is_stopping:
                await record.ended.wait()
            if record.state is InstanceState.RUNNING or self._records.get(allocation) is not record:
                return
            nursery = self._running_nursery()
            setup = await self._make_setup(record)
            listener: Listener | None = None
            try:
                if record.world is not WasmWorld.COMMAND:
                    listener = self._make_listener(record, setup)
                    record.endpoints = await _bind(listener, record.workload.spec)
            except BaseException:
                if listener is not None:
                    listener.close_sockets()
                raise
            # From here on nothing waits, so a cancelled start has either done nothing or all.
            record.listener, record.is_stopping, record.ended = listener, False, trio.Event()
            record.exit_code, record.is_oom_killed, record.detail = None, False, ""
            record.state, record.started_at_ms = InstanceState.RUNNING, self._clock.wall()
            self._publish(InstanceStarted(allocation=allocation))
            if listener is not None:
                nursery.start_soon(listener.serve)
            else:
                self._start_command(record, setup)

    async def stop(self, allocation: AllocationId, timeout_s: float) -> None:
        """Requests in flight may end within `timeout_s`; a command is cut at once.

        WASI has no signals: a command cannot be asked, only ended.
        """
        record = self._find(allocation)
        if record.state is not InstanceState.RUNNING:
            await trio.lowlevel.checkpoint()
            return
        if not record.is_stopping:
            record.is_stopping = True
            self._running_nursery().start_soon(self._end, record, record.ended, timeout_s)
        await record.ended.wait()

    async def remove(self, allocation: AllocationId) -> None:
        """Forget the instance and its log, ending it first."""
        record = self._records.get(allocation)
        if record is None:
            await trio.lowlevel.checkpoint()
            return
        if record.state is InstanceState.RUNNING:
            if record.listener is not None:
                record.listener.hurry()
            await self.stop(allocation, 0.0)
        if self._records.get(allocation) is not record:
            return
        del self._records[allocation]
        self._publish(InstanceRemoved(allocation=allocation))
        with trio.CancelScope(shield=True):  # a file or two; a log without an instance would stay for days
            await trio.to_thread.run_sync(record.log.remove)

    async def list_instances(self) -> tuple[Instance, ...]:
        """Those that this process made."""
        await trio.lowlevel.checkpoint()
        return tuple(record.instance() for record in self._records.values())

    async def status(self, allocation: AllocationId) -> Instance:
        """One instance."""
        await trio.lowlevel.checkpoint()
        return self._find(allocation).instance()

    async def endpoints(self, allocation: AllocationId) -> tuple[Endpoint, ...]:
        """One for each TCP port of the spec, all on one listener; none for a command.

        A service whose spec names no port is reached as port 80.
        """
        await trio.lowlevel.checkpoint()
        record = self._find(allocation)
        return record.endpoints if record.state is InstanceState.RUNNING else ()

    def logs(
        self, allocation: AllocationId, *, follow: bool = False, tail: int | None = None, since_ms: WallMs | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """See the interface."""
        return self._open_logs(allocation, follow, tail, since_ms)

    @asynccontextmanager
    async def _open_logs(
        self, allocation: AllocationId, follow: bool, tail: int | None, since_ms: WallMs | None
    ) -> AsyncIterator[AsyncIterator[LogLine]]:
        log = self._find(allocation).log
        async with aclosing(log.lines(follow=follow, tail=tail, since_ms=since_ms)) as lines:
            yield lines

    def exec(self, allocation: AllocationId, request: ExecRequest) -> AbstractAsyncContextManager[ExecSession]:
        """Raises `InvalidRequestError`: there is no second program inside a Wasm instance."""
        self._find(allocation)
        raise InvalidRequestError(
            f"cannot run {' '.join(request.command)!r} in {allocation}: it is a Wasm module, which has no shell "
            "or other programs inside; `orca logs` shows its output"
        )

    async def stats(self, allocation: AllocationId) -> InstanceStats:
        """CPU time of finished runs; memory of the last one; `processes` is the runs in flight."""
        await trio.lowlevel.checkpoint()
        record = self._find(allocation)
        listener = record.listener
        is_running = record.state is InstanceState.RUNNING
        memory_bytes = (listener.memory_bytes if listener is not None else 0) or record.memory_bytes or _PAGE_BYTES
        return InstanceStats(
            allocation=allocation,
            at_ms=self._clock.wall(),
            cpu_ns=record.cpu_ns + (listener.cpu_ns if listener is not None else 0),
            memory_bytes=memory_bytes if is_running else 0,
            memory_bytes_max=_memory_limit(record.workload.spec),
            received_bytes=listener.received_bytes if listener is not None else 0,
            sent_bytes=listener.sent_bytes if listener is not None else 0,
            processes=(listener.in_flight if listener is not None else 1) if is_running else 0,
        )

    def _find(self, allocation: AllocationId) -> _Record:
        record = self._records.get(allocation)
        if record is None:
            raise InstanceNotFoundError(f"the Wasm runtime of {self._node} has no instance of allocation {allocation}")
        return record

    def _running_nursery(self) -> trio.Nursery:
        if self._nursery is None:
            raise RuntimeUnavailableError("the Wasm runtime of this node is not running")
        return self._nursery

    async def _load(self, workload: Workload) -> tuple[Program, WasmWorld]:
        source = workload.spec.source
        if not isinstance(source, WasmModule):
            raise RuntimeFailedError(f"{workload.service} is a container; the Wasm runtime runs modules only")
        if self._version is None:
            raise RuntimeUnavailableError(self.state().reason)
        name = source.name or str(workload.service)
        try:
            path = await trio.to_thread.run_sync(self._read_blob, source.module, abandon_on_cancel=True)
            program = await self._engine.load(source.module, path)
            return program, resolve_world(program, workload.spec)
        except ModuleInvalidError as error:
            raise ModuleInvalidError(f"{name}: {error.message}") from error
        except OrcaError:
            raise
        except (OSError, LookupError) as error:
            raise ModuleInvalidError(f"{name}: module {source.module} is not on this node: {error}") from error

    async def _make_setup(self, record: _Record) -> Setup:
        workload = record.workload
        source = workload.spec.source
        assert isinstance(source, WasmModule), "only modules are created"
        if record.world is WasmWorld.HTTP and (workload.spec.mounts or workload.spec.files):
            raise RuntimeFailedError(
                f"{workload.service} asks for mounts or files, which a wasi:http component does not have; "
                "give its configuration by environment variables"
            )
        scratch = self._scratch_dir / workload.allocation
        mounts = await trio.to_thread.run_sync(prepare_mounts, workload, self._volumes_dir, scratch)
        return Setup(
            args=(source.name or workload.spec.name, *source.args),
            env=workload.environment,
            mounts=mounts,
            memory_bytes_max=_memory_limit(workload.spec),
        )

    def _make_listener(self, record: _Record, setup: Setup) -> Listener:
        source = record.workload.spec.source
        assert isinstance(source, WasmModule), "only modules are created"
        handler: Handler
        if record.world is WasmWorld.HTTP:
            handler = make_http_handler(record.program, setup, record.log)
        else:
            handler = WagiHandler(record.program, setup, record.log)
        limits = Limits(request_timeout_s=source.request_timeout_s)

        def note(text: str) -> None:
            self._pool.submit(lambda: record.log.note(text))

        return Listener(handler, self._pool, self._engine.ticker, note, limits)

    def _start_command(self, record: _Record, setup: Setup) -> None:
        call = record.call = Call()
        ended = record.ended
        token = trio.lowlevel.current_trio_token()
        run = run_core if record.program.pre is not None else run_command_component

        def work() -> None:
            stdout = _writer(record.log, LogStream.STDOUT)
            stderr = _writer(record.log, LogStream.STDERR)
            with self._engine.ticker.running():
                result = run(record.program, setup, call, stdout, stderr)
            record.log.flush()
            if result.detail and result.reason is None:
                record.log.note(result.detail)
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._on_ended, record, ended, result)

        threading.Thread(target=work, name=f"orca-wasm-{record.workload.allocation}", daemon=True).start()

    async def _end(self, record: _Record, ended: trio.Event, timeout_s: float) -> None:
        """End a running instance, in a task of the runtime's own so that a cancelled stop goes on."""
        if record.listener is not None:
            await record.listener.drain(timeout_s)
            await trio.to_thread.run_sync(record.log.flush)
            self._on_ended(record, ended, Outcome(exit_code=EXIT_STOPPED, detail="it was stopped"))
            return
        assert record.call is not None, "a running command has a call"
        record.call.interrupt(StopReason.STOPPED)
        with trio.move_on_after(max(timeout_s, _END_GRACE_S)):
            await ended.wait()
        if not ended.is_set():
            words = "it hangs in a call of the engine that cannot be cut; its thread was left behind"
            self._on_ended(record, ended, Outcome(exit_code=EXIT_ABANDONED, detail=words))

    def _on_ended(self, record: _Record, ended: trio.Event, result: Outcome) -> None:
        """On the loop: the run that `ended` stands for is over."""
        if record.ended is not ended or ended.is_set():
            return  # a thread that was left behind came back
        record.state, record.exit_code = InstanceState.EXITED, result.exit_code
        record.is_oom_killed, record.detail = result.is_oom_killed, result.detail
        record.cpu_ns += result.cpu_ns
        record.memory_bytes = result.memory_bytes or record.memory_bytes
        if record.listener is not None:
            record.cpu_ns += record.listener.cpu_ns
        record.listener, record.call, record.is_stopping, record.endpoints = None, None, False, ()
        ended.set()
        scratch = self._scratch_dir / record.workload.allocation
        self._pool.submit(lambda: shutil.rmtree(scratch, ignore_errors=True))
        self._publish(
            InstanceExited(
                allocation=record.workload.allocation,
                exit_code=result.exit_code,
                is_oom_killed=result.is_oom_killed,
                detail=result.detail,
            )
        )


def resolve_world(program: Program, spec: ServiceSpec) -> WasmWorld:
    """How to call `program` for `spec`; raises `ModuleInvalidError` when it cannot be called so."""
    source = spec.source
    asked = source.world if isinstance(source, WasmModule) else WasmWorld.AUTO
    is_core = program.pre is not None
    possible = (WasmWorld.COMMAND, WasmWorld.WAGI) if is_core else (program.world,)
    if asked is WasmWorld.AUTO:
        return WasmWorld.WAGI if is_core and spec.ports else program.world
    if asked not in possible:
        raise ModuleInvalidError(
            f"world is {asked.value!r}, but the file can only be run as {' or '.join(w.value for w in possible)}"
        )
    return asked


async def _bind(listener: Listener, spec: ServiceSpec) -> tuple[Endpoint, ...]:
    bound = await listener.bind(_LOOPBACK, 0)
    for port in spec.ports:
        if port.protocol is Protocol.TCP and port.host_port is not None:
            await listener.bind(port.host_ip, port.host_port)
    ports = [port.port for port in spec.ports if port.protocol is Protocol.TCP] or [_PORT_WITHOUT_SPEC]
    return tuple(Endpoint(port=port, host=_LOOPBACK, host_port=bound) for port in ports)


def _memory_limit(spec: ServiceSpec) -> int:
    return spec.resources.memory_bytes or MEMORY_BYTES_DEFAULT


def _writer(log: AllocationLog, stream: LogStream) -> Callable[[bytes], None]:
    return lambda piece: log.write(stream, piece)


def _tidy(logs_dir: Path, scratch_dir: Path) -> None:
    """Drop what earlier processes left: scratch directories, and logs that nobody wrote for days."""
    shutil.rmtree(scratch_dir, ignore_errors=True)
    oldest = time.time() - _LOG_AGE_S_MAX
    for directory in logs_dir.glob("*"):
        try:
            newest = max((file.stat().st_mtime for file in directory.iterdir()), default=0.0)
        except OSError:
            continue
        if newest < oldest:
            shutil.rmtree(directory, ignore_errors=True)
