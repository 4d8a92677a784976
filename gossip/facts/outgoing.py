"""Messages into frames: a few packets when that is enough, else one stream."""

from collections.abc import Iterable, Sequence

import msgspec

from gossip.facts.config import FactsConfig
from gossip.facts.effects import FactsEffect, SendBulk, SendFacts
from gossip.facts.frames import (
    MESSAGES_MAX,
    Delta,
    Digest,
    FactMessage,
    Item,
    Reach,
    encode_frame,
    encode_message,
    frame_overhead_bytes,
)
from gossip.facts.writer import WriterState
from gossip.messages import Address
from orca.model.units import Instant

_DELTA_EXTRA_BYTES = 48
"""What a delta costs beside writer and items: tag, five numbers, headers."""


class Outgoing:
    """Knows how much fits where, and how soon a peer may get another stream."""

    def __init__(self, own: str, config: FactsConfig) -> None:
        self._own = own
        self._config = config
        self._overhead_bytes = frame_overhead_bytes(own)
        self._bulk_at: dict[str, Instant] = {}

    @property
    def packet_room_bytes(self) -> int:
        """What the messages of one packet may take."""
        return self._config.packet_bytes_max - self._overhead_bytes

    def forget(self, node: str) -> None:
        """A peer is gone."""
        self._bulk_at.pop(node, None)

    def budget_bytes(self, node: str, now: Instant) -> int:
        """How much an answer to that peer may carry at present; more need not even be put together."""
        if now >= self._bulk_at.get(node, now):
            return self._config.bulk_bytes_max
        return self._config.answer_packets_max * self._config.packet_bytes_max

    def answer(self, node: str, to: Address, messages: Sequence[FactMessage], now: Instant) -> list[FactsEffect]:
        """Send `messages`: in packets when they fit the few that an answer may take, else on a stream.

        When the peer had a stream a moment ago, as much as the packets take; the rest comes
        with a later exchange.
        """
        encoded = [encode_message(message) for message in messages]
        packets = self._packed(encoded, self.packet_room_bytes)
        is_small = len(packets) <= self._config.answer_packets_max
        if is_small and all(len(message) <= self.packet_room_bytes for message in encoded):
            return [self._packet(node, to, packet) for packet in packets]
        if now >= self._bulk_at.get(node, now):
            self._bulk_at[node] = Instant(now + self._config.bulk_interval_s)
            frame = self._packed(encoded, self._config.bulk_bytes_max - self._overhead_bytes)[0]
            return [SendBulk(node=node, to=to, payload=encode_frame(self._own, frame))]
        packets = self._packed(self._fitting(messages), self.packet_room_bytes)[: self._config.answer_packets_max]
        return [self._packet(node, to, packet) for packet in packets]

    def push(self, node: str, to: Address, encoded: Sequence[bytes]) -> SendFacts:
        """One packet of messages that fit."""
        return self._packet(node, to, encoded)

    def deltas(self, state: WriterState, base: int) -> list[Delta]:
        """What `state` has above `base`, in pieces that fit a packet, but for items that never will."""
        room = self.packet_room_bytes - _delta_bytes(state.writer)
        pieces: list[Delta] = []
        items: list[Item] = []
        used = 0
        for item in state.above(base):
            size = len(encode_message(item))
            if items and used + size > room:
                pieces.append(_delta(state, base, items[-1].version, items))
                base, items, used = items[-1].version, [], 0
            items.append(item)
            used += size
        if base < state.version:
            pieces.append(_delta(state, base, state.version, items))
        return pieces

    def newest(self, state: WriterState, since: int, room_bytes: int) -> bytes | None:
        """One delta of the newest items above `since` that fit; None when not even the newest does."""
        room = room_bytes - _delta_bytes(state.writer)
        items: list[Item] = []
        for item in state.newest_first(since):
            room -= len(encode_message(item))
            if room < 0:
                if not items:
                    return None
                since = item.version
                break
            items.append(item)
        items.reverse()
        if room_bytes < _delta_bytes(state.writer):
            return None
        return encode_message(msgspec.structs.replace(_delta(state, since, state.version, items), is_push=True))

    def digests(self, reaches: Iterable[Reach], *, is_answer: bool) -> list[Digest]:
        """Digests that fit a packet each."""
        digests: list[Digest] = []
        piece: list[Reach] = []
        used = 0
        for reach in reaches:
            size = len(encode_message(Digest((reach,), is_answer)))
            if piece and used + size > self.packet_room_bytes - 8:
                digests.append(Digest(tuple(piece), is_answer))
                piece, used = [], 0
            piece.append(reach)
            used += size
        if piece:
            digests.append(Digest(tuple(piece), is_answer))
        return digests

    def _fitting(self, messages: Sequence[FactMessage]) -> list[bytes]:
        """Those that fit a packet; of a writer none after one that does not, since it would not connect."""
        fitting: list[bytes] = []
        blocked: dict[str, None] = {}
        for message in messages:
            encoded = encode_message(message)
            if isinstance(message, Delta) and message.writer in blocked:
                continue
            if len(encoded) <= self.packet_room_bytes:
                fitting.append(encoded)
            elif isinstance(message, Delta):
                blocked[message.writer] = None
        return fitting

    def _packet(self, node: str, to: Address, encoded: Sequence[bytes]) -> SendFacts:
        payload = encode_frame(self._own, encoded)
        assert len(payload) <= self._config.packet_bytes_max, f"a frame of {len(payload)} bytes for a packet"
        return SendFacts(node=node, to=to, payload=payload)

    def _packed(self, encoded: Sequence[bytes], room_bytes: int) -> list[list[bytes]]:
        """Messages in order, in groups that fit; one that fits nowhere is a group of its own."""
        groups: list[list[bytes]] = []
        room = 0
        for message in encoded:
            if not groups or len(message) > room or len(groups[-1]) >= MESSAGES_MAX:
                groups.append([])
                room = room_bytes
            groups[-1].append(message)
            room -= len(message)
        return groups


def _delta(state: WriterState, base: int, end: int, items: Sequence[Item]) -> Delta:
    return Delta(state.writer, state.incarnation, base, end, state.gc_version, tuple(items))


def _delta_bytes(writer: str) -> int:
    return len(writer.encode()) + _DELTA_EXTRA_BYTES
