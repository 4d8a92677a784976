"""The composition root: makes the clock, the store, the machines and their drivers.

One nursery holds every task of the node; when one of them fails the node ends, and
what it runs goes on without it until the next start takes it over.
"""

import os
import random
from contextlib import AbstractAsyncContextManager
from functools import partial

import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.replica import Replica
from consensus.state.commands import AdmitNode
from consensus.state.commands.base import SCHEMA
from consensus.subgroup import SubgroupConfig
from node import changes
from node.addresses import join_host_port
from node.api.audit import AuditTrail
from node.api.authentication import Gate
from node.api.server import Api, ApiAddresses, ApiListen
from node.beliefs import BeliefTable
from node.building import SpooledBuilder
from node.certificates import Certificates
from node.control import Control
from node.cron.keeper import CronKeeper
from node.describing import announce, api_url, own_facts
from node.doctor.own import OwnReport, make_doctor
from node.endings import EndedJobs
from node.entrance import open_entrance
from node.figures.history import FigureHistory
from node.figures.store import SeriesStore
from node.figuring import make_figures
from node.group.contents import ContentSharing
from node.group.feeding import IntentFeed
from node.group.freshness import Freshness
from node.group.images import share_images
from node.group.keeper import GroupKeeper
from node.group.quorum import Quorum
from node.group.recovery import Recovery
from node.group.transport import RaftTransport
from node.health.probes import HealthDriver
from node.introducing import introduce
from node.isolation.driver import Isolation
from node.membership import Membership
from node.membership.carrier import FactCarrier
from node.membership.facts import KnownFacts
from node.mesh.credentials import Credentials
from node.mesh.driver import Handler, Mesh, MeshAddress
from node.mesh.purpose import Purpose
from node.metrics.scrape import metrics_of
from node.noticing import make_notifier
from node.proxy.farewell import Farewells
from node.proxy.remote import RemoteInstances
from node.proxy.server import ProxyServer
from node.reconciler.driver import ReconcilerDriver
from node.reconciler.machine import Reconciler
from node.runtimes import make_docker, make_runtimes
from node.secrets import Secrets
from node.singletons.parts import make_singletons
from node.sources import SystemClock, SystemIds
from node.store.blobs import BlobStore
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.events import EventLog
from node.store.log_store import FileLogStore
from node.store.set_aside import SetAside
from node.trust.parts import StartedTrust, Trust
from node.wiring import Wiring
from node.workload_files import WorkloadFiles, memory_places
from orca.client.discover import SOCKET_NAME
from orca.config import NodeConfig
from orca.model.event import EventKind
from orca.model.ids import NodeId
from orca.model.node import NodeAddresses
from orca.model.view import IngressView, NodeView
from orca.version import VERSION

_log = structlog.get_logger("orca.node")
LEFT_LINGER_S = 0.5
"""For the answer to whoever told it to leave."""


