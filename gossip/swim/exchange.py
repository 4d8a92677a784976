"""Exchanges over streams: joins, anti-entropy, and what is too large for a packet (WIRE.md §5)."""

import math
from typing import Final

import msgspec

from gossip.effects import NoteLevel
from gossip.messages import (
    Ack,
    Address,
    Alive,
    Dead,
    Ping,
    PushPull,
    PushPullNode,
    StreamError,
    StreamMessage,
    Suspect,
    User,
    WireState,
)
from gossip.swim.claims import Claims
from gossip.swim.core import Core
from gossip.swim.effects import JoinEnded, ReplyStream
from gossip.swim.members import Member, MemberState
from orca.model.units import Instant

JOINS_MAX: Final = 64
SCALE_FROM: Final = 32
_EXTRA_FIRST_S: Final = 0.05
_EXTRA_SPREAD_S: Final = 0.5
_VERSIONS: Final = 6
_WIRE_STATES: Final = {
    MemberState.ALIVE: WireState.ALIVE,
    MemberState.SUSPECT: WireState.SUSPECT,
    MemberState.DEAD: WireState.DEAD,
    MemberState.LEFT: WireState.LEFT,
}


class _Join(msgspec.Struct):
    """A join that runs: exchanges that have not ended, and how the others did."""

    handle: int
    pending: dict[int, Address]
    joined: int = 0
    failures: list[tuple[Address, str]] = []


