"""The gossip driver with what a node needs around it."""

import math
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
import trio

from gossip.codec import PacketCodec
from gossip.driver import GossipDriver, GossipSockets, open_sockets, resolve_seed
from gossip.effects import Noted, NoteLevel
from gossip.facts import FactLearned, FactRemoved, FactWritten, Paused, Resumed
from gossip.machine import Gossip, config_of
from gossip.messages import Address
from gossip.serf import (
    EventRequested,
    KeyCommandEnded,
    KeyCommandRequested,
    KeyOperation,
    KeyringChanged,
    LeaveRequested,
    NameLost,
    PersistPeers,
    RotationEnded,
    RotationProgressed,
    RotationRequested,
    SerfMember,
    StatusChange,
    StatusChanged,
    UserEventReceived,
)
from gossip.swim import PROFILES, JoinEnded, JoinRequested
from node.membership.facts import KnownFacts
from node.membership.kept import KeptGossip
from node.membership.ring import GossipRing, raw_key
from node.membership.sightings import Sighting, sightings
from node.membership.views import (
    CLUSTER_TAG,
    MESH_TAG,
    NAME_TAG,
    VERSION_TAG,
    ZONE_TAG,
    key_report,
    member_view,
    rotation_report,
)
from node.mesh.driver import MeshAddress
from node.store.environment import Environment
from node.store.identity import Identity
from orca.config import GOSSIP_PORT, GossipSection
from orca.errors import ConflictError, InvalidRequestError, NotAvailableError, OrcaError
from orca.model.allocation import AllocationStatus
from orca.model.event import EventKind, Severity
from orca.model.ids import AllocationId, NodeId
from orca.model.node import NodeFacts
from orca.model.view import GossipReply, KeyReport, MemberView
from orca.sources import Clock
from orca.version import VERSION

_log = structlog.get_logger("orca.gossip")
_LEVELS: Final = {NoteLevel.DEBUG: _log.debug, NoteLevel.INFO: _log.info, NoteLevel.WARNING: _log.warning}
SEED_RETRY_FIRST_S: Final = 0.5
SEED_RETRY_MAX_S: Final = 15.0
KEY_DEADLINE_S: Final = 60.0
_WORDS: Final = {
    StatusChange.JOINED: (EventKind.MEMBER_JOINED, Severity.INFO, "joined"),
    StatusChange.FAILED: (EventKind.MEMBER_FAILED, Severity.WARNING, "does not answer any more"),
    StatusChange.LEFT: (EventKind.MEMBER_LEFT, Severity.INFO, "left"),
}

Record = Callable[[EventKind, str, Severity], None]
"""Puts an event into the node's history; returns at once."""


