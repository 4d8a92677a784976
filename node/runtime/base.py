"""What every runtime can do: one interface, one contract suite (`tests/contracts`).

The reconciler decides; a runtime obeys and reports what is there, never what was
asked for. Calls name an allocation, never a container. Every call may be cancelled
(a deadline, a shutdown); a cancelled call leaves the instance in some state that the
next `list_instances` tells truthfully. Errors are those of `orca.errors`:
`RuntimeUnavailableError` when the engine does not answer within its deadline,
`ImageNotFoundError`, `ModuleInvalidError`, `PortTakenError` and
`RuntimeFailedError` for what it refuses, `InstanceNotFoundError` for an unknown
allocation.

`create` and `remove` are idempotent. `start` on a running instance and `stop` on an
ended one do nothing. An instance outlives the node's process where the runtime lets
it (a container) and is found again by `list_instances` after a restart; where it
cannot (a Wasm module), it is simply not listed any more.
"""

import enum
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

import msgspec
import trio

from orca.model.allocation import Endpoint, PrepareProgress
from orca.model.ids import AllocationId, ClusterId, LeaseEpoch, NodeId, ServiceId, SpecRevision
from orca.model.node import RuntimeState
from orca.model.secrets import fill_environment
from orca.model.spec import RuntimeKind, ServiceSpec
from orca.model.units import WallMs


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a runtime needs to make one copy.

    `template` is recorded with the instance, so that a copy of an older spec is
    recognised. `files_dir` is a directory of the node that holds the spec's `files`,
    one per index (`0`, `1`, …), already written; empty when the spec has none. `secrets` are the
    values of the secrets that the spec names; they are in clear here, and nowhere in the spec. `fence` is the number of
    the lease that a singleton holds: larger than that of any copy before it.
    """

    allocation: AllocationId
    service: ServiceId
    revision: SpecRevision
    template: str
    slot: int
    cluster: ClusterId
    node: NodeId
    spec: ServiceSpec
    files_dir: str = ""
    secrets: dict[str, bytes] = {}
    fence: LeaseEpoch | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What the copy's processes see: the spec's values with their secrets, and who they are."""
        return {
            **fill_environment(self.spec, self.secrets),
            "ORCA_SERVICE": str(self.service),
            "ORCA_ALLOCATION": str(self.allocation),
            "ORCA_SLOT": str(self.slot + 1),
            "ORCA_NODE": str(self.node),
            **({} if self.fence is None else {"ORCA_FENCE": str(self.fence)}),
        }

    def __repr__(self) -> str:
        return f"Workload({self.service}.{self.slot + 1} {self.allocation}, revision {self.revision})"


class InstanceState(enum.Enum):
    """What the runtime says of an instance."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One instance as the runtime reports it.

    `exit_code` is set when `state` is `exited`; a death by signal N is 128 + N.
    `detail` is the runtime's own word on the end ("out of memory", a trap's text). `fence` is that of its workload.
    """

    allocation: AllocationId
    service: ServiceId
    revision: SpecRevision
    template: str
    state: InstanceState
    started_at_ms: WallMs | None = None
    exit_code: int | None = None
    is_oom_killed: bool = False
    detail: str = ""
    fence: LeaseEpoch | None = None


class InstanceStarted(msgspec.Struct, frozen=True, kw_only=True):
    """The workload runs."""

    allocation: AllocationId


class InstanceExited(msgspec.Struct, frozen=True, kw_only=True):
    """The workload ended, by itself or because it was stopped or killed."""

    allocation: AllocationId
    exit_code: int
    is_oom_killed: bool = False
    detail: str = ""


class InstanceRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody removed the instance; nothing of it is left but its volumes."""

    allocation: AllocationId


class RuntimeStateChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The runtime became available or unavailable.

    After it became available events may have been missed: list the instances again.
    """

    state: RuntimeState


RuntimeEvent: TypeAlias = InstanceStarted | InstanceExited | InstanceRemoved | RuntimeStateChanged
Publish: TypeAlias = Callable[[RuntimeEvent], None]
"""Takes one event; returns at once and never raises."""
Progress: TypeAlias = Callable[[PrepareProgress], None]


class LogStream(enum.Enum):
    """Which of a workload's two outputs a line came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of output without its line end; bytes that are no UTF-8 are replaced.

    A line longer than 16 KiB comes in pieces.
    """

    at_ms: WallMs
    stream: LogStream
    text: str


class InstanceStats(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance uses now. `cpu_ns` and the byte counters count up from its start.

    `memory_bytes_max` is its limit, 0 for none.
    """

    allocation: AllocationId
    at_ms: WallMs
    cpu_ns: int
    memory_bytes: int
    memory_bytes_max: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    processes: int = 0


class ExecRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A command to run inside an instance; `tty` joins stdout and stderr."""

    command: tuple[str, ...]
    tty: bool = False
    stdin: bool = False
    user: str | None = None
    env: dict[str, str] = {}
    rows: int = 24
    columns: int = 80


class ExecSession(Protocol):
    """A command running inside an instance."""

    async def send(self, chunk: bytes) -> None:
        """Give `chunk` to its stdin."""
        ...

    async def close_stdin(self) -> None:
        """End of its stdin."""
        ...

    async def receive(self) -> tuple[LogStream, bytes] | None:
        """The next piece of output, or None after the last one."""
        ...

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size; nothing without one."""
        ...

    async def exit_code(self) -> int:
        """Its exit code; call it after `receive` gave None."""
        ...


class Runtime(Protocol):
    """What can run workloads: Docker, Wasm, and the fake of the tests."""

    kind: RuntimeKind

    async def run(self, publish: Publish, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled: hold what the other calls need, publish events.

        Calls `started()` once its first `RuntimeStateChanged` is published, within
        5 s also when the engine is absent or hangs.
        """
        ...

    def state(self) -> RuntimeState:
        """Whether it can take work; what `RuntimeStateChanged` said last."""
        ...

    async def prepare(self, workload: Workload, progress: Progress) -> None:
        """Fetch the image or compile the module, whatever `create` needs; idempotent."""
        ...

    async def create(self, workload: Workload) -> None:
        """Make the instance without starting it."""
        ...

    async def start(self, allocation: AllocationId) -> None:
        """Start it, again if it ended before."""
        ...

    async def stop(self, allocation: AllocationId, timeout_s: float) -> None:
        """Ask it to end, then make it end after `timeout_s`; returns when it ended."""
        ...

    async def remove(self, allocation: AllocationId) -> None:
        """Remove the instance, killing it if it runs; its named volumes stay."""
        ...

    async def list_instances(self) -> tuple[Instance, ...]:
        """All instances of this cluster and node, in whatever state."""
        ...

    async def status(self, allocation: AllocationId) -> Instance:
        """One instance."""
        ...

    async def endpoints(self, allocation: AllocationId) -> tuple[Endpoint, ...]:
        """Where each port of its spec is reached from this node; running instances only."""
        ...

    def logs(
        self, allocation: AllocationId, *, follow: bool = False, tail: int | None = None, since_ms: WallMs | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """Its output, oldest first: the last `tail` lines (None: all) after `since_ms`.

        With `follow` it goes on until the instance is removed or the caller leaves the
        context, over restarts of the instance.
        """
        ...

    def exec(self, allocation: AllocationId, request: ExecRequest) -> AbstractAsyncContextManager[ExecSession]:
        """Run a command inside it; leaving the context closes the session.

        Raises `InvalidRequestError` where the runtime has no such thing (Wasm).
        """
        ...

    async def stats(self, allocation: AllocationId) -> InstanceStats:
        """What it uses now."""
        ...
