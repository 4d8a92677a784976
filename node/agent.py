"""The composition root: makes the clock, the store, the machines and their drivers.

One nursery holds every task of the node; when one of them fails the node ends, and
what it runs goes on without it until the next start takes it over.
"""

import os
import platform
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import psutil
import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.replica import Replica
from consensus.state.commands import AdmitNode
from consensus.state.commands.base import SCHEMA
from consensus.subgroup import SubgroupConfig
from gossip.codec import PacketCodec
from node import changes
from node.api.server import ApiAddresses, ApiListen, serve_api
from node.beliefs import BeliefTable
from node.control import Control
from node.endings import EndedJobs
from node.group import GroupKeeper, Quorum, RaftTransport, Recovery
from node.group.contents import ContentSharing
from node.group.feeding import IntentFeed
from node.group.freshness import Freshness
from node.health.probes import HealthDriver
from node.logging import configure_logging
from node.membership import Membership
from node.membership.carrier import FactCarrier
from node.membership.facts import KnownFacts
from node.membership.kept import make_ring
from node.mesh.driver import Mesh, listening_host
from node.mesh.hello import Purpose
from node.proxy.server import ProxyServer, open_listeners
from node.reconciler.driver import ReconcilerDriver
from node.reconciler.machine import Reconciler
from node.runtime.base import Runtime
from node.runtime.wasm.driver import WasmRuntime
from node.sources import SystemClock, SystemIds
from node.store.blobs import BlobStore
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.events import EventLog
from node.store.identity import Identity, read_identity, start_identity
from node.store.log_store import LmdbLogStore
from node.store.set_aside import SetAside
from node.wiring import Wiring
from node.workload_files import WorkloadFiles
from orca.client.discover import SOCKET_NAME, default_data_dir
from orca.config import HTTP_FALLBACK_PORT, HTTP_PORT, GossipBackend, NodeConfig
from orca.errors import OrcaError
from orca.model.event import EventKind
from orca.model.ids import ClusterId, NodeId
from orca.model.node import NodeFacts
from orca.model.spec import RuntimeKind
from orca.model.units import Bytes, MilliCpu
from orca.model.view import ImageBuild, IngressView, NodeView
from orca.version import VERSION

if TYPE_CHECKING:
    from node.runtime.docker import DockerRuntime

_log = structlog.get_logger("orca.node")
BLOBS_SWEEP_S = 3600.0
ADMIT_RETRY_S = 1.0
LEFT_LINGER_S = 0.5
"""For the answer to whoever told it to leave."""


def run_node(config: NodeConfig, announce: Callable[[NodeView], None] = lambda _: None) -> None:
    """Run a node in this process until SIGTERM or Ctrl-C; `announce` gets its description once it answers.

    Raises the errors of `orca.errors` that keep it from starting: a locked or damaged
    data directory, a port that is taken.
    """
    assert __debug__, "a node does not run under python -O: its asserts are what stops it when it is wrong"
    configure_logging(config.log_format)
    trio.run(_run_until_told, config, announce)


async def _run_until_told(config: NodeConfig, announce: Callable[[NodeView], None]) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            nursery.start_soon(_serve, config, nursery.cancel_scope, announce)
            async for number in signals:
                _log.info("stopping; what runs in containers goes on", signal=signal.Signals(number).name)
                break
            nursery.cancel_scope.cancel()


async def _serve(config: NodeConfig, scope: trio.CancelScope, announce: Callable[[NodeView], None]) -> None:
    try:
        async with trio.open_nursery() as nursery:
            announce(await nursery.start(serve_node, config))
    finally:
        scope.cancel()


def data_dir_of(config: NodeConfig) -> Path:
    """Where the state of a node with `config` lives."""
    return Path(config.data_dir).absolute() if config.data_dir else default_data_dir(os.environ)


async def serve_node(config: NodeConfig, *, task_status: trio.TaskStatus[NodeView] = trio.TASK_STATUS_IGNORED) -> None:
    """Be a node until cancelled; `started` gives its own description once it answers."""
    with (
        DataDirectory.open(data_dir_of(config)) as directory,
        Environment.open(directory, map_bytes_max=config.store.map_bytes_max) as environment,
    ):
        cluster = await _cluster_to_join(config, environment)
        await _Agent(config, directory, environment, cluster).run(task_status)


