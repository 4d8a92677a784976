"""The membership as the rest of the node has it, whoever keeps it."""

import math
import random
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
import trio

from gossip.codec import PacketCodec
from gossip.effects import Noted, NoteLevel
from gossip.facts import (
    FactLearned,
    FactRemoved,
    FrameReceived,
    Paused,
    PeerAppeared,
    PeerDeparted,
    Resumed,
    SendBulk,
    SendFacts,
    frame_sender,
)
from gossip.membership import EventReceived, KeyOperation, Member, MembersChanged, MembershipNews, MemberStatus
from gossip.membership import StatusChange as Change
from gossip.messages import Address
from gossip.serf import Left, NameLost, RotationEnded
from node.membership.backend import MembershipBackend, Sinks
from node.membership.chronicle import Chronicle, Record
from node.membership.embedded import EmbeddedGossip
from node.membership.facts import NODE_KEY, KnownFacts, fact_of, status_key
from node.membership.kept import KeptGossip
from node.membership.key_ledger import KeyLedger, record_key, sealing_key
from node.membership.pulses import PULSE_S, Pulses
from node.membership.ring import GossipRing, raw_key
from node.membership.sighting import Sighting
from node.membership.sightings import sightings
from node.membership.tags import CLUSTER_TAG, is_beside, mesh_of, node_of
from node.membership.views import key_report, removed_view, silent_view
from node.mesh.driver import MeshAddress
from node.mesh.frames import FrameStream
from node.store.environment import Environment
from node.store.identity import Identity
from orca.config import GossipBackend, GossipSection
from orca.errors import InvalidRequestError, NotAvailableError, OrcaError
from orca.model.allocation import AllocationStatus
from orca.model.ids import AllocationId, NodeId
from orca.model.node import NodeFacts
from orca.model.units import WallMs
from orca.model.view import GossipReply, KeyReport, MemberState, MemberView
from orca.sources import Clock

_log = structlog.get_logger("orca.gossip")
_LEVELS: Final = {NoteLevel.DEBUG: _log.debug, NoteLevel.INFO: _log.info, NoteLevel.WARNING: _log.warning}
_HERE: Final = (MemberStatus.ALIVE, MemberStatus.LEAVING)
SEED_RETRY_FIRST_S: Final = 0.5
SEED_RETRY_MAX_S: Final = 15.0
KEY_LISTING_S: Final = 60.0
PULSE: Final = b""
"""A frame that says nothing but that its sender lives."""


