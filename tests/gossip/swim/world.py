"""Members in one process on a virtual clock: packets and streams with delay, loss and cuts, from one seed."""

import heapq
import random
from collections.abc import Callable

from gossip.codec.frames import decode_message
from gossip.events import StallNoticed, StreamFailed, StreamReceived, StreamReplied, Tick
from gossip.messages import Address, Alive, PushPull
from gossip.swim import (
    LAN,
    ChangeKind,
    JoinEnded,
    JoinRequested,
    LeaveEnded,
    LeaveRequested,
    MemberChanged,
    MemberState,
    MemberView,
    OpenStream,
    PacketReceived,
    ReplyStream,
    SendPacket,
    Swim,
    SwimConfig,
    SwimEffect,
    SwimEvent,
)
from orca.model.units import Instant


class Upper:
    """A layer above that only remembers."""

    def __init__(self, meta: bytes = b"") -> None:
        self.own_meta = meta
        self.outgoing: list[bytes] = []
        self.messages: list[bytes] = []
        self.states: list[bytes] = []
        self.joined: list[str] = []
        self.left: list[tuple[str, bool]] = []
        self.updated: list[str] = []
        self.conflicts: list[str] = []
        self.acked_by: list[tuple[str, float, bytes]] = []

    def meta(self) -> bytes:
        return self.own_meta

    def ack_payload(self) -> bytes:
        return b"here"

    def has_broadcasts(self) -> bool:
        return bool(self.outgoing)

    def broadcasts(self, overhead_bytes: int, room_bytes: int) -> list[bytes]:
        taken: list[bytes] = []
        while self.outgoing and len(self.outgoing[0]) + overhead_bytes + 1 <= room_bytes:
            room_bytes -= len(self.outgoing[0]) + overhead_bytes + 1
            taken.append(self.outgoing.pop(0))
        return taken

    def local_state(self, is_join: bool) -> bytes:
        return b"state"

    def merge_state(self, state: bytes, is_join: bool, now: Instant) -> None:
        self.states.append(state)

    def user_message(self, payload: bytes, source: Address, now: Instant) -> None:
        self.messages.append(payload)

    def acked(self, node: str, rtt_s: float, payload: bytes, now: Instant) -> None:
        self.acked_by.append((node, rtt_s, payload))

    def member_joined(self, member: MemberView, now: Instant) -> None:
        self.joined.append(member.node)

    def member_updated(self, member: MemberView, now: Instant) -> None:
        self.updated.append(member.node)

    def member_left(self, member: MemberView, is_graceful: bool, now: Instant) -> None:
        self.left.append((member.node, is_graceful))

    def name_conflict(self, existing: MemberView, other: Alive, now: Instant) -> None:
        self.conflicts.append(existing.node)


class Peer:
    """One member with what happened to it."""

    def __init__(self, world: "World", name: str, address: Address, config: SwimConfig, incarnation: int = 1) -> None:
        self.name = name
        self.address = address
        self.upper = Upper(name.encode())
        self.is_up = True
        self.paused_until = 0.0
        self.backlog: list[SwimEvent] = []
        self.changes: list[tuple[float, ChangeKind, str]] = []
        self.ends: list[SwimEffect] = []
        self.swim = Swim(
            config,
            name,
            address,
            random.Random(world.rng.random()),
            self.upper,
            Instant(world.now),
            incarnation=incarnation,
        )

    def state_of(self, name: str) -> MemberState | None:
        member = self.swim.member(name)
        return None if member is None else member.state

    def saw(self, kind: ChangeKind, name: str) -> float | None:
        """When it first saw that happen."""
        return next((at for at, what, who in self.changes if (what, who) == (kind, name)), None)


