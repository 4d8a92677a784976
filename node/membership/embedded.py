"""The node's own gossip: the driver, its machine, what it keeps over a restart, and Serf's RPC port on top."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import structlog
import trio

from gossip.codec import PacketCodec
from gossip.driver import GossipDriver, open_sockets
from gossip.facts import Facts, FactsEvent
from gossip.machine import Gossip, config_of
from gossip.messages import Address
from gossip.rpc.embedded import GossipMembership
from gossip.serf import (
    KeyringChanged,
    LeaveRequested,
    PersistPeers,
    RotationEnded,
    RotationProgressed,
    RotationRequested,
)
from gossip.swim import PROFILES
from node.membership.backend import GossipStatus, Sinks
from node.membership.kept import KeptGossip
from node.membership.ring import GossipRing
from node.membership.tags import OWN_TAGS, own_tags
from node.membership.views import member_view, rotation_report
from node.mesh.driver import MeshAddress
from node.store.environment import Environment
from node.store.identity import Identity
from orca.config import GossipSection
from orca.errors import ConflictError, InvalidRequestError, NotAvailableError, OrcaError
from orca.model.view import KeyReport, MemberView
from orca.sources import Clock
from orca.version import VERSION

if TYPE_CHECKING:
    from gossip.rpc.server import RpcServer

_log = structlog.get_logger("orca.gossip")
KEY_DEADLINE_S: Final = 60.0


class EmbeddedGossip:
    """Keeps the membership by gossip of our own. It is a `MembershipBackend`."""

    is_beside = False

    def __init__(
        self,
        config: GossipSection,
        identity: Identity,
        clock: Clock,
        environment: Environment,
        ring: GossipRing,
        *,
        zone: str,
        sinks: Sinks,
    ) -> None:
        self._config = config
        self._identity = identity
        self._clock = clock
        self._kept = KeptGossip(environment)
        self._ring = ring
        self._zone = zone
        self._sinks = sinks
        self._driver: GossipDriver | None = None
        self._cluster: GossipMembership | None = None
        self._address = Address("", 0)
        self._rpc_address: Address | None = None
        self._rotation: tuple[trio.Event, list[KeyReport], list[RotationEnded]] | None = None
        self._peers_send, self._peers = trio.open_memory_channel[PersistPeers](1)

    async def run(
        self, port: int, mesh: MeshAddress | None, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Gossip until cancelled. Raises AddressInUseError, InvalidConfigError, StoreCorruptError."""
        sockets = await open_sockets(self._config.host, port)
        self._address = Address(self._config.advertise or sockets.address.host, sockets.address.port)
        machine = self._make_machine(mesh)
        driver = GossipDriver(machine, self._clock, publish=self._take)
        self._cluster = GossipMembership(
            machine, driver.tell, version=VERSION, is_encrypted=self._is_encrypted, reserved_tags=OWN_TAGS
        )
        self._cluster.subscribe(self._sinks.take_news)
        self._driver = driver
        async with trio.open_nursery() as nursery:
            await nursery.start(driver.run, sockets)
            nursery.start_soon(self._keep_peers)
            if self._config.rpc.key:
                self._rpc_address = await nursery.start(self._make_rpc(self._cluster).run)
                _log.info("Serf's RPC is served", address=str(self._rpc_address))
            task_status.started(self._address)

    def _make_machine(self, mesh: MeshAddress | None) -> Gossip:
        tags = own_tags(
            name=self._identity.name, cluster=self._identity.cluster, zone=self._zone, mesh=mesh, at=self._address.host
        )
        return Gossip(
            config_of(PROFILES[self._config.profile.value]),
            str(self._identity.node),
            self._address,
            tags,
            PacketCodec(self._ring.codec_ring),
            random.Random(),
            self._clock.now(),
            life=self._clock.wall(),
            saved=self._kept.peers(),
        )

    def _make_rpc(self, cluster: GossipMembership) -> "RpcServer":
        from gossip.rpc.server import RpcServer

        rpc = self._config.rpc
        return RpcServer(cluster, auth_key=rpc.key, host=rpc.host, port=rpc.port)

    # -------------------------------------------------------------------------- reads

    @property
    def is_running(self) -> bool:
        """Whether it can be asked."""
        return self._driver is not None

    @property
    def cluster(self) -> GossipMembership:
        """The members, and what they can be asked. Raises NotAvailableError before `run` has started."""
        if self._cluster is None:
            raise NotAvailableError("gossip does not run yet on this node")
        return self._cluster

    @property
    def facts(self) -> Facts:
        """What nodes say of themselves."""
        return self._machine.facts

    @property
    def _running(self) -> GossipDriver:
        if self._driver is None:
            raise NotAvailableError("gossip does not run yet on this node")
        return self._driver

    @property
    def _machine(self) -> Gossip:
        machine = self._running.machine
        assert isinstance(machine, Gossip), "the driver runs the machine that was made here"
        return machine

    @property
    def health_score(self) -> int:
        """How slow this node takes itself to be; 0 is well."""
        return self._machine.swim.awareness_score

    def views(self) -> list[MemberView]:
        """All members, in no order."""
        machine, now = self._machine, self._clock.now()
        return [
            member_view(member, machine.swim.member(member.node), str(self._identity.node), now)
            for member in machine.serf.members()
        ]

    def status(self) -> GossipStatus:
        """How gossip is doing."""
        driver, machine = self._running, self._machine
        traffic = {
            "datagrams_sent": driver.datagrams_sent,
            "datagrams_received": driver.datagrams_received,
            "bytes_sent": driver.bytes_sent,
            "bytes_received": driver.bytes_received,
        }
        return GossipStatus(
            address=str(self._address),
            profile=self._config.profile.value,
            is_encrypted=self._is_encrypted,
            counts=dict(sorted({**machine.swim.counts, **traffic}.items())),
            drops=machine.drops,
            queues=machine.serf.queue_depths,
            rpc="" if self._rpc_address is None else str(self._rpc_address),
        )

    @property
    def _is_encrypted(self) -> bool:
        return bool(self._ring.keys)

    # --------------------------------------------------------------------------- news

    def _take(self, news: object) -> None:
        """Take in what the machine tells; must return at once."""
        match news:
            case PersistPeers():
                while True:  # the newest replaces what the disk has not taken yet
                    try:
                        self._peers_send.send_nowait(news)
                    except trio.WouldBlock:
                        self._peers.receive_nowait()
                    else:
                        return
            case KeyringChanged(keys=keys):
                self._kept.keep_keys(keys)
            case RotationProgressed():
                if self._rotation is not None:
                    self._rotation[1].append(rotation_report(news))
            case RotationEnded():
                if self._rotation is not None:
                    self._rotation[2].append(news)
                    self._rotation[0].set()
            case _:
                self.cluster.take(news)
                self._sinks.publish(news)

    async def _keep_peers(self) -> None:
        async for peers in self._peers:
            try:
                await self._kept.keep_peers(peers)
            except OrcaError as error:
                _log.warning("the known peers could not be kept", reason=error.message)

    # -------------------------------------------------------------------------- orders

    def tell(self, event: FactsEvent) -> None:
        """Something about facts; returns at once."""
        self._running.tell(event)

    def leave(self) -> None:
        """Tell the others that this node goes; returns at once."""
        if self._driver is not None:
            self._driver.tell(LeaveRequested())

    async def rotate(self, key: bytes, *, allow_absent: bool) -> tuple[Sequence[KeyReport], RotationEnded | None]:
        """Replace the keys of the cluster; one rotation at a time.

        Raises ConflictError while another runs, InvalidRequestError when gossip is not encrypted
        or members are absent.
        """
        if self._rotation is not None:
            raise ConflictError("a rotation of the gossip keys runs already on this node")
        if not self._is_encrypted:
            raise InvalidRequestError(
                "gossip is not sealed here, so there is no key to rotate",
                hint="gossip.encrypt is off in this node's settings",
            )
        done, reports, ends = self._rotation = (trio.Event(), [], [])
        try:
            self._running.tell(RotationRequested(key=key, allows_absent=allow_absent))
            with trio.move_on_after(KEY_DEADLINE_S):
                await done.wait()
        finally:
            self._rotation = None
        return reports, ends[0] if ends else None
