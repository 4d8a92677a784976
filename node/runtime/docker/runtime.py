"""The Docker runtime: `node.runtime.base.Runtime` on a Docker Engine."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import msgspec
import trio

from node.runtime.base import (
    ExecRequest,
    Instance,
    InstanceExited,
    InstanceRemoved,
    InstanceStarted,
    InstanceStats,
    LogLine,
    Progress,
    Publish,
    RuntimeStateChanged,
    Workload,
)
from node.runtime.docker import containers
from node.runtime.docker.calls import Calls
from node.runtime.docker.connection import Engine, deadline, engine_address
from node.runtime.docker.execution import DockerExec, open_exec
from node.runtime.docker.images import Borrow, Images
from node.runtime.docker.logs import read_lines
from node.runtime.docker.moving import MovableImages
from node.runtime.docker.networks import Networks
from node.runtime.docker.reading import (
    OUT_OF_MEMORY,
    EngineEvent,
    EngineVersion,
    Listed,
    read_endpoints,
    read_instance,
    read_stats,
    read_version,
)
from node.runtime.docker.records import Record
from node.runtime.docker.refusals import EngineRefusedError, as_error
from node.runtime.docker.request import create_body, instance_filter, networks_of
from node.runtime.docker.volumes import Volumes
from node.runtime.docker.watch import CONNECT_TIMEOUT_S, PING_TIMEOUT_S, EngineLostError, EngineWatch
from orca.errors import InstanceNotFoundError, InvalidRequestError, OrcaError, RuntimeUnavailableError
from orca.model.allocation import Endpoint
from orca.model.ids import AllocationId, ClusterId, NodeId
from orca.model.node import RuntimeState
from orca.model.spec import ContainerImage, RuntimeKind
from orca.model.units import WallMs
from orca.model.view import ImageBuild
from orca.sources import Clock

RECONNECT_MIN_S: Final = 0.1
RECONNECT_MAX_S: Final = 2.0
"""An absent engine costs one failed connect each time; a person who starts it waits no longer than this."""

INSPECT_TIMEOUT_S: Final = 2.0
REMOVAL_TIMEOUT_S: Final = 30.0
SIGKILL_EXIT_CODE: Final = 137

Report: TypeAlias = Callable[[RuntimeState], None]


class DockerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`starts_max`: creations and starts at once.

    A start costs 0.25 CPU-seconds on the engine's side, a good part of it spent waiting; on
    two cores eight at once were the fastest, and more were slower again.
    """

    starts_max: int = 8