class Membership:
    """The place of this node in the gossip. `record` notes what happened to members.

    `seeds` are peers to find the gossip by, `belongs` says which nodes are of the cluster, `removed_at` since when
    one is not any more, and `address_of` where the mesh of one was last known to listen.

    `send_frame` brings a frame of facts, or a pulse, to another node of the
    cluster over the mesh, `key_ledger` brings new keys there; both are set by the agent, and so is `members_changed`,
    which is called when a node of the cluster came, went or changed. `left` is set when this node has left the gossip
    gracefully and for good.
    """

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
        removed_at: Callable[[NodeId], WallMs | None] = lambda _: None,
        address_of: Callable[[NodeId], MeshAddress | None] = lambda _: None,
    ) -> None:
        self.send_frame: Callable[[NodeId, bytes], None] = lambda _node, _frame: None
        self.key_ledger: KeyLedger | None = None
        self.left = trio.Event()
        self.members_changed: Callable[[], None] = lambda: None
        self._seeds = (*config.seeds, *seeds)
        self._belongs = belongs
        self._removed_at = removed_at
        self._address_of = address_of
        self._believed: frozenset[NodeId] = frozenset()
        self._identity = identity
        self._clock = clock
        self._known = known
        known.complain = _complain
        self._chronicle = Chronicle(record)
        self._pulses = Pulses(clock.now())
        self._is_beside = trio.Event()
        self._members: dict[NodeId, Member] = {}
        self._ids: dict[str, NodeId] = {}
        self._told: dict[str, bytes] = {}
        self._strange_frames = 0
        self.ring = GossipRing(config, KeptGossip(environment))
        sinks = Sinks(self._take, self._take_news)
        self._backend: MembershipBackend
        if config.backend is GossipBackend.SERF:
            from node.membership.delegated import DelegatedGossip

            self._backend = DelegatedGossip(
                config, identity, clock, random.Random(), zone=zone, chronicle=self._chronicle, sinks=sinks
            )
        else:
            self._backend = EmbeddedGossip(config, identity, clock, environment, self.ring, zone=zone, sinks=sinks)

    async def run(
        self,
        port: int,
        mesh: MeshAddress | None = None,
        *,
        task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Be a member until cancelled; `started` gives the address. Others are told where our mesh listens.

        Raises AddressInUseError, InvalidConfigError, StoreCorruptError.
        """
        self.ring.load()  # beside an agent too: who joins here is given the keys
        async with trio.open_nursery() as nursery:
            address = await nursery.start(self._backend.run, port, mesh)
            for key, value in self._told.items():
                self._backend.tell(fact_of(key, value))
            nursery.start_soon(self._beat)
            if self._seeds:
                nursery.start_soon(self._find_cluster)
            task_status.started(address)

    async def _find_cluster(self) -> None:
        """Join by the seeds until one of them answers; what was known before a restart is dialled anyway."""
        failures = 0
        while True:
            try:
                joined = await self._backend.cluster.join(self._seeds, is_replaying=True)
            except OrcaError as error:
                if not failures:
                    _log.warning("no peer answers yet; trying on", reasons=error.message)
            else:
                _log.info("found the cluster", answered=joined)
                return
            failures += 1
            longest = min(SEED_RETRY_MAX_S, SEED_RETRY_FIRST_S * math.pow(2, min(failures, 8)))
            await trio.sleep(random.uniform(longest / 2, longest))

    # -------------------------------------------------------------------------- news

    def _take(self, news: object) -> None:
        """News of facts and of gossip itself; must return at once."""
        match news:
            case FactLearned():
                if news.writer != self._identity.node:
                    self._known.learn(news, is_ours=self._is_ours(NodeId(news.writer)))
            case SendFacts(node=node, payload=payload) | SendBulk(node=node, payload=payload):
                if self._is_ours(NodeId(node)):
                    self.send_frame(NodeId(node), payload)
            case Noted(message=message, level=level):
                _LEVELS[level](message)
            case NameLost(owner=owner):
                self._chronicle.name_lost(owner)
            case Left():
                self.left.set()

    def _take_news(self, news: MembershipNews) -> None:
        match news:
            case MembersChanged(change=change, members=members):
                for member in members:
                    self._on_change(change, member)
            case EventReceived():
                self._chronicle.announced(news)

    def _on_change(self, change: Change, member: Member) -> None:
        node = node_of(member)
        if node == self._identity.node:
            return
        if self._is_succeeded(node, member):
            self._ids.pop(member.node, None)
            self._chronicle.changed(change, member)
            return
        before = self._ids.get(member.node)
        is_ours = node is not None and member.tags.get(CLUSTER_TAG) == self._identity.cluster
        if before is not None and (before != node or not is_ours or change is Change.REAPED):
            self._lose(before)
            del self._members[before], self._ids[member.node]
        if node is not None and is_ours and change is not Change.REAPED:
            self._members[node], self._ids[member.node] = member, node
            if member.status in _HERE:
                self._meet(node, member, is_new=before != node or change is Change.JOINED)
            else:
                self._lose(node)
        self._chronicle.changed(change, member)
        self.members_changed()

    def _is_succeeded(self, node: NodeId | None, member: Member) -> bool:
        """Whether the node lives as another member: it was moved to another backend, or its agent renamed."""
        known = None if node is None else self._members.get(node)
        if known is None or known.node == member.node:
            return False
        return known.status in _HERE and member.status not in _HERE

    def _meet(self, node: NodeId, member: Member, *, is_new: bool) -> None:
        """A node of ours is there: what it said before holds again."""
        if is_beside(member):
            self._pulses.expect(node, self._clock.now())
            self._is_beside.set()
        if is_new:
            self._recall(node)

    def _is_ours(self, node: NodeId) -> bool:
        """Whether it is a member and belongs to the cluster: who only says so in its tags is believed nothing."""
        return node in self._members and self._belongs(node)

    def nodes_changed(self) -> None:
        """Others belong to the cluster now: what who came said is believed, and what who went said is not."""
        if not self._backend.is_running:
            return
        believed = frozenset(node for node in self._members if self._is_ours(node))
        for node in sorted(believed - self._believed):
            self._recall(node)
        for node in sorted(self._members.keys() - believed):
            self._lose(node)
        self._believed = believed

    def _recall(self, node: NodeId) -> None:
        for fact in self._backend.facts.facts_of(str(node)):
            self._known.learn(
                FactLearned(writer=str(node), key=fact.key, version=fact.version, value=fact.value),
                is_ours=self._is_ours(node),
            )

    def _lose(self, node: NodeId) -> None:
        self._pulses.forget(node)
        self._known.depart(str(node))

    # ---------------------------------------------------------------- over the mesh

    async def serve_facts(self, peer: NodeId, frames: FrameStream) -> None:
        """Take in the facts and the pulses of `peer` until it ends the connection."""
        while payloads := await frames.receive_some():
            for payload in payloads:
                self._on_frame(peer, payload)

    def _on_frame(self, peer: NodeId, payload: bytes) -> None:
        member = self._members.get(peer)
        if self._pulses.hear(peer, self._clock.now()) and member is not None:
            self._backend.tell(PeerAppeared(node=str(peer), address=member.address))
            self._recall(peer)
            self._chronicle.heard(member)
        if payload == PULSE or member is None:
            return
        if frame_sender(payload) == peer:
            self._backend.tell(FrameReceived(payload=payload))
        else:
            self._strange_frames += 1

    async def _beat(self) -> None:
        """Say that we live where no gossip says so, and find those who do not say it any more."""
        while True:
            if not (self._backend.is_beside or self._pulses):
                self._is_beside = trio.Event()
                await self._is_beside.wait()
            for node in self._pulses.look(self._clock.now()):
                self._known.depart(str(node))
                self._backend.tell(PeerDeparted(node=str(node)))
                self._chronicle.silent(self._members[node])
            if self._backend.is_beside:
                for node, member in self._members.items():
                    if member.status is MemberStatus.ALIVE:
                        self.send_frame(node, PULSE)
            await trio.sleep(PULSE_S)

    # ------------------------------------------------------------------ what we tell

    def tell_node(self, facts: NodeFacts) -> None:
        """Everybody may know this of us; returns at once."""
        self._tell(NODE_KEY, msgspec.msgpack.encode(facts))

    def tell_status(self, status: AllocationStatus) -> None:
        """How a copy of ours is."""
        self._tell(status_key(status.allocation), msgspec.msgpack.encode(status))

    def drop_status(self, allocation: AllocationId) -> None:
        """The copy is gone."""
        key = status_key(allocation)
        if self._told.pop(key, None) is not None and self._backend.is_running:
            self._backend.tell(FactRemoved(key=key))

    def _tell(self, key: str, value: bytes) -> None:
        if self._told.get(key) == value:
            return
        self._told[key] = value
        if not self._backend.is_running:
            return
        try:
            self._backend.tell(fact_of(key, value))
        except OrcaError as error:
            _log.warning("a fact could not be told", key=key, reason=error.message)

    # --------------------------------------------------------------- for other parts

    @property
    def is_sealed(self) -> bool:
        """Whether gossip is encrypted, whoever keeps it."""
        return self._backend.is_running and self._backend.status().is_encrypted

    @property
    def is_delegated(self) -> bool:
        """Whether an agent keeps the membership: gossip is none of ours to ping then."""
        return self._backend.is_beside

    def mesh_address(self, node: NodeId) -> MeshAddress | None:
        """Where the mesh of `node` listens, by gossip or as it was last known; None when nobody knows."""
        member = self._members.get(node)
        told = None if member is None or not self._belongs(node) else mesh_of(member)
        return told or self._address_of(node)

    def codec(self) -> PacketCodec:
        """What opens and seals our packets now; for pings beside the protocol."""
        return PacketCodec(self.ring.codec_ring)

    def leave(self) -> None:
        """Tell the others that this node goes; returns at once."""
        self._backend.leave()

    def sightings(self) -> dict[NodeId, Sighting]:
        """The nodes of this cluster, as gossip has them."""
        if not self._backend.is_running:
            return {}
        found = sightings(self.members(), str(self._identity.cluster))
        return {node: sight for node, sight in found.items() if self._belongs(node)}

    # ------------------------------------------------------------------- for the API

    @property
    def health_score(self) -> int:
        """How slow this node takes itself to be; 0 is well."""
        return self._backend.health_score

    def members(self) -> tuple[MemberView, ...]:
        """All members by name, ourselves among them."""
        now = self._clock.now()
        views = []
        for view in self._backend.views():
            removed_at = None if view.id is None else self._removed_at(view.id)
            silent_since = None if view.id is None else self._pulses.silent_since(view.id)
            if removed_at is not None:
                view = removed_view(view, max(0, self._clock.wall() - removed_at))
            elif silent_since is not None:
                view = silent_view(view, silent_since, now)
            views.append(view)
        return tuple(sorted(views, key=lambda view: (view.name, view.address)))

    def describe(self, reply: Callable[..., GossipReply]) -> GossipReply:
        """How gossip is doing; `reply` adds who says so."""
        status, facts = self._backend.status(), self._backend.facts
        strange = {"mesh_frames_of_others": self._strange_frames} if self._strange_frames else {}
        return reply(
            address=status.address,
            profile=status.profile,
            is_encrypted=status.is_encrypted,
            is_paused=facts.is_paused,
            health_score=self._backend.health_score,
            fact_bytes=facts.held_bytes,
            counts=status.counts,
            drops={**status.drops, **strange},
            queues=status.queues,
            agent=status.agent,
            problem=status.problem,
            rpc=status.rpc,
        )

    def pause(self, *, is_paused: bool) -> None:
        """Stop or resume the exchange of facts; membership goes on."""
        self._backend.tell(Paused() if is_paused else Resumed())
        _log.warning("the exchange of facts is paused" if is_paused else "the exchange of facts goes on")

    async def send_event(self, name: str, payload: str) -> None:
        """Tell every member. Raises InvalidRequestError for one that is too long or has no name."""
        if not name:
            raise InvalidRequestError("an event needs a name")
        await self._backend.cluster.send_event(name, payload.encode())

    async def list_keys(self) -> KeyReport:
        """Which keys the members have. Raises NotAvailableError."""
        with trio.move_on_after(KEY_LISTING_S):
            return key_report(await self._backend.cluster.change_keys(KeyOperation.LIST))
        raise NotAvailableError(f"the members did not answer within {KEY_LISTING_S:g} s")

    async def rotate_keys(self, key: str, *, allow_absent: bool) -> tuple[tuple[KeyReport, ...], RotationEnded]:
        """Replace the keys of the cluster by `key`, or by a new one; one rotation at a time.

        All who gossip get it by queries about keys, agents too; nodes that are away or beside agents, over the mesh.
        Raises ConflictError while another runs, InvalidRequestError for a key that is none or when gossip
        is not encrypted, NotAvailableError when it takes too long.
        """
        new = raw_key(key)
        since = 0 if self.key_ledger is None else self.key_ledger.version
        reports, end = await self._backend.rotate(new, allow_absent=allow_absent)
        if end is None:
            raise NotAvailableError("the rotation was not over in time; see `orca gossip keys list`")
        if end.is_done and self.key_ledger is not None:
            end = await record_key(self.key_ledger, new, since, end)
        return tuple(reports), end

    async def show_key(self) -> str:
        """The key that seals, as base64, for an agent that is to come. Raises InvalidRequestError without one."""
        return await sealing_key(self._backend.cluster, self.ring, is_beside=self._backend.is_beside)

    def plain_agents(self) -> list[str]:
        """Members that are no nodes, and live."""
        return [view.name for view in self.members() if view.id is None and view.state is MemberState.ALIVE]


def _complain(fact: FactLearned, reason: str) -> None:
    _log.warning("a fact cannot be read", writer=fact.writer, key=fact.key, reason=reason)