class Agent:
    """One node, from its data directory up."""

    def __init__(self, config: NodeConfig, directory: DataDirectory, log: FileLogStore, started: StartedTrust) -> None:
        environment = self._environment = log.environment
        self._config = config
        self._path = directory.path
        self._clock = SystemClock()
        self._ids = SystemIds()
        self._seeds = random.Random()
        self._identity = started.identity
        self._trust = Trust(started, self._clock, self._ids, lambda: self._replica.state)
        self._node_addresses = NodeAddresses()
        self._stop = trio.Event()
        self._started_at_ms = self._clock.wall()
        self._events = EventLog(environment, self._identity.node, keep=config.store.events_kept)
        self._blobs = BlobStore(directory.blobs_path)
        self._health = HealthDriver(self._clock)
        self._proxy = ProxyServer(self._clock, self._rng(), trusted_networks=config.proxy.trusted_proxies)
        self._docker = make_docker(config, self._identity, self._clock)
        self._runtimes = make_runtimes(self._identity, self._clock, self._path, self._blobs, self._docker)
        self._beliefs = BeliefTable(self._clock.wall)
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
            files=WorkloadFiles(
                self._path / "files",
                self._blobs.path,
                name=str(self._identity.node),
                memory=memory_places(os.environ, os.geteuid()),
            ),
            ended=ended,
            facts=own_facts(self._identity, config),
        )
        known = KnownFacts(self._beliefs)
        self._membership = self._wiring.membership = self._make_membership(environment, known)
        self._mesh = self._make_mesh(self._trust.credentials)
        self._transport = RaftTransport(self._mesh)
        self._replica = self._make_replica(log)
        self._transport.receive = self._replica.receive
        machine = Reconciler(self._identity.node, config.reconciler, self._rng(), known_ends)
        self._reconciler = ReconcilerDriver(machine, self._runtimes, self._wiring, self._clock, config.reconciler)
        self._wiring.replica, self._wiring.reconciler = self._replica, self._reconciler
        known.changed = self._wiring.peers_changed
        self._contents = self._wiring.contents = ContentSharing(self._blobs, self._mesh, others=self._other_nodes)
        freshness, regrouped = Freshness(self._clock.now()), self._wiring.regrouped
        self._feed = IntentFeed(
            self._replica, self._mesh.connect, self._clock, freshness, others=self._nodes_to_ask, regrouped=regrouped
        )
        self._keeper = self._make_keeper()
        self._connect_trust(environment)
        self._recovery = self._wiring.recovery = self._make_recovery(SetAside(log, self._path))
        self._trail = AuditTrail(self._clock, self._ids, self._replica.propose)
        self._api = self._make_api(self._make_control())

    def _rng(self) -> random.Random:
        return random.Random(self._seeds.getrandbits(64))

    def _make_membership(self, environment: Environment, known: KnownFacts) -> Membership:
        return Membership(
            self._config.gossip_offset,
            self._identity,
            self._clock,
            environment,
            known,
            self._wiring.record,
            zone=self._config.labels.get("zone", ""),
            seeds=self._trust.started.seeds,
            belongs=self._trust.belongs,
            removed_at=self._trust.removed_at,
            address_of=self._trust.address_of,
        )

    def _connect_trust(self, environment: Environment) -> None:
        """Trust, and what rests on it: secrets, and the doctor."""
        self._trust.connect(
            self._replica,
            self._mesh,
            self._membership,
            self._keeper,
            others=self._other_nodes,
            fed_age_s=self._feed.fed_age_s,
            decided=self._wiring.decided,
        )
        self._mesh.removed, self._trust.removal.tell = self._trust.removal.heard, self._wiring.removed
        self._membership.members_changed = self._wiring.decided.ring
        self._remote = RemoteInstances(self._mesh, self._wiring.endpoint)
        self._proxy.reach_other_nodes(self._remote.dial)
        self._farewells = self._wiring.farewells = Farewells(
            self._mesh,
            self._proxy.wait_unrouted,
            self._proxy.drain,
            others=self._other_nodes,
            intent=self._replica,
        )
        self._secrets = Secrets(
            self._replica, self._mesh, self._trust.data_keys, self._clock, self._ids, others=self._other_nodes
        )
        self._wiring.secrets = self._secrets.values
        self._singletons = self._wiring.singletons = make_singletons(
            self._config, self._identity, self._path, self._replica, self._mesh, self._clock, self._wiring
        )
        self._isolation = self._wiring.isolation = Isolation(
            self._identity.node, self._feed, changed=self._wiring.permits_changed
        )
        self._certificates = Certificates(
            self._replica,
            self._mesh,
            self._trust.data_keys,
            self._clock,
            self._ids,
            others=self._other_nodes,
            secrets=self._secrets.values.of_ingress,
            tell=self._wiring.record,
            show=self._proxy.set_certificates,
            decided=self._wiring.decided,
        )
        self._doctor = make_doctor(
            self._mesh,
            self._clock,
            self._replica,
            self._membership,
            OwnReport(environment, self._path, self._trust.credentials, self._membership, facts=self._wiring.facts),
        )

    def _make_mesh(self, credentials: Credentials) -> Mesh:
        address_of = self._membership.mesh_address
        return Mesh(self._identity.node, self._rng(), address_of=address_of, credentials=credentials)

    def _make_replica(self, store: FileLogStore) -> ReplicaDriver:
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

    def _make_keeper(self) -> GroupKeeper:
        cluster = self._config.cluster
        return GroupKeeper(
            self._identity.node,
            self._clock,
            self._replica,
            seen=self._membership.sightings,
            facts=lambda: self._beliefs.nodes,
            record=self._wiring.record,
            config=SubgroupConfig(wanted=cluster.voters, replace_after_s=cluster.voter_replace_after_s),
            changed=self._wiring.decided,
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
        entrance = await open_entrance(self._config)
        self._ingress = entrance.views
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
            await nursery.start(self._proxy.serve, entrance.listeners, entrance.tls_listeners)
            self._addresses = await nursery.start(self._api.serve, self._api_listen())
            nursery.start_soon(self._trail.run)
            nursery.start_soon(self._introduce)
            nursery.start_soon(self._blobs.keep_swept, lambda: changes.blobs_kept(self._replica.state))
            nursery.start_soon(self._notifier.run)
            nursery.start_soon(self._figures.run)
            nursery.start_soon(self._end_when_left)
            self._wiring.tell_api(self._api_url())
            view = self._describe()
            announce(view, self._node_addresses.mesh)
            task_status.started(view)
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    async def _start_talking(self, nursery: trio.Nursery) -> None:
        """Mesh and gossip, which the replica needs to find its peers, and the keeper of the group."""
        config = self._config
        mesh_port = config.mesh_port and config.mesh_port + config.port_offset
        handlers: dict[Purpose, Handler] = {
            Purpose.INTENT: self._feed.serve,
            Purpose.CONTENT: self._contents.serve,
            Purpose.STANDING: self._recovery.serve,
            Purpose.TRUST: self._trust.service.serve,
            Purpose.SECRETS: self._secrets.sharing.serve,
            Purpose.DOCTOR: self._doctor.serve,
            Purpose.FACTS: self._membership.serve_facts,
            Purpose.FAREWELL: self._farewells.serve,
            Purpose.LEASES: self._singletons.desk.serve,
            Purpose.CERTIFICATES: self._certificates.signer.serve,
        }
        handlers |= share_images(self._docker, self._mesh, lambda: self._replica.state, self._other_nodes)
        carrier = FactCarrier(self._mesh.connect, self._rng())
        self._membership.send_frame = carrier.send
        run_mesh = partial(
            self._mesh.run,
            handlers,
            config.gossip.host,
            mesh_port,
            stream_handlers={
                Purpose.RAFT: self._transport.serve,
                Purpose.API: self._api.serve_node,
                Purpose.TUNNEL: self._remote.serve,
            },
            join=self._trust.desk.serve,
            unreachable=self._replica.unreachable,
        )
        address = await nursery.start(run_mesh)
        gossip_port = config.gossip.port and config.gossip.port + config.port_offset
        await nursery.start(self._remote.run)
        await nursery.start(carrier.run)
        told = MeshAddress(config.gossip.advertise, address.port)
        gossip = await nursery.start(self._membership.run, gossip_port, told)
        self._node_addresses = NodeAddresses(
            mesh=join_host_port(config.gossip.advertise, address.port),
            gossip="" if self._membership.is_delegated else str(gossip),
        )
        cron = CronKeeper(self._clock, self._replica, lambda: self._beliefs.statuses, changed=self._wiring.decided)
        for keeper in (self._trust.keeper, self._secrets.keeper, self._certificates.keeper, self._keeper):
            nursery.start_soon(keeper.run)
        nursery.start_soon(self._recovery.run)
        nursery.start_soon(cron.run)
        nursery.start_soon(self._feed.follow)
        nursery.start_soon(self._singletons.run)
        nursery.start_soon(self._isolation.run)

    def _other_nodes(self) -> list[NodeId]:
        """The living nodes of this cluster, without this one."""
        seen = self._membership.sightings().values()
        alive = [one.node for one in seen if one.is_alive and one.node != self._identity.node]
        if alive or self._replica.state.nodes:
            return alive
        return [peer.node for peer in self._trust.started.own.peers]  # gossip knows nobody yet

    def _nodes_to_ask(self) -> list[NodeId]:
        """The living nodes; all others when gossip knows nobody: its key may have changed while this node was away."""
        return self._other_nodes() or [node for node in self._replica.state.nodes if node != self._identity.node]

    def _api_listen(self) -> ApiListen:
        config = self._config
        port = config.api_port and config.api_port + config.port_offset
        return ApiListen(
            host=config.api_host,
            port=port,
            socket_path=str(self._path / SOCKET_NAME),
            names=config.api.names,
            tls=self._trust.credentials.web_context if config.has_api_tls else None,
        )

    def _make_api(self, control: Control) -> Api:
        gate = Gate(
            control.tokens, self._clock.now, owner_uid=os.getuid(), trusts_loopback=self._config.trusts_loopback
        )
        self._notifier = make_notifier(
            self._identity.node,
            self._clock,
            self._rng(),
            self._replica,
            control,
            self._secrets.values,
            connect=self._reach,
            record=self._wiring.record,
            changed=self._wiring.decided,
        )
        series = SeriesStore(self._environment)
        self._figures = make_figures(
            self._identity,
            self._clock,
            self._path,
            series,
            self._environment,
            self._events,
            credentials=self._trust.credentials,
            replica=self._replica,
            control=control,
            proxy=self._proxy,
            connect=self._reach,
        )
        control.figures = FigureHistory(self._figures.recorder, series)
        return Api(control, gate, self._trail, connect=self._reach)

    def _reach(self, node: NodeId, subject: bytes) -> AbstractAsyncContextManager[trio.abc.Stream]:
        """The API of another node."""
        return self._mesh.connect_stream(node, Purpose.API, subject=subject)

    def _make_control(self) -> Control:
        control = Control(
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
            secrets=self._secrets.control,
            doctor=self._doctor,
            age_s=self._feed.age_s,
            builder=None if self._docker is None else SpooledBuilder(self._docker),
            describe_node=self._describe,
        )
        control.trust = self._trust.control(control.observation, lambda: self._node_addresses.mesh, self._stop.set)
        parts = (self._replica, self._beliefs, self._proxy, self._mesh, self._environment)
        control.metrics = metrics_of(control, self._identity.name, *parts)
        return control

    def _describe(self) -> NodeView:
        state = self._replica.state
        return NodeView(
            facts=self._wiring.facts(),
            is_leader=self._replica.is_leader,
            allocations=len(state.copies.of_node(self._identity.node)),
            started_at_ms=self._started_at_ms,
            api=self._api_url(),
            ingress=self._ingress,
            data_dir=str(self._path),
        )

    def _api_url(self) -> str:
        """Where it listens, empty when only its socket is there."""
        config = self._config
        listens = [api_url(*one[:2], config.gossip.advertise, is_tls=config.has_api_tls) for one in self._addresses.tcp]
        return listens[0] if listens else ""

    async def _introduce(self) -> None:
        """Found the cluster, or note what is new about this node; tried until the group takes it."""
        await self._trust.found(self._introduction())
        await introduce(self._replica, self._introduction)

    def _introduction(self) -> AdmitNode:
        return AdmitNode(
            node=self._identity.node,
            name=self._identity.name,
            addresses=self._node_addresses,
            schema=SCHEMA,
            release=VERSION,
            at_ms=self._clock.wall(),
        )

    async def _end_when_left(self) -> None:
        """A node that was told to leave the gossip (`serf leave`) ends with it, as a Serf agent does."""
        await self._membership.left.wait()
        _log.info("this node has left the gossip and ends; what runs in containers goes on")
        await trio.sleep(LEFT_LINGER_S)
        self._stop.set()