class Membership:
    """The place of this node in the gossip. `record` notes what happened to members."""

    def __init__(  # noqa: PLR0913 - what gossip needs of a node
        self,
        config: GossipSection,
        identity: Identity,
        clock: Clock,
        environment: Environment,
        known: KnownFacts,
        record: Record,
        *,
        zone: str = "",
        seeds: tuple[str, ...] = (),
        belongs: Callable[[NodeId], bool] = lambda _: True,
        address_of: Callable[[NodeId], MeshAddress | None] = lambda _: None,
    ) -> None:
        self._config = config
        self._belongs = belongs
        self._address_of = address_of
        self._believed: frozenset[str] = frozenset()
        self._seeds = (*config.seeds, *seeds)
        self._identity = identity
        self._clock = clock
        self._kept = KeptGossip(environment)
        self._known = known
        self._record = record
        self._zone = zone
        self._mesh_port = 0
        self._driver: GossipDriver | None = None
        self.ring = GossipRing(config, self._kept)
        self._address = Address("", 0)
        self._handle = 0
        self._waiting: dict[int, tuple[trio.Event, list[Any]]] = {}
        self._rotation: tuple[trio.Event, list[KeyReport], list[RotationEnded]] | None = None
        self._peers_send, self._peers = trio.open_memory_channel[PersistPeers](1)
        self._told: dict[str, bytes] = {}

    async def run(
        self, port: int, mesh_port: int = 0, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Be a member until cancelled; `started` gives the address. Others are told where our mesh listens.

        Raises AddressInUseError, InvalidConfigError, StoreCorruptError.
        """
        self._mesh_port = mesh_port
        self.ring.load()
        sockets = await open_sockets(self._config.host, port)
        self._address = Address(self._config.advertise or sockets.address.host, sockets.address.port)
        machine = self._make_machine()
        driver = self._driver = GossipDriver(machine, self._clock, publish=self._publish)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._serve, driver, sockets)
            for key, value in self._told.items():
                driver.tell(self._fact(key, value))
            nursery.start_soon(self._keep_peers)
            if self._seeds:
                nursery.start_soon(self._find_cluster)
            task_status.started(self._address)

    async def _serve(self, driver: GossipDriver, sockets: GossipSockets, *, task_status: trio.TaskStatus[None]) -> None:
        await driver.run(sockets, task_status=task_status)

    def _make_machine(self) -> Gossip:
        tags = {
            VERSION_TAG: VERSION,
            NAME_TAG: self._identity.name[:64],
            CLUSTER_TAG: str(self._identity.cluster),
        }
        if self._mesh_port:
            tags[MESH_TAG] = str(self._mesh_port)
        if self._zone:
            tags[ZONE_TAG] = self._zone[:64]
        return Gossip(
            config_of(PROFILES[self._config.profile.value]),
            str(self._identity.node),
            self._address,
            tags,
            PacketCodec(self.ring.codec_ring),
            random.Random(),
            self._clock.now(),
            life=self._clock.wall(),
            saved=self._kept.peers(),
        )

    # ------------------------------------------------------------------- the cluster

    async def _find_cluster(self) -> None:
        """Join by the seeds until one of them answers; what was known before a restart is dialled anyway."""
        failures = 0
        while True:
            joined, reasons = await self._join_once()
            if joined:
                _log.info("found the cluster", answered=joined)
                return
            if not failures:
                _log.warning("no peer answers yet; trying on", reasons=reasons)
            failures += 1
            longest = min(SEED_RETRY_MAX_S, SEED_RETRY_FIRST_S * math.pow(2, min(failures, 8)))
            await trio.sleep(random.uniform(longest / 2, longest))

    async def _join_once(self) -> tuple[int, str]:
        addresses: list[Address] = []
        reasons: list[str] = []
        for seed in self._seeds:
            try:
                addresses += await resolve_seed(seed, GOSSIP_PORT)
            except OrcaError as error:
                reasons.append(error.message)
        if addresses:
            handle = self._next_handle()
            (end,) = await self._ask(handle, JoinRequested(handle=handle, addresses=tuple(addresses)), math.inf)
            if end.joined:
                return end.joined, ""
            reasons += [f"{address}: {why}" for address, why in end.failures]
        return 0, "; ".join(reasons)

    def _next_handle(self) -> int:
        self._handle += 1
        return self._handle

    async def _ask(self, handle: int, event: Any, deadline_s: float) -> list[Any]:
        """Tell the machine `event` and wait for the news with that handle; [] when none came in time."""
        done, found = self._waiting[handle] = (trio.Event(), [])
        try:
            self._running().tell(event)
            with trio.move_on_after(deadline_s):
                await done.wait()
        finally:
            del self._waiting[handle]
        return found

    def _running(self) -> GossipDriver:
        if self._driver is None:
            raise NotAvailableError("gossip does not run yet on this node")
        return self._driver

    def _machine(self) -> Gossip:
        machine = self._running().machine
        assert isinstance(machine, Gossip), "the driver runs the machine that was made here"
        return machine

    # -------------------------------------------------------------------------- news

    def _publish(self, news: object) -> None:
        """Take in what the machine tells; must return at once."""
        match news:
            case StatusChanged(change=change, members=members):
                for member in members:
                    self._on_status(change, member)
            case FactLearned():
                if news.writer != self._identity.node:
                    self._known.learn(news, is_ours=self._is_ours(news.writer))
            case UserEventReceived(name=name, payload=payload):
                words = payload.decode(errors="replace")[:200]
                self._record(EventKind.CLUSTER_EVENT, f"event {name}" + (f": {words}" if words else ""), Severity.INFO)
            case JoinEnded(handle=handle) | KeyCommandEnded(handle=handle):
                if handle in self._waiting:
                    done, found = self._waiting[handle]
                    found.append(news)
                    done.set()
            case Noted(message=message, level=level):
                _LEVELS[level](message)
            case _:
                self._on_upkeep(news)

    def _on_upkeep(self, news: object) -> None:
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
            case NameLost(owner=owner):
                message = (
                    f"another node at {owner} uses the id of this one; two nodes share a copy of one data directory"
                )
                self._record(EventKind.MEMBER_NAME_LOST, message, Severity.ERROR)

    def _on_status(self, change: StatusChange, member: SerfMember) -> None:
        if member.node == self._identity.node:
            return
        if change is StatusChange.JOINED:
            self._learn_all(member.node)
        elif change is not StatusChange.UPDATED:
            self._known.depart(member.node)
        words = _WORDS.get(change)
        if words is not None:
            kind, severity, verb = words
            name = member.tags.get(NAME_TAG, member.node)
            self._record(kind, f"{name} ({member.address}) {verb}", severity)

    def _learn_all(self, node: str) -> None:
        for fact in self._machine().facts.facts_of(node):
            learned = FactLearned(writer=node, key=fact.key, version=fact.version, value=fact.value)
            self._known.learn(learned, is_ours=self._is_ours(node))

    def _is_ours(self, node: str) -> bool:
        member = self._machine().serf.member(node)
        is_tagged = member is not None and member.tags.get(CLUSTER_TAG) == self._identity.cluster
        return is_tagged and self._belongs(NodeId(node))

    async def _keep_peers(self) -> None:
        async for peers in self._peers:
            try:
                await self._kept.keep_peers(peers)
            except OrcaError as error:
                _log.warning("the known peers could not be kept", reason=error.message)

    # ------------------------------------------------------------------ what we tell

    def tell_node(self, facts: NodeFacts) -> None:
        """Everybody may know this of us; returns at once."""
        self._tell("node", msgspec.msgpack.encode(facts))

    def tell_status(self, status: AllocationStatus) -> None:
        """How a copy of ours is."""
        self._tell(f"status/{status.allocation}", msgspec.msgpack.encode(status))

    def drop_status(self, allocation: AllocationId) -> None:
        """The copy is gone."""
        key = f"status/{allocation}"
        if self._told.pop(key, None) is not None and self._driver is not None:
            self._driver.tell(FactRemoved(key=key))

    def _tell(self, key: str, value: bytes) -> None:
        if self._told.get(key) == value:
            return
        self._told[key] = value
        if self._driver is None:
            return
        try:
            self._driver.tell(self._fact(key, value))
        except OrcaError as error:
            _log.warning("a fact could not be told", key=key, reason=error.message)

    @staticmethod
    def _fact(key: str, value: bytes) -> FactWritten:
        return FactWritten(key=key, value=value, ttl_s=KnownFacts.STATUS_TTL_S if key.startswith("status/") else None)

    # --------------------------------------------------------------- for other parts

    def mesh_address(self, node: NodeId) -> MeshAddress | None:
        """Where the mesh of `node` listens, by gossip or as it was last known; None when nobody knows."""
        member = None if self._driver is None else self._machine().serf.member(str(node))
        if member is None or not self._is_ours(str(node)):
            return self._address_of(node)
        port = member.tags.get(MESH_TAG, "")
        return MeshAddress(member.address.host, int(port)) if port.isdecimal() else self._address_of(node)

    def sightings(self) -> dict[NodeId, Sighting]:
        """The nodes of this cluster, as gossip has them."""
        if self._driver is None:
            return {}
        found = sightings(self.members(), str(self._identity.cluster))
        return {node: sight for node, sight in found.items() if self._belongs(node)}

    def nodes_changed(self) -> None:
        """Others belong to the cluster now: what who came said is believed, and what who went said is not."""
        if self._driver is None:
            return
        machine = self._machine()
        believed = frozenset(one.node for one in machine.serf.members() if self._is_ours(one.node))
        for node in sorted(believed - self._believed - {str(self._identity.node)}):
            self._learn_all(node)
        for node in sorted(self._believed - believed):
            self._known.depart(node)
        self._believed = believed

    def leave(self) -> None:
        """Tell the others that this node goes; returns at once."""
        if self._driver is not None:
            self._driver.tell(LeaveRequested())

    # ------------------------------------------------------------------- for the API

    @property
    def health_score(self) -> int:
        """How slow this node takes itself to be; 0 is well."""
        return self._machine().swim.awareness_score

    def members(self) -> tuple[MemberView, ...]:
        """All members by name, ourselves among them."""
        machine, now = self._machine(), self._clock.now()
        views = [
            member_view(member, machine.swim.member(member.node), str(self._identity.node), now)
            for member in machine.serf.members()
        ]
        return tuple(sorted(views, key=lambda view: (view.name, view.address)))

    def describe(self, reply: Callable[..., GossipReply]) -> GossipReply:
        """How gossip is doing; `reply` adds who says so."""
        driver, machine = self._running(), self._machine()
        traffic = {
            "datagrams_sent": driver.datagrams_sent,
            "datagrams_received": driver.datagrams_received,
            "bytes_sent": driver.bytes_sent,
            "bytes_received": driver.bytes_received,
        }
        return reply(
            address=str(self._address),
            profile=self._config.profile.value,
            is_encrypted=bool(self.ring.keys),
            is_paused=machine.facts.is_paused,
            health_score=machine.swim.awareness_score,
            fact_bytes=machine.facts.held_bytes,
            counts=dict(sorted({**machine.swim.counts, **traffic}.items())),
            drops=machine.drops,
            queues=machine.serf.queue_depths,
        )

    def pause(self, *, is_paused: bool) -> None:
        """Stop or resume the exchange of facts; membership goes on."""
        self._running().tell(Paused() if is_paused else Resumed())
        _log.warning("the exchange of facts is paused" if is_paused else "the exchange of facts goes on")

    def send_event(self, name: str, payload: str) -> None:
        """Tell every member. Raises InvalidRequestError for one that is too long or has no name."""
        if not name:
            raise InvalidRequestError("an event needs a name")
        self._running().tell(EventRequested(name=name, payload=payload.encode()))

    async def list_keys(self) -> KeyReport:
        """Which keys the members have. Raises NotAvailableError."""
        handle = self._next_handle()
        request = KeyCommandRequested(handle=handle, operation=KeyOperation.LIST)
        found = await self._ask(handle, request, KEY_DEADLINE_S)
        if not found:
            raise NotAvailableError(f"the members did not answer within {KEY_DEADLINE_S:g} s")
        return key_report(found[0].report)

    async def rotate_keys(self, key: str, *, allow_absent: bool) -> tuple[tuple[KeyReport, ...], RotationEnded]:
        """Replace the keys of the cluster by `key`, or by a new one; one rotation at a time.

        Raises ConflictError while another runs, InvalidRequestError for a key that is none or
        when gossip is not encrypted, NotAvailableError when it takes too long.
        """
        if self._rotation is not None:
            raise ConflictError("a rotation of the gossip keys runs already on this node")
        if not self.ring.keys:
            raise InvalidRequestError(
                "gossip is not sealed here, so there is no key to rotate",
                hint="gossip.encrypt is off in this node's settings",
            )
        done, reports, ends = self._rotation = (trio.Event(), [], [])
        try:
            self._running().tell(RotationRequested(key=raw_key(key), allows_absent=allow_absent))
            with trio.move_on_after(KEY_DEADLINE_S):
                await done.wait()
        finally:
            self._rotation = None
        if not ends:
            raise NotAvailableError(
                f"the rotation was not over after {KEY_DEADLINE_S:g} s; see `orca gossip keys list`"
            )
        return tuple(reports), ends[0]