class DockerRuntime:
    """Runs container images; see the package docstring for how."""

    kind = RuntimeKind.DOCKER

    def __init__(
        self,
        cluster: ClusterId,
        node: NodeId,
        clock: Clock,
        *,
        base_url: str | None = None,
        limits: DockerLimits | None = None,
    ) -> None:
        self._cluster, self._node, self._clock = cluster, node, clock
        address = engine_address(base_url)
        self._engine = Engine(address)
        self.calls = Calls(address.url, (limits or DockerLimits()).starts_max)
        self._networks = Networks(cluster, self.calls)
        self._volumes = Volumes(cluster, self.calls)
        self._images = Images(self._engine, self.calls)
        self.movable_images = MovableImages(self._engine, self.calls)
        self._watch = EngineWatch(self._engine, instance_filter(cluster, node))
        self._records: dict[AllocationId, Record] = {}
        self._nursery: trio.Nursery | None = None
        self._version = EngineVersion(version="", api_version="", has_init=False)
        self._has_init = False
        self._state = RuntimeState(kind=self.kind, is_available=False, reason=self.calls.down_reason)
        self._is_reported = False

    def borrow_images(self, borrow: Borrow) -> None:
        """From now on ask `borrow` for images that cannot be pulled."""
        self._images.borrow = borrow

    # ---- the engine's life

    async def run(self, publish: Publish, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; see `Runtime.run`."""
        self._is_reported = False
        first_word = trio.Event()

        def report(state: RuntimeState) -> None:
            if not self._is_reported or state != self._state or state.is_available:
                self._is_reported, self._state = True, state
                publish(RuntimeStateChanged(state=state))
                first_word.set()

        async def lead() -> None:
            await first_word.wait()
            task_status.started()

        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(lead)
                nursery.start_soon(self._say_slow, report)
                pause_s = RECONNECT_MIN_S
                while True:
                    was_up, lost = await self._attend(nursery, publish, report)
                    self.calls.close(lost)
                    report(RuntimeState(kind=self.kind, is_available=False, reason=lost))
                    pause_s = RECONNECT_MIN_S if was_up else min(pause_s * 2, RECONNECT_MAX_S)
                    await trio.sleep(pause_s)
        finally:
            self._nursery = None
            self.calls.close("the runtime was stopped")
            self._state = RuntimeState(kind=self.kind, is_available=False, reason=self.calls.down_reason)

    async def _say_slow(self, report: Report) -> None:
        """The first word has to come in time also from an engine that answers, but slowly."""
        await trio.sleep(CONNECT_TIMEOUT_S)
        if not self._is_reported:
            reason = f"Docker at {self._engine.address.url} has not told its containers within {CONNECT_TIMEOUT_S:g} s"
            report(RuntimeState(kind=self.kind, is_available=False, reason=reason))

    async def _attend(self, nursery: trio.Nursery, publish: Publish, report: Report) -> tuple[bool, str]:
        """One connection to the engine: whether it ever stood, and why it ended."""
        was_up = False

        def synced(listed: tuple[Listed, ...]) -> None:
            nonlocal was_up
            was_up = True
            self._take_listing(listed)
            self.calls.open(nursery, self._version.api_version)
            report(RuntimeState(kind=self.kind, is_available=True, version=self._version.version))

        async def handle(event: EngineEvent) -> None:
            await self._take_event(event, publish)

        url = self._engine.address.url
        try:
            with deadline(CONNECT_TIMEOUT_S, f"Docker at {url} did not say its version"):
                await self._watch.ask(PING_TIMEOUT_S)
                self._version = read_version(await self._engine.get_json("/version", timeout_s=CONNECT_TIMEOUT_S))
            self._engine.api_version, self._has_init = self._version.api_version, self._version.has_init
            await self._watch.follow(synced, handle)
        except EngineLostError as error:
            return was_up, f"Docker at {url} was lost: {error.reason}"
        except RuntimeUnavailableError as error:
            return was_up, error.message
        except EngineRefusedError as refusal:
            return was_up, f"Docker at {url} refused to be watched: {refusal.message}"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Whatever listens there answered with JSON of another shape, or with none.
            return was_up, f"what answers at {url} is no Docker engine: {error!r}"
        raise AssertionError("the events of an engine end only with an error")

    def _take_listing(self, listed: tuple[Listed, ...]) -> None:
        assert self._nursery is not None, "listings come only while the runtime runs"
        self._networks.forget()
        found = {entry.allocation: entry for entry in sorted(listed, key=lambda entry: entry.is_running)}
        for record in tuple(self._records.values()):
            entry = found.get(record.allocation)
            if entry is None or entry.container != record.container:
                self._drop(record)
                self._nursery.start_soon(self._networks.remove_unused, record.networks)
        for entry in found.values():
            record = self._records.get(entry.allocation) or self._add(entry.allocation, entry.container, entry.networks)
            record.is_running = entry.is_running
            record.notify()

    async def _take_event(self, event: EngineEvent, publish: Publish) -> None:
        record = self._records.get(event.allocation)
        if event.action == "create" and (record is None or record.is_removed):
            self._add(event.allocation, event.container, event.networks)
            return
        if record is None or record.container != event.container:
            return
        match event.action:
            case "start":
                record.is_running, record.is_oom_killed = True, False
                publish(InstanceStarted(allocation=record.allocation))
            case "oom":
                record.is_oom_killed = True
            case "die" if record.is_running:  # a start that failed also "dies"; its caller was told
                record.is_running = False
                is_oom_killed = await self._is_oom_killed(record, event.exit_code)
                publish(
                    InstanceExited(
                        allocation=record.allocation,
                        exit_code=event.exit_code,
                        is_oom_killed=is_oom_killed,
                        detail=OUT_OF_MEMORY if is_oom_killed else "",
                    )
                )
            case "destroy":
                self._drop(record)
                publish(InstanceRemoved(allocation=record.allocation))
                assert self._nursery is not None, "events come only while the runtime runs"
                self._nursery.start_soon(self._networks.remove_unused, record.networks)
            case _:
                return
        record.notify()

    async def _is_oom_killed(self, record: Record, exit_code: int) -> bool:
        """Whether the kernel killed it for its memory; a kill that nobody of us asked for is looked into."""
        if record.is_oom_killed or exit_code != SIGKILL_EXIT_CODE or record.is_ending:
            return record.is_oom_killed and exit_code != 0
        target = self._engine.target(f"/containers/{record.container}/json")
        try:
            return read_instance(await self._engine.get_json(target, timeout_s=INSPECT_TIMEOUT_S)).is_oom_killed
        except (OrcaError, EngineRefusedError):
            return False

    def _add(self, allocation: AllocationId, container: str, networks: tuple[str, ...]) -> Record:
        old = self._records.get(allocation)
        if old is not None:
            self._drop(old)
        record = self._records[allocation] = Record(allocation=allocation, container=container, networks=networks)
        self._networks.users.update(networks)
        return record

    def _drop(self, record: Record) -> None:
        record.is_removed, record.is_running = True, False
        if self._records.get(record.allocation) is record:
            del self._records[record.allocation]
            self._networks.users.subtract(record.networks)
        record.notify()

    def state(self) -> RuntimeState:
        """Whether it can take work."""
        return self._state

    # ---- changes

    async def prepare(self, workload: Workload, progress: Progress) -> None:
        """Have the image on this node; raises ImageNotFoundError."""
        source = workload.spec.source
        if not isinstance(source, ContainerImage):
            raise InvalidRequestError(f"{workload.service} is a Wasm module; Docker runs container images")
        self.calls.require_open()
        assert self._nursery is not None, "calls are open only while the runtime runs"
        await self._images.prepare(self._nursery, source.image, source.pull, progress)

    async def create(self, workload: Workload) -> None:
        """Make the container without starting it."""
        self.calls.require_open()
        known = self._records.get(workload.allocation)
        if known is not None and not known.is_removed:
            return
        volumes = await self._volumes.ensure(workload.spec)
        wanted = networks_of(workload.spec)
        async with self._networks.in_use(wanted):
            names = await self._networks.ensure(workload.spec.project, wanted)
            await self._create(workload, names, volumes)

    async def _create(self, workload: Workload, names: tuple[str, ...], volumes: dict[str, str]) -> None:
        async with self._networks.in_use(names):
            body = create_body(workload, names, volumes, has_init=self._has_init)
            try:
                container = await self.calls.change(
                    "create", workload.allocation, lambda client: containers.create(client, workload, body, names)
                )
            except EngineRefusedError as refusal:
                raise as_error(refusal, f"create allocation {workload.allocation} of {workload.service}") from refusal
            record = self._records.get(workload.allocation)
            if record is None or record.container != container:
                record = self._add(workload.allocation, container, names)
            record.workload = workload

    async def start(self, allocation: AllocationId) -> None:
        """Start it, again if it ended before."""
        record = self._require(allocation)
        try:
            try:
                await self._start(record)
            except EngineRefusedError as refusal:
                record = await self._mend(record, refusal)
                await self._start(record)
        except EngineRefusedError as refusal:
            raise self._refused(record, "start", refusal) from refusal
        record.workload = None

    async def _start(self, record: Record) -> None:
        record.is_ending = False
        await self.calls.change("start", record.allocation, lambda client: client.start(record.container))

    async def _mend(self, record: Record, refusal: EngineRefusedError) -> Record:
        """Repair what can be repaired before one more start; raises `refusal` if it is something else."""
        if refusal.is_missing_init(self._version.init_binary) and record.workload is not None:
            self._has_init = False
            workload = record.workload
            await self.remove(record.allocation)
            await self.create(workload)
            return self._require(record.allocation)
        if refusal.is_missing_network() and record.networks:
            self._networks.forget()
            await self.calls.change(
                "repair_networks",
                record.allocation,
                lambda client: containers.reconnect(client, record.container, record.networks, self._cluster),
            )
            return record
        raise refusal

    async def stop(self, allocation: AllocationId, timeout_s: float) -> None:
        """Ask it to end, kill it after `timeout_s` (in whole seconds, rounded up)."""
        record = self._require(allocation)
        record.is_ending = True
        patience_s = math.ceil(timeout_s)
        try:
            await self.calls.end("stop", allocation, lambda client: client.stop(record.container, timeout=patience_s))
        except EngineRefusedError as refusal:
            raise self._refused(record, "stop", refusal) from refusal

    async def remove(self, allocation: AllocationId) -> None:
        """Remove the container and its anonymous volumes, killing it if it runs."""
        self.calls.require_open()
        record = self._records.get(allocation)
        if record is not None:
            record.is_ending = True
        known = None if record is None else record.container
        labels = [*instance_filter(self._cluster, self._node), f"orca.allocation={allocation}"]
        try:
            with deadline(REMOVAL_TIMEOUT_S, f"Docker did not remove allocation {allocation}"):
                await self.calls.end("remove", allocation, lambda client: containers.remove(client, known, labels))
        except EngineRefusedError as refusal:
            raise as_error(refusal, f"remove allocation {allocation}") from refusal
        record = self._records.get(allocation)
        if record is not None:
            record.is_removed = True
            record.notify()

    # ---- questions

    def _require(self, allocation: AllocationId) -> Record:
        self.calls.require_open()
        record = self._records.get(allocation)
        if record is None or record.is_removed:
            raise InstanceNotFoundError(f"Docker has no container of allocation {allocation} on this node")
        return record

    def _refused(self, record: Record, verb: str, refusal: EngineRefusedError) -> OrcaError:
        if refusal.is_missing_container():
            record.is_removed = True
        return as_error(refusal, f"{verb} allocation {record.allocation}")

    async def list_instances(self) -> tuple[Instance, ...]:
        """All containers of this cluster and node."""
        async with self.calls.interruptible():
            try:
                listed = await self._watch.list_containers()
            except EngineRefusedError as refusal:
                raise as_error(refusal, "list the containers") from refusal
        found: dict[AllocationId, Instance] = {}

        async def look(entry: Listed) -> None:
            try:
                reply = await self._inspect(entry.container)
            except EngineRefusedError:
                return  # It was removed between the two questions.
            if entry.is_running or entry.allocation not in found:
                found[entry.allocation] = read_instance(reply)

        async with trio.open_nursery() as nursery:
            for entry in listed:
                nursery.start_soon(look, entry)
        return tuple(found[allocation] for allocation in sorted(found))

    async def _inspect(self, container: str) -> dict[str, Any]:
        reply: dict[str, Any] = await self.calls.query("inspect", lambda client: client.inspect_container(container))
        return reply

    async def _inspect_record(self, allocation: AllocationId) -> dict[str, Any]:
        record = self._require(allocation)
        try:
            return await self._inspect(record.container)
        except EngineRefusedError as refusal:
            raise self._refused(record, "inspect", refusal) from refusal

    async def status(self, allocation: AllocationId) -> Instance:
        """One container."""
        return read_instance(await self._inspect_record(allocation))

    async def endpoints(self, allocation: AllocationId) -> tuple[Endpoint, ...]:
        """Its ports at its bridge address; none unless it runs."""
        return read_endpoints(await self._inspect_record(allocation))

    @asynccontextmanager
    async def logs(
        self, allocation: AllocationId, *, follow: bool = False, tail: int | None = None, since_ms: WallMs | None = None
    ) -> AsyncIterator[AsyncIterator[LogLine]]:
        """Its output; see `Runtime.logs`."""
        record = self._require(allocation)
        generator = read_lines(
            self._engine, record, now_ms=self._clock.wall(), follow=follow, tail=tail, since_ms=since_ms
        )
        async with aclosing(generator) as lines:
            yield lines

    @asynccontextmanager
    async def exec(self, allocation: AllocationId, request: ExecRequest) -> AsyncIterator[DockerExec]:
        """Run a command inside it."""
        record = self._require(allocation)
        async with open_exec(self._engine, self.calls, allocation, record.container, request) as session:
            yield session

    async def stats(self, allocation: AllocationId) -> InstanceStats:
        """One measurement."""
        record = self._require(allocation)
        try:
            reply = await self.calls.query("stats", lambda client: containers.measure(client, record.container))
        except EngineRefusedError as refusal:
            raise self._refused(record, "measure", refusal) from refusal
        return read_stats(allocation, self._clock.wall(), reply)

    def build(self, tar: BinaryIO | Path, request: ImageBuild) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Build an image on this node from a tar of its directory; see `Images.build`."""
        return self._images.build(tar, request)
