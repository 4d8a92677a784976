"""One member: SWIM, Serf and facts under one codec. Bytes in, bytes and news out.

Pure, and the only class that driver and simulator run. SWIM has one delegate, this
module's, which gives everything to Serf but user messages that begin with the byte of
facts. What Serf and facts want sent goes back through SWIM, so that every packet carries
news. Effects are translated in the order in which they arise; those that are no IO are
the machine's news to the node, as they come from `gossip.swim`, `gossip.serf` and `gossip.facts`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gossip import effects as io
from gossip.codec.packets import PacketCodec
from gossip.codec.streams import StreamReader, encode_stream
from gossip.events import DatagramReceived, DropCounted, StallNoticed, StreamFailed, StreamReceived, StreamReplied, Tick
from gossip.facts import (
    FRAME_TYPE,
    FactRemoved,
    Facts,
    FactsConfig,
    FactsEvent,
    FactWritten,
    FrameReceived,
    Paused,
    PeerAppeared,
    PeerDeparted,
    Resumed,
    SendBulk,
    SendFacts,
)
from gossip.messages import MEMBERLIST_VERSION, Address
from gossip.serf import (
    ChangeMeta,
    LeaveSwim,
    MemberStatus,
    PersistPeers,
    Rejoin,
    SendUser,
    Serf,
    SerfConfig,
    SerfEffect,
    SerfMember,
    StatusChanged,
    SwimLeft,
)
from gossip.serf import JoinEnded as SerfJoinEnded
from gossip.serf.events import JoinStarted, SerfEvent
from gossip.serf.queries import Identity
from gossip.swim import (
    LAN,
    JoinEnded,
    JoinRequested,
    LeaveEnded,
    LeaveRequested,
    MetaChanged,
    OpenStream,
    PacketReceived,
    ReplyStream,
    SendPacket,
    Swim,
    SwimConfig,
    SwimEffect,
    SwimEvent,
    UserSent,
)
from orca.model.units import Instant
from orca.sources import Rng

ORCA_TAG: Final = "orca"
"""Members with this tag speak facts; its value is their release."""
_IO_EVENTS: Final = (StreamReceived, StreamReplied, StreamFailed, StallNoticed)
_FACTS_EVENTS: Final = (FactWritten, FactRemoved, Paused, Resumed)


class GossipConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the three layers behave."""

    swim: SwimConfig = LAN
    serf: SerfConfig = SerfConfig()
    facts: FactsConfig = FactsConfig()


def config_of(swim: SwimConfig) -> GossipConfig:
    """The configuration of all layers that goes with a profile of SWIM."""
    serf = SerfConfig(retransmit_multiplier=swim.retransmit_multiplier, gossip_interval_s=swim.gossip_interval_s)
    return GossipConfig(swim=swim, serf=serf)