class World:
    """`drops(source, target)` says whether a packet is lost; streams are cut by it as well."""

    def __init__(self, seed: int = 1, config: SwimConfig = LAN) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.config = config
        self.peers: dict[str, Peer] = {}
        self.by_address: dict[Address, Peer] = {}
        self.drops: Callable[[str, str], bool] = lambda _source, _target: False
        self.loss = 0.0
        self.delay_s = (0.0005, 0.002)
        self.packets = 0
        self.exchanged: list[tuple[float, PushPull]] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0

    def add(
        self, name: str, *, port: int | None = None, incarnation: int = 1, config: SwimConfig | None = None
    ) -> Peer:
        address = Address("10.0.0.1", port or 1000 + len(self.by_address))
        peer = Peer(self, name, address, config or self.config, incarnation)
        self.peers[name] = peer
        self.by_address[address] = peer
        self._perform(peer, peer.swim.step(Tick(), Instant(self.now)))
        return peer

    def group(self, count: int) -> list[Peer]:
        """So many members that have found each other."""
        peers = [self.add(f"m{number}") for number in range(count)]
        for peer in peers[1:]:
            self.tell(peer, JoinRequested(handle=1, addresses=(peers[0].address,)))
        self.run(20.0)
        for peer in peers:
            assert len(peer.swim) == count, f"{peer.name} knows {len(peer.swim)} of {count}"
        return peers

    def tell(self, peer: Peer, event: SwimEvent) -> None:
        """An event of the node itself."""
        self._perform(peer, peer.swim.step(event, Instant(self.now)))

    def kill(self, peer: Peer) -> None:
        peer.is_up = False

    def pause(self, peer: Peer, seconds: float) -> None:
        """Its process stands still; what comes meanwhile waits in its socket."""
        peer.paused_until = self.now + seconds

        def resume() -> None:
            self.tell(peer, StallNoticed(stall_s=seconds))
            backlog, peer.backlog = peer.backlog, []
            for event in backlog:
                self._step(peer, event)

        self._at(seconds, resume)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            due = self._queue[0][0] if self._queue else end
            ticks = [
                (max(peer.swim.deadline(), peer.paused_until), name) for name, peer in self.peers.items() if peer.is_up
            ]
            tick = min(ticks, default=(end, ""))
            self.now = max(self.now, min(due, tick[0], end))
            if min(due, tick[0]) >= end:
                self.now = end
                return
            if due <= tick[0]:
                heapq.heappop(self._queue)[2]()
            else:
                self._step(self.peers[tick[1]], Tick())

    def _at(self, delay_s: float, action: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._serial, action))

    def _step(self, peer: Peer, event: SwimEvent) -> None:
        if not peer.is_up or self.peers.get(peer.name) is not peer:
            return
        if self.now < peer.paused_until:
            peer.backlog.append(event)
            return
        self._perform(peer, peer.swim.step(event, Instant(self.now)))

    def _is_lost(self, source: Peer, target: Peer | None) -> bool:
        return target is None or not target.is_up or self.drops(source.name, target.name)

    def _perform(self, peer: Peer, effects: list[SwimEffect]) -> None:
        peer.swim.check_invariants()
        for effect in effects:
            match effect:
                case SendPacket():
                    self._send(peer, effect)
                case OpenStream():
                    self._open(peer, effect)
                case MemberChanged(kind=kind, member=member):
                    peer.changes.append((self.now, kind, member.node))
                case JoinEnded() | LeaveEnded():
                    peer.ends.append(effect)
                case _:
                    assert not isinstance(effect, ReplyStream), "an answer to nobody"

    def _send(self, peer: Peer, effect: SendPacket) -> None:
        self.packets += 1
        assert sum(2 + len(frame) for frame in effect.frames) <= 1400 - 2, "a packet that is too large"
        target = self.by_address.get(effect.to)
        if target is None or self._is_lost(peer, target) or self.rng.random() < self.loss:
            return
        event = PacketReceived(source=peer.address, messages=tuple(map(decode_message, effect.frames)))
        self._at(self.rng.uniform(*self.delay_s), lambda: self._step(target, event))

    def _open(self, peer: Peer, effect: OpenStream) -> None:
        target = self.by_address.get(effect.to)

        def ask() -> None:
            if target is None or self._is_lost(peer, target) or self._is_lost(target, peer):
                wait_s = effect.timeout_s if target is not None and target.is_up else 0.001
                failure = StreamFailed(exchange=effect.exchange, reason="no answer")
                self._at(wait_s, lambda: self._step(peer, failure))
                return
            if self.now < target.paused_until:
                self._at(target.paused_until - self.now + 0.001, ask)
                return
            incoming = StreamReceived(stream=1, source=peer.address, message=effect.message)
            effects = target.swim.step(incoming, Instant(self.now))
            replies = [one for one in effects if isinstance(one, ReplyStream)]
            self._perform(target, [one for one in effects if not isinstance(one, ReplyStream)])
            if not effect.wants_reply:
                return
            message = replies[0].message if replies else None
            self.exchanged += [(self.now, one) for one in (effect.message, message) if isinstance(one, PushPull)]
            answer = (
                StreamFailed(exchange=effect.exchange, reason="closed")
                if message is None
                else StreamReplied(exchange=effect.exchange, message=message)
            )
            self._at(self.rng.uniform(*self.delay_s), lambda: self._step(peer, answer))

        self._at(self.rng.uniform(*self.delay_s), ask)


__all__ = ["LeaveRequested", "Peer", "Upper", "World"]
