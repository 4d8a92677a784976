"""What the parts of the SWIM machine share: tables, timers, counters, the outbox, and sending."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from gossip.codec.frames import encode_message
from gossip.effects import Noted, NoteLevel
from gossip.messages import Address, Alive, Claim, PacketMessage, StreamMessage
from gossip.swim.config import SwimConfig
from gossip.swim.delegate import Delegate
from gossip.swim.effects import ChangeKind, MemberChanged, OpenStream, SendPacket, SwimEffect
from gossip.swim.members import Member, MemberState, MemberTable
from gossip.swim.timers import Timers
from gossip.transmit_queue import TransmitQueue, transmit_limit
from orca.model.units import Instant
from orca.sources import Rng

CRC_PROTOCOL: Final = 5
COMPOUND_HEAD_BYTES: Final = 2
PART_BYTES: Final = 2
CRC_BYTES: Final = 5
PARTS_MAX: Final = 255
SEQUENCES: Final = 1 << 32


class Awareness:
    """How slow this member takes itself to be (Lifeguard, local health multiplier): 0 is well."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.score = 0

    def add(self, delta: int) -> None:
        """Better (below 0) or worse, within bounds."""
        self.score = min(max(0, self.score + delta), self._maximum - 1)

    def stretch(self, seconds: float) -> float:
        """What `seconds` are to a member as slow as this one."""
        return seconds * (self.score + 1)