async def _cluster_to_join(config: NodeConfig, environment: Environment) -> ClusterId | None:
    """The cluster of the peers that a new node was given; None for a node that has one, or founds its own."""
    if not config.gossip.join or read_identity(environment) is not None:
        return None
    from node.group.adopt import find_cluster, find_cluster_of_agent

    if config.gossip.backend is GossipBackend.SERF:
        return await find_cluster_of_agent(config.gossip.agent, config.gossip.join)
    return await find_cluster(config.gossip.join, PacketCodec(make_ring(config.gossip.key, ())))


class _Agent:
    """One node, from its data directory up."""

    def __init__(
        self, config: NodeConfig, directory: DataDirectory, environment: Environment, cluster: ClusterId | None
    ) -> None:
        self._config = config
        self._path = directory.path
        self._clock = SystemClock()
        self._ids = SystemIds()
        self._seeds = random.Random()
        self._identity = start_identity(environment, self._ids, config.name or socket.gethostname(), cluster=cluster)
        self._started_at_ms = self._clock.wall()
        self._events = EventLog(environment, self._identity.node, keep=config.store.events_kept)
        self._blobs = BlobStore(directory.blobs_path)
        self._health = HealthDriver(self._clock)
        self._proxy = ProxyServer(self._clock, self._rng())
        self._docker = self._make_docker()
        self._runtimes = self._make_runtimes()
        self._beliefs = BeliefTable()
        self._addresses = ApiAddresses(tcp=())
        self._ingress: tuple[IngressView, ...] = ()
        ended = EndedJobs(environment)
        known_ends = ended.load()
        for status in known_ends.values():
            self._beliefs.put_status(status)  # nothing will change them, so nobody else would tell
        self._wiring = Wiring(
            identity=self._identity,
            clock=self._clock,
            beliefs=self._beliefs,
            events=self._events,
            health=self._health,
            proxy=self._proxy,
            runtimes=self._runtimes,
            files=WorkloadFiles(self._path / "files", self._blobs.path),
            ended=ended,
            facts=_own_facts(self._identity, config),
        )
        known = KnownFacts(self._beliefs)
        self._membership = self._wiring.membership = Membership(
            config.gossip_offset,
            self._identity,
            self._clock,
            environment,
            known,
            self._wiring.record,
            zone=config.labels.get("zone", ""),
        )
        self._mesh = Mesh(
            self._identity.cluster, self._identity.node, self._rng(), address_of=self._membership.mesh_address
        )
        self._transport = RaftTransport(self._mesh)
        self._replica = self._make_replica(LmdbLogStore(environment))
        self._transport.receive = self._replica.receive
        machine = Reconciler(self._identity.node, config.reconciler, self._rng(), known_ends)
        self._reconciler = ReconcilerDriver(machine, self._runtimes, self._wiring, self._clock, config.reconciler)
        self._wiring.replica, self._wiring.reconciler = self._replica, self._reconciler
        known.changed = self._wiring.peers_changed
        self._contents = self._wiring.contents = ContentSharing(self._blobs, self._mesh, others=self._other_nodes)
        self._feed = IntentFeed(
            self._replica, self._mesh, self._clock, Freshness(self._clock.now()), others=self._other_nodes
        )
        self._keeper = GroupKeeper(
            self._identity.node,
            self._clock,
            self._replica,
            seen=self._membership.sightings,
            facts=lambda: self._beliefs.nodes,
            record=self._wiring.record,
            config=SubgroupConfig(wanted=config.cluster.voters, replace_after_s=config.cluster.voter_replace_after_s),
        )

        self._recovery = self._wiring.recovery = self._make_recovery(SetAside(environment, self._path))

    def _rng(self) -> random.Random:
        return random.Random(self._seeds.getrandbits(64))

    def _make_docker(self) -> "DockerRuntime | None":
        if not self._config.docker:
            return None
        from node.runtime.docker import DockerRuntime

        url = self._config.docker_url or None
        return DockerRuntime(self._identity.cluster, self._identity.node, self._clock, base_url=url)

    def _make_runtimes(self) -> dict[RuntimeKind, Runtime]:
        wasm = WasmRuntime(
            self._identity.cluster,
            self._identity.node,
            self._clock,
            cache_dir=self._path / "wasm",
            read_blob=self._blobs.path,
            volumes_dir=self._path / "volumes",
        )
        runtimes: dict[RuntimeKind, Runtime] = {RuntimeKind.WASM: wasm}
        if self._docker is not None:
            runtimes[RuntimeKind.DOCKER] = self._docker
        return runtimes

    def _make_replica(self, store: LmdbLogStore) -> ReplicaDriver:
        replica = Replica(
            self._identity.node,
            frozenset({self._identity.node}) if self._identity.is_founder else frozenset(),
            store.load(),
            self._rng(),
            self._ids,
            log_entries_kept=self._config.store.log_entries_kept,
            changes_max=self._config.scheduler.allocations_per_plan,
        )
        return ReplicaDriver(
            replica,
            self._clock,
            write=store.save,
            load=store.load,
            beliefs=self._beliefs.view,
            listener=self._wiring,
            transport=self._transport,
        )

    def _make_recovery(self, aside: SetAside) -> Recovery:
        return Recovery(
            self._replica,
            self._mesh,
            self._clock,
            self._rng(),
            self._ids,
            alive=self._other_nodes,
            set_aside=lambda: aside.set_aside(self._clock.wall()),
            record=self._wiring.record,
        )

    async def run(self, task_status: trio.TaskStatus[NodeView]) -> None:
        """Start everything in the order in which it is needed, and hold it."""
        config = self._config
        is_default = config.http_port == HTTP_PORT and config.port_offset == 0
        wanted = config.http_port and config.http_port + config.port_offset
        fallback = HTTP_FALLBACK_PORT if is_default else None
        listeners, port = await open_listeners(config.http_host, wanted, fallback)
        note = "" if port == wanted or not wanted else f"port {wanted} could not be had, {port} was taken instead"
        self._ingress = (IngressView(host=config.http_host, port=port, note=note),)
        control = self._make_control()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._events.run)
            await nursery.start(self._wiring.keep_records)
            await self._start_talking(nursery)
            await nursery.start(self._replica.run)
            self._wiring.record(EventKind.NODE_STARTED, f"{self._identity.name} started")
            await nursery.start(self._health.run)
            await nursery.start(self._reconciler.run)
            self._wiring.go_live()
            for runtime in self._runtimes.values():
                nursery.start_soon(runtime.run, self._wiring.runtime_published)
            await nursery.start(self._proxy.serve, listeners)
            self._addresses = await nursery.start(serve_api, control, self._api_listen())
            nursery.start_soon(self._admit)
            nursery.start_soon(self._sweep_blobs)
            nursery.start_soon(self._end_when_left, nursery.cancel_scope)
            view = self._describe()
            _announce(view)
            task_status.started(view)

    async def _start_talking(self, nursery: trio.Nursery) -> None:
        """Mesh and gossip, which the replica needs to find its peers, and the keeper of the group."""
        config = self._config
        mesh_port = config.mesh_port and config.mesh_port + config.port_offset
        handlers = {
            Purpose.RAFT: self._transport.serve,
            Purpose.INTENT: self._feed.serve,
            Purpose.CONTENT: self._contents.serve,
            Purpose.STANDING: self._recovery.serve,
            Purpose.FACTS: self._membership.serve_facts,
        }
        carrier = FactCarrier(self._mesh.connect, self._rng())
        self._membership.send_frame = carrier.send
        host = listening_host(config.gossip.advertise or config.gossip.host)
        run_mesh = partial(self._mesh.run, handlers, host, mesh_port, unreachable=self._replica.unreachable)
        address = await nursery.start(run_mesh)
        gossip_port = config.gossip.port and config.gossip.port + config.port_offset
        await nursery.start(carrier.run)
        await nursery.start(self._membership.run, gossip_port, address)
        nursery.start_soon(self._keeper.run)
        nursery.start_soon(self._feed.follow)
        nursery.start_soon(self._recovery.run)

    def _other_nodes(self) -> list[NodeId]:
        """The living nodes of this cluster, without this one."""
        seen = self._membership.sightings().values()
        return [one.node for one in seen if one.is_alive and one.node != self._identity.node]

    def _api_listen(self) -> ApiListen:
        config = self._config
        port = config.api_port and config.api_port + config.port_offset
        return ApiListen(host=config.api_host, port=port, socket_path=str(self._path / SOCKET_NAME))

    def _make_control(self) -> Control:
        return Control(
            cluster=self._identity.cluster,
            node=self._identity.node,
            clock=self._clock,
            ids=self._ids,
            replica=self._replica,
            beliefs=self._beliefs,
            events=self._events,
            blobs=self._blobs,
            runtimes=self._runtimes,
            membership=self._membership,
            quorum=Quorum(self._keeper, self._recovery),
            age_s=self._feed.age_s,
            builder=None if self._docker is None else _Builder(self._docker),
            describe_node=self._describe,
        )

    def _describe(self) -> NodeView:
        state = self._replica.state
        tcp = self._addresses.tcp
        return NodeView(
            facts=self._wiring.facts(),
            is_leader=self._replica.is_leader,
            allocations=sum(one.node == self._identity.node for one in state.allocations.values()),
            started_at_ms=self._started_at_ms,
            api=f"http://{_bracketed(tcp[0][0])}:{tcp[0][1]}" if tcp else "",
            ingress=self._ingress,
            data_dir=str(self._path),
        )

    async def _admit(self) -> None:
        """Make this node part of its cluster, or note its new name or release; tried until the group takes it."""
        while True:
            known = self._replica.state.nodes.get(self._identity.node)
            wanted = AdmitNode(
                node=self._identity.node,
                name=self._identity.name,
                schema=SCHEMA,
                release=VERSION,
                at_ms=self._clock.wall(),
            )
            if known is not None and (known.name, known.schema, known.release) == (wanted.name, SCHEMA, VERSION):
                return
            try:
                await self._replica.propose(wanted)
            except OrcaError as error:
                _log.debug("not admitted yet", reason=error.message)
                await trio.sleep(ADMIT_RETRY_S)

    async def _end_when_left(self, scope: trio.CancelScope) -> None:
        """A node that was told to leave the gossip (`serf leave`) ends with it, as a Serf agent does."""
        await self._membership.left.wait()
        _log.info("this node has left the gossip and ends; what runs in containers goes on")
        await trio.sleep(LEFT_LINGER_S)
        scope.cancel()

    async def _sweep_blobs(self) -> None:
        """Remove contents that no kept revision names, now and every hour."""
        while True:
            state = self._replica.state
            kept = [one.spec for record in state.services.values() for one in record.revisions]
            kept += [one.spec for removed in state.removed.values() for one in removed.revisions]
            await self._blobs.remove_unused(frozenset(digest for spec in kept for digest in changes.blobs_of(spec)))
            await trio.sleep(BLOBS_SWEEP_S)