class Gossip:
    """A member of the cluster.

    `tags` with `ORCA_TAG` among them let it exchange facts. `life`: a number above that of every
    earlier life of this node, for example its start time in milliseconds. `saved`: what the
    last `PersistPeers` before a restart held.
    """

    def __init__(  # noqa: PLR0913 - all that a member is made of
        self,
        config: GossipConfig,
        node: str,
        address: Address,
        tags: Mapping[str, str],
        codec: PacketCodec,
        rng: Rng,
        now: Instant,
        *,
        life: int = 1,
        saved: PersistPeers | None = None,
    ) -> None:
        self._codec = codec
        self._drops: Counter[str] = Counter()
        own = Identity(node=node, address=address, version=MEMBERLIST_VERSION, tags=dict(tags))
        self.serf = Serf(config.serf, own, rng, now, keyring=codec.keyring, saved=saved)
        self.facts = Facts(config.facts, node, life, rng, now)
        self._delegate = _Delegate(self.serf)
        self.swim = Swim(
            config.swim, node, address, rng, self._delegate, now, codec_overhead_bytes=codec.overhead_bytes
        )
        self._rejoins = 0
        self._has_ticked = False
        self._speakers: dict[str, Address] = {}

    # ---------------------------------------------------------------------------- reads

    def stream_input(self) -> StreamReader:
        """For one incoming stream or answer."""
        return StreamReader(self._codec)

    def deadline(self) -> Instant:
        """When the machine next wants a Tick."""
        return min(self.swim.deadline(), self.serf.deadline(), self.facts.deadline())

    @property
    def drops(self) -> dict[str, int]:
        """What came in and was not taken in, by layer and cause."""
        found = {f"codec_{cause}": count for cause, count in self._drops.items()}
        found |= {f"serf_{cause}": count for cause, count in self.serf.drops.items()}
        found |= {f"facts_{cause}": count for cause, count in self.facts.drops.items()}
        return dict(sorted(found.items()))

    # ---------------------------------------------------------------------------- steps

    def step(self, event: Any, now: Instant) -> list[Any]:
        """What to do about `event`, in order: IO effects and news.

        Takes the events of `gossip.events`, the requests of `gossip.serf` and `gossip.facts`, and
        `JoinRequested`. Requests that cannot be done raise errors of `orca.errors`; nothing changed then.
        """
        out: list[Any] = []
        match event:
            case DatagramReceived(source=source, data=data):
                messages, drops = self._codec.unpack(data)
                self._drops.update(drops)
                if messages:
                    self._swim(PacketReceived(source=source, messages=tuple(messages)), now, out)
            case DropCounted(cause=cause):
                self._drops[cause] += 1
            case Tick():
                self._on_tick(event, now, out)
            case JoinRequested():
                self._serf(JoinStarted(), now, out)
                self._swim(event, now, out)
            case _ if isinstance(event, _IO_EVENTS):
                self._swim(event, now, out)
            case _ if isinstance(event, _FACTS_EVENTS):
                self._facts(event, now, out)
            case _:
                self._serf(event, now, out)
        return out

    def _on_tick(self, event: Tick, now: Instant, out: list[Any]) -> None:
        """Only those that are due: most ticks are SWIM's alone, and they are most of what an idle node does.

        The first one gives the news of the beginning, too.
        """
        if self.swim.deadline() <= now or not self._has_ticked:
            self._has_ticked = True
            self._swim(event, now, out)
        if self.serf.deadline() <= now:
            self._serf(event, now, out)
        if self.facts.deadline() <= now:
            self._facts(event, now, out)

    def _swim(self, event: SwimEvent, now: Instant, out: list[Any]) -> None:
        effects = self.swim.step(event, now)
        # What the delegate was told came before what SWIM wants sent: news of a member stands before packets to it.
        self._settle(self.serf.drain(), now, out)
        for effect in effects:
            self._translate(effect, now, out)
        for payload in self._delegate.take_frames():
            self._facts(FrameReceived(payload=payload), now, out)

    def _serf(self, event: SerfEvent, now: Instant, out: list[Any]) -> None:
        self._settle(self.serf.step(event, now), now, out)

    def _facts(self, event: FactsEvent, now: Instant, out: list[Any]) -> None:
        for effect in self.facts.step(event, now):
            match effect:
                case SendFacts(to=to, payload=payload) | SendBulk(to=to, payload=payload):
                    self._swim(UserSent(to=to, payload=payload), now, out)
                case _:
                    out.append(effect)

    def _settle(self, effects: list[SerfEffect], now: Instant, out: list[Any]) -> None:
        for effect in effects:
            match effect:
                case SendUser(to=to, payload=payload):
                    self._swim(UserSent(to=to, payload=payload), now, out)
                case Rejoin(address=address):
                    self._rejoins += 1
                    self._swim(JoinRequested(handle=-self._rejoins, addresses=(address,)), now, out)
                case ChangeMeta():
                    self._swim(MetaChanged(), now, out)
                case LeaveSwim():
                    self._swim(LeaveRequested(), now, out)
                case StatusChanged(members=members):
                    out.append(effect)
                    for member in members:
                        self._know_speaker(member, now, out)
                case _:
                    out.append(effect)

    def _translate(self, effect: SwimEffect, now: Instant, out: list[Any]) -> None:
        match effect:
            case SendPacket(to=to, frames=frames, has_crc=has_crc):
                out.append(io.SendDatagram(to=to, data=self._codec.pack(frames, has_crc=has_crc)))
            case OpenStream():
                out.append(
                    io.OpenStream(
                        exchange=effect.exchange,
                        to=effect.to,
                        data=encode_stream(effect.message, self._codec),
                        timeout_s=effect.timeout_s,
                        wants_reply=effect.wants_reply,
                    )
                )
            case ReplyStream(stream=stream, message=message):
                data = b"" if message is None else encode_stream(message, self._codec)
                out.append(io.ReplyStream(stream=stream, data=data))
            case LeaveEnded():
                self._serf(SwimLeft(), now, out)
            case JoinEnded(handle=handle, joined=joined):
                if handle >= 0:
                    out.append(effect)
                    self._serf(SerfJoinEnded(joined=joined), now, out)
            case _:
                out.append(effect)

    def _know_speaker(self, member: SerfMember, now: Instant, out: list[Any]) -> None:
        """Tell the facts whom to exchange with: living members with our tag."""
        if member.node == self.swim.node:
            return
        is_here = member.status is MemberStatus.ALIVE or member.status is MemberStatus.LEAVING
        known = self._speakers.get(member.node)
        if is_here and ORCA_TAG in member.tags:
            if known != member.address:
                self._speakers[member.node] = member.address
                self._facts(PeerAppeared(node=member.node, address=member.address), now, out)
        elif known is not None:
            del self._speakers[member.node]
            self._facts(PeerDeparted(node=member.node), now, out)

    def check_invariants(self) -> None:
        """What always holds between two steps."""
        self.swim.check_invariants()
        self.serf.check_invariants()
        self.facts.check_invariants()


class _Delegate:
    """SWIM's delegate: Serf, and a box for the frames of facts until SWIM's step is over."""

    def __init__(self, serf: Serf) -> None:
        self._serf = serf
        self._frames: list[bytes] = []
        self.meta = serf.meta
        self.ack_payload = serf.ack_payload
        self.has_broadcasts = serf.has_broadcasts
        self.broadcasts = serf.broadcasts
        self.local_state = serf.local_state
        self.merge_state = serf.merge_state
        self.acked = serf.acked
        self.member_joined = serf.member_joined
        self.member_updated = serf.member_updated
        self.member_left = serf.member_left
        self.name_conflict = serf.name_conflict

    def user_message(self, payload: bytes, source: Address, now: Instant) -> None:
        """Facts wait in the box, everything else is Serf's."""
        if payload[:1] == bytes((FRAME_TYPE,)):
            self._frames.append(payload)
        else:
            self._serf.user_message(payload, source, now)

    def take_frames(self) -> list[bytes]:
        """What is in the box."""
        frames, self._frames = self._frames, []
        return frames