class Core:
    """Shared by claims, probing and exchanges; holds no rule of the protocol but how to send."""

    def __init__(
        self,
        config: SwimConfig,
        node: str,
        address: Address,
        rng: Rng,
        delegate: Delegate,
        *,
        incarnation: int,
        codec_overhead_bytes: int,
    ) -> None:
        self.config = config
        self.node = node
        self.address = address
        self.rng = rng
        self.delegate = delegate
        self.members = MemberTable(rng)
        self.timers = Timers()
        self.awareness = Awareness(config.awareness_max)
        self.counts: Counter[str] = Counter()
        self.is_leaving = False
        self.incarnation = incarnation
        self.effects: list[SwimEffect] = []
        self._room = config.packet_bytes_max - codec_overhead_bytes - CRC_BYTES - COMPOUND_HEAD_BYTES
        self._claims = TransmitQueue(payload_bytes_max=self._room - PART_BYTES)
        self._sequence = int(rng.random() * SEQUENCES)
        self._exchange = 0
        self._acks = 0

    # ------------------------------------------------------------------- effects

    def emit(self, effect: SwimEffect) -> None:
        """Have it done after what was emitted before."""
        self.effects.append(effect)

    def drain(self) -> list[SwimEffect]:
        """Everything that was emitted since the last drain."""
        effects, self.effects = self.effects, []
        return effects

    def note(self, message: str, level: NoteLevel = NoteLevel.INFO) -> None:
        """Tell whoever reads the log."""
        self.emit(Noted(message=message, level=level))

    def changed(self, kind: ChangeKind, member: Member) -> None:
        """Tell what is believed of `member` now."""
        self.emit(MemberChanged(kind=kind, member=member.view()))

    def next_sequence(self) -> int:
        """A number for a ping."""
        self._sequence = (self._sequence + 1) % SEQUENCES
        return self._sequence

    def next_exchange(self) -> int:
        """A number for a stream that we open."""
        self._exchange += 1
        return self._exchange

    # ------------------------------------------------------------------- sending

    def send(self, to: Address, messages: Sequence[PacketMessage], *, with_news: bool = True) -> None:
        """One packet to somebody known by address only, with as much news as fits."""
        self._send(to, [encode_message(message) for message in messages], has_crc=False, with_news=with_news)

    def send_to(self, member: Member, messages: Sequence[PacketMessage], *, with_news: bool = True) -> None:
        """One packet to a member, whose protocol is known."""
        frames = [encode_message(message) for message in messages]
        self._send(member.address, frames, has_crc=member.protocol_max >= CRC_PROTOCOL, with_news=with_news)

    def has_news(self) -> bool:
        """Whether there is anything to spread."""
        return len(self._claims) > 0 or self.delegate.has_broadcasts()

    def send_news(self, member: Member) -> bool:
        """A packet of news alone; False when there is none."""
        frames = self._news(self._room)
        if not frames:
            return False
        self._emit_packet(member.address, frames, has_crc=member.protocol_max >= CRC_PROTOCOL)
        return True

    def fits_packet(self, frame_bytes: int) -> bool:
        """Whether one message of that size can travel in a packet."""
        return frame_bytes <= self._room - PART_BYTES

    def _send(self, to: Address, frames: list[bytes], *, has_crc: bool, with_news: bool) -> None:
        if with_news:
            frames += self._news(self._room - sum(PART_BYTES + len(frame) for frame in frames))
        self._emit_packet(to, frames, has_crc=has_crc)

    def _emit_packet(self, to: Address, frames: list[bytes], *, has_crc: bool) -> None:
        self.counts["packets_sent"] += 1
        self.emit(SendPacket(to=to, frames=tuple(frames), has_crc=has_crc))

    def _news(self, room_bytes: int) -> list[bytes]:
        """Claims first, then what the layer above has to say."""
        frames: list[bytes] = []
        if len(self._claims):
            limit = transmit_limit(self.config.retransmit_multiplier, len(self.members))
            frames = self._claims.take(PART_BYTES, room_bytes, limit)[:PARTS_MAX]
            room_bytes -= sum(PART_BYTES + len(frame) for frame in frames)
        if room_bytes > PART_BYTES + 1 and len(frames) < PARTS_MAX - 1 and self.delegate.has_broadcasts():
            payloads = self.delegate.broadcasts(PART_BYTES, room_bytes)
            frames += [b"\x08" + payload for payload in payloads[: PARTS_MAX - 1 - len(frames)]]
        return frames

    def broadcast(self, claim: Claim, on_done: Callable[[], None] | None = None) -> None:
        """Spread a claim; a newer one about the same member replaces it."""
        if not self._claims.put(claim.node, encode_message(claim), on_done):
            self.counts["claims_too_large"] += 1

    @property
    def queued_claims(self) -> int:
        """How many claims are being spread."""
        return len(self._claims)

    def ack_payload(self) -> bytes:
        """What the layer above wants to say in this ack."""
        self._acks += 1
        return self.delegate.ack_payload() if self._acks % self.config.coordinate_every == 0 else b""

    def open_stream(
        self, to: Address, message: StreamMessage, *, timeout_s: float | None = None, wants_reply: bool = True
    ) -> int:
        """Start an exchange; its number comes back with the answer."""
        exchange = self.next_exchange()
        wait_s = self.config.stream_timeout_s if timeout_s is None else timeout_s
        self.emit(OpenStream(exchange=exchange, to=to, message=message, timeout_s=wait_s, wants_reply=wants_reply))
        return exchange

    # -------------------------------------------------------------------- ourselves

    def own_claim(self) -> Alive:
        """What we say of ourselves."""
        return Alive(incarnation=self.incarnation, node=self.node, address=self.address, meta=self.delegate.meta())

    def is_other(self, member: Member) -> bool:
        """Whether it is not ourselves."""
        return member.node != self.node

    def is_probe_target(self, member: Member) -> bool:
        """Whether it is probed."""
        return member.node != self.node and member.is_up

    def is_alive_other(self, member: Member) -> bool:
        """Whether it is somebody else, and not suspected."""
        return member.node != self.node and member.state is MemberState.ALIVE

    def heard(self, node: str, source: Address, now: Instant) -> None:
        """A packet came that `node` sent itself."""
        member = self.members.get(node)
        if member is not None and member.address == source:
            member.heard_at = now