class _Builder:
    """Builds images from a stream: the engine's client wants a file."""

    def __init__(self, docker: "DockerRuntime") -> None:
        self._docker = docker

    def build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Build `request` from `tar`; see `DockerRuntime.build`."""
        return self._build(tar, request)

    @asynccontextmanager
    async def _build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AsyncIterator[AsyncIterator[str]]:
        with TemporaryFile(prefix="orca-build-") as spool:
            async for chunk in tar:
                await trio.to_thread.run_sync(spool.write, chunk)
            spool.seek(0)
            async with self._docker.build(spool, request) as lines:
                yield lines


def _own_facts(identity: Identity, config: NodeConfig) -> NodeFacts:
    return NodeFacts(
        id=identity.node,
        name=identity.name,
        version=VERSION,
        architecture=platform.machine(),
        cpu_milli=MilliCpu((os.cpu_count() or 1) * 1000),
        memory_bytes=Bytes(psutil.virtual_memory().total),
        labels=config.labels,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _announce(view: NodeView) -> None:
    """One line a door, so that whoever started the node knows where to knock."""
    ingress = ", ".join(f"http://{_bracketed(one.host)}:{one.port}" for one in view.ingress)
    _log.info("node is up", name=view.facts.name, id=view.facts.id, api=view.api, ingress=ingress, data=view.data_dir)
    for one in view.ingress:
        if one.note:
            _log.warning("ingress is elsewhere than asked", note=one.note)
    sys.stderr.flush()