class Exchanges:
    """Push/pulls that we start and that others start with us."""

    def __init__(self, core: Core, claims: Claims) -> None:
        self._core = core
        self._claims = claims
        self._joins: dict[int, _Join] = {}
        self._by_exchange: dict[int, _Join | None] = {}
        self._extras_left = 0

    def begin(self, now: Instant) -> None:
        """The first anti-entropy comes within one interval."""
        wait_s = self._core.rng.random() * self._core.config.push_pull_interval_s
        self._core.timers.set("push_pull", Instant(now + wait_s))

    # ------------------------------------------------------------------------ joining

    def join(self, handle: int, addresses: tuple[Address, ...]) -> None:
        """Exchange with each address, as one that is new."""
        core = self._core
        others = [address for address in dict.fromkeys(addresses) if address != core.address]
        if not others or len(self._joins) >= JOINS_MAX:
            why = "too many joins run already" if others else "no address but our own"
            core.emit(JoinEnded(handle=handle, joined=0, failures=tuple((one, why) for one in addresses)))
            return
        join = _Join(handle=handle, pending={})
        self._joins[handle] = join
        for address in others:
            exchange = core.open_stream(address, self._state(is_join=True))
            join.pending[exchange] = address
            self._by_exchange[exchange] = join

    def on_turn(self, now: Instant) -> None:
        """Anti-entropy with one random member."""
        core = self._core
        core.timers.set("push_pull", Instant(now + self._interval_s()))
        self._exchange_with_somebody(is_compressed=True)

    def on_extra_turn(self, now: Instant) -> None:
        """One of those after a join."""
        self._extras_left -= 1
        if self._extras_left > 0:
            self._plan_extra(now)
        self._exchange_with_somebody(is_compressed=False)

    def _exchange_with_somebody(self, *, is_compressed: bool) -> None:
        """Compression makes a quarter of it. When many join at once time is dearer: nothing of a join is compressed."""
        core = self._core
        if core.is_leaving:
            return
        for member in core.members.sample(1, core.is_alive_other):
            core.counts["push_pulls"] += 1
            self._by_exchange[core.open_stream(member.address, self._state(is_compressed=is_compressed))] = None

    def _interval_s(self) -> float:
        interval_s = self._core.config.push_pull_interval_s
        members = len(self._core.members)
        return interval_s if members <= SCALE_FROM else interval_s * (math.ceil(math.log2(members / SCALE_FROM)) + 1)

    def _plan_extra(self, now: Instant) -> None:
        wait_s = _EXTRA_FIRST_S + self._core.rng.random() * _EXTRA_SPREAD_S
        self._core.timers.set("extra_push_pull", Instant(now + wait_s))

    # ------------------------------------------------------------------------ answers

    def on_reply(self, exchange: int, message: StreamMessage, now: Instant) -> None:
        """What came back on a stream of ours."""
        if exchange not in self._by_exchange:
            self._core.counts["replies_unexpected"] += 1
            return
        if not isinstance(message, PushPull):
            words = message.message if isinstance(message, StreamError) else type(message).__name__
            self.on_failure(exchange, f"it answered {words!r}", now)
            return
        join = self._by_exchange.pop(exchange)
        refusal = self._merge(message, now)
        if join is not None:
            self._end_one(join, exchange, refusal, now)

    def on_failure(self, exchange: int, reason: str, now: Instant) -> None:
        """A stream of ours came to nothing."""
        if exchange not in self._by_exchange:
            return
        join = self._by_exchange.pop(exchange)
        self._core.counts["exchanges_failed"] += 1
        if join is not None:
            self._end_one(join, exchange, reason, now)

    def _end_one(self, join: _Join, exchange: int, failure: str, now: Instant) -> None:
        core = self._core
        address = join.pending.pop(exchange)
        if failure:
            join.failures.append((address, failure))
        else:
            join.joined += 1
        if join.pending:
            return
        del self._joins[join.handle]
        core.emit(JoinEnded(handle=join.handle, joined=join.joined, failures=tuple(join.failures)))
        if join.joined and core.config.extra_push_pulls:
            self._extras_left = core.config.extra_push_pulls
            self._plan_extra(now)

    def on_stream(self, stream: int, source: Address, message: StreamMessage, now: Instant) -> None:
        """Somebody opened a stream to us."""
        core = self._core
        match message:
            case PushPull():
                core.counts["push_pulls_served"] += 1
                # Answered before merging: the peer waits, and what it told us it need not hear again.
                core.emit(ReplyStream(stream=stream, message=self._state_for(message)))
                self._merge(message, now)
            case Ping():
                is_for_us = not message.node or message.node == core.node
                answer = Ack(sequence=message.sequence) if is_for_us else None
                core.emit(ReplyStream(stream=stream, message=answer))
            case User():
                core.emit(ReplyStream(stream=stream))
                core.delegate.user_message(message.payload, source, now)
            case _:
                core.counts["streams_unexpected"] += 1
                core.emit(ReplyStream(stream=stream))

    # -------------------------------------------------------------------------- state

    def _state_for(self, question: PushPull) -> PushPull:
        """Our side of an exchange, in the manner of the other one."""
        is_compressed = question.is_compressed and not question.is_join
        return self._state(is_join=question.is_join, is_compressed=is_compressed)

    def _state(self, *, is_join: bool = False, is_compressed: bool = False) -> PushPull:
        core = self._core
        nodes = tuple(
            PushPullNode(
                node=member.node,
                address=member.address,
                meta=member.meta,
                incarnation=member.incarnation,
                state=_WIRE_STATES[member.state],
                version=member.version,
            )
            for member in core.members
        )
        user_state = core.delegate.local_state(is_join)
        return PushPull(nodes=nodes, user_state=user_state, is_join=is_join, is_compressed=is_compressed)

    def _merge(self, theirs: PushPull, now: Instant) -> str:
        """Believe what they believe, by the rules; why not, when nothing of it can be."""
        core = self._core
        refusal = self._version_conflict(theirs.nodes)
        if refusal:
            core.counts["merges_refused"] += 1
            core.note(f"the state of a peer was refused: {refusal}", NoteLevel.WARNING)
            return refusal
        for node in theirs.nodes:
            match node.state:
                case WireState.ALIVE:
                    claim = Alive(
                        incarnation=node.incarnation,
                        node=node.node,
                        address=node.address,
                        meta=node.meta,
                        version=node.version,
                    )
                    self._claims.on_alive(claim, now)
                case WireState.LEFT:
                    self._claims.on_dead(Dead(incarnation=node.incarnation, node=node.node, accuser=node.node), now)
                case WireState.SUSPECT | WireState.DEAD:
                    # Somebody else's word: give the member the chance to refute.
                    self._claims.on_suspect(
                        Suspect(incarnation=node.incarnation, node=node.node, accuser=core.node), now
                    )
        core.delegate.merge_state(theirs.user_state, theirs.is_join, now)
        return ""

    def _version_conflict(self, nodes: tuple[PushPullNode, ...]) -> str:
        """Why members of theirs and of ours cannot understand each other; empty when they can.

        Two protocols, memberlist's own and the layer's above. What one member speaks must lie
        between the highest least and the lowest most of all who live.
        """
        alive = [(node.node, node.version) for node in nodes if node.state is WireState.ALIVE]
        alive += [(member.node, member.version) for member in self._core.members if _is_alive(member)]
        for node, version in alive:
            if len(version) != _VERSIONS:
                return f"{node} tells {len(version)} of its {_VERSIONS} protocol versions"
        for name, low, high, current in (("memberlist", 0, 1, 2), ("Serf", 3, 4, 5)):
            least = max((version[low] for _, version in alive), default=0)
            most = min((version[high] for _, version in alive), default=255)
            for node, version in alive:
                if not least <= version[current] <= most:
                    return f"{node} speaks version {version[current]} of {name}, and {least} to {most} are understood"
        return ""

    def check_invariants(self) -> None:
        """Raise AssertionError when the tables do not fit each other."""
        assert len(self._joins) <= JOINS_MAX, "joins are bounded"
        for join in self._joins.values():
            assert join.pending, f"join {join.handle} waits for somebody"
            assert all(self._by_exchange.get(exchange) is join for exchange in join.pending), "exchanges belong to it"


def _is_alive(member: Member) -> bool:
    return member.state is MemberState.ALIVE
