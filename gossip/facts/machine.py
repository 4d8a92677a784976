"""The machine: own facts out, others' facts in, differences found and closed."""

from typing import Final, assert_never

import msgspec

from gossip.effects import Noted, NoteLevel
from gossip.events import Tick
from gossip.facts.config import KEY_BYTES_MAX, VALUE_BYTES_MAX, VERSION_MAX, FactsConfig
from gossip.facts.effects import Fact, FactLearned, FactsEffect, IncarnationRaised
from gossip.facts.events import (
    FactRemoved,
    FactsEvent,
    FactWritten,
    FrameReceived,
    Paused,
    PeerAppeared,
    PeerDeparted,
    Resumed,
)
from gossip.facts.frames import Delta, Digest, FactMessage, FrameError, Item, Reach, Summary, decode_frame
from gossip.facts.frames import encode_message as encoded
from gossip.facts.intake import Intake
from gossip.facts.outgoing import Outgoing
from gossip.facts.presence import Presence
from gossip.facts.rumours import Rumours
from gossip.facts.store import FactStore
from gossip.facts.writer import Fit, WriterState, item_bytes
from gossip.messages import Address
from gossip.transmit_queue import transmit_limit
from orca.errors import InvalidRequestError, NotAvailableError, PayloadTooLargeError
from orca.model.units import Instant
from orca.sources import Rng

SWEEP_S: Final = 1.0
SWEEP_LATE_S: Final = 10.0
SWEEP_WRITERS: Final = 128
"""Looked at in one sweep, so that none takes long."""
_NEVER: Final = Instant(float("inf"))


class Facts:
    """One node's part; see the package docstring for the rules.

    `incarnation` has to be above that of every earlier life of this node (milliseconds since
    1970 at the start will do); were it not, peers say so and it is raised.
    """

    def __init__(self, config: FactsConfig, node: str, incarnation: int, rng: Rng, now: Instant) -> None:
        assert 0 < incarnation <= VERSION_MAX, f"an incarnation is 1 to 2**62, not {incarnation}"
        self._config = config
        self._node = node
        self._rng = rng
        self._store = FactStore()
        self._store.appear(node)
        self._store.put(_newborn(node, incarnation), 0)
        self._peers: dict[str, Address] = {}
        self._outgoing = Outgoing(node, config)
        self._intake = Intake(config, now)
        self._rumours = Rumours()
        self._presence = Presence(config.departed_keep_s)
        self._is_paused = False
        self._push_at = now
        self._summary_at = now
        self._summary_stretch = 1.0
        self._sweep_at = Instant(now + SWEEP_S)
        self._swept = 0
        self._effects: list[FactsEffect] = []
        self._spread(node, 0, now)

    def step(self, event: FactsEvent, now: Instant) -> list[FactsEffect]:
        """Take in one event. Own facts that cannot be held raise errors of `orca.errors`; nothing changes then."""
        match event:
            case Tick():
                self._tick(now)
            case FrameReceived(payload=payload):
                self._on_frame(payload, now)
            case FactWritten():
                self._write(event, now)
            case FactRemoved(key=key):
                self._remove(key, now)
            case PeerAppeared(node=node, address=address):
                self._appear(node, address, now)
            case PeerDeparted(node=node):
                self._depart(node, now)
            case Paused():
                self._is_paused = True
            case Resumed():
                self._is_paused = False
                self._summary_stretch = 1.0
                self._summary_at = now
            case _:
                assert_never(event)
        effects, self._effects = self._effects, []
        return effects

    def deadline(self) -> Instant:
        """When the machine next wants a Tick."""
        # A sweep comes with any Tick that is due to it, and only after a while asks for one of its own.
        upkeep = min(Instant(self._sweep_at + SWEEP_LATE_S), self._presence.deadline())
        if self._is_paused or not self._peers:
            return upkeep
        return min(upkeep, self._summary_at, self._push_at if self._rumours else _NEVER)

    # What the node may look at

    @property
    def is_paused(self) -> bool:
        """Whether the kill switch is on."""
        return self._is_paused

    @property
    def drops(self) -> dict[str, int]:
        """What was not taken in, by cause."""
        return dict(sorted(self._intake.drops.items()))

    @property
    def held_bytes(self) -> int:
        """What all facts are counted with."""
        return self._store.bytes

    @property
    def incarnation(self) -> int:
        """Of this life of ours."""
        return self._own.incarnation

    def get(self, writer: str, key: str) -> Fact | None:
        """What `writer` says about `key`."""
        held = self._store.get(writer).items.get(key)
        if held is None or self._presence.is_hidden(writer, key):
            return None
        return _fact(held.item)

    def facts_of(self, writer: str) -> list[Fact]:
        """All that `writer` says, by key."""
        found = (self.get(writer, key) for key in sorted(self._store.get(writer).items))
        return [fact for fact in found if fact is not None]

    def writers(self) -> list[str]:
        """Everybody of whom something is known, ourselves included."""
        return self._store.writers()

    def check_invariants(self) -> None:
        """Raise AssertionError when the state contradicts itself."""
        self._store.check_invariants()
        self._presence.check_invariants()
        assert self._store.bytes <= self._config.total_bytes_max + self._config.writer_bytes_max, "memory is bounded"
        assert len(self._store) <= self._config.writers_max + 1, "the number of writers is bounded"
        for node in self._peers:
            assert self._store.is_present(node), f"{node} is a peer and not present"
        assert not self._own.is_partial, "we know ourselves"

    @property
    def _own(self) -> WriterState:
        return self._store.get(self._node)

    # Our own facts

    def _write(self, event: FactWritten, now: Instant) -> None:
        if not _is_key(event.key):
            raise InvalidRequestError(f"a fact's key is text of 1 to {KEY_BYTES_MAX} bytes in UTF-8, not {event.key!r}")
        if len(event.value) > VALUE_BYTES_MAX:
            raise PayloadTooLargeError(
                f"fact {event.key!r} has a value of {len(event.value)} bytes; at most {VALUE_BYTES_MAX} are held"
            )
        if event.ttl_s is not None and not 0 <= event.ttl_s < float("inf"):
            raise InvalidRequestError(f"fact {event.key!r} has a time to live of {event.ttl_s} s; it is 0 or more")
        known = self._own.items.get(event.key)
        if known is not None and (known.item.value, known.item.ttl_s) == (event.value, event.ttl_s):
            return  # nothing new to say
        self._make_room(Item(event.key, 0, event.value, event.ttl_s))
        self._say(Item(event.key, self._own.version + 1, event.value, event.ttl_s), now)

    def _remove(self, key: str, now: Instant) -> None:
        known = self._own.items.get(key)
        if known is not None and known.item.value is not None:
            self._say(Item(key, self._own.version + 1, None), now)

    def _make_room(self, item: Item) -> None:
        """Forget our removals when there is no room; NotAvailableError when that is not enough."""
        own = self._own
        config = self._config

        def is_full() -> bool:
            known = own.items.get(item.key)
            count = len(own.items) + (known is None)
            size = own.bytes + item_bytes(item) - (0 if known is None else item_bytes(known.item))
            return count > config.writer_facts_max or size > config.writer_bytes_max

        if is_full():
            before = own.bytes
            own.forget_removals(own.version)
            self._store.put(own, before)
        if is_full():
            raise NotAvailableError(
                f"this node has {len(own.items)} facts of {own.bytes} bytes; there is no room for {item.key!r}"
                f" (at most {config.writer_facts_max} and {config.writer_bytes_max} bytes)"
            )

    def _say(self, item: Item, now: Instant) -> None:
        own = self._own
        before, since = own.bytes, own.version
        own.put(item, now)
        self._store.put(own, before)
        self._spread(self._node, since, now)
        self._effects.append(FactLearned(writer=self._node, key=item.key, version=item.version, value=item.value))

    def _raise_incarnation(self, claimed: int, now: Instant) -> None:
        """Peers believe in a life of ours that we do not remember: begin one above it, with what we say now."""
        if claimed >= VERSION_MAX or not self._intake.may_raise(now):
            self._intake.drop("own_incarnation")
            return
        old = self._own
        fresh = _newborn(self._node, claimed + 1)
        for held in old.items.values():
            if held.item.value is not None:
                fresh.put(msgspec.structs.replace(held.item, version=fresh.version + 1), now)
        self._store.put(fresh, old.bytes)
        self._spread(self._node, 0, now)
        self._effects.append(IncarnationRaised(incarnation=fresh.incarnation))
        self._effects.append(
            Noted(
                message=f"peers knew incarnation {claimed} of our facts; ours is raised to {fresh.incarnation}",
                level=NoteLevel.WARNING,
            )
        )

    # Peers come and go

    def _appear(self, node: str, address: Address, now: Instant) -> None:
        if node == self._node:
            return
        if not _is_text(node):
            self._intake.drop("bad_name")
            return
        is_new = node not in self._peers
        if is_new and len(self._peers) >= self._config.writers_max:
            self._intake.drop("too_many_writers")
            return
        self._peers[node] = address
        self._store.appear(node)
        if is_new:
            self._push_at = max(self._push_at, now)
            self._summary_stretch = 1.0
            self._summary_at = min(self._summary_at, Instant(now + self._config.push_interval_s))
        for key in self._presence.appear(node):
            held = self._store.get(node).items.get(key)
            if held is not None and held.item.value is not None:
                self._learned(node, held.item)

    def _depart(self, node: str, now: Instant) -> None:
        if self._peers.pop(node, None) is None:
            return
        self._store.depart(node)
        self._rumours.forget(node)
        self._outgoing.forget(node)
        self._intake.forget_peer(node)
        if node in self._store:
            self._presence.depart(node, self._store.get(node), now)
        self._expire(now)

    def _expire(self, now: Instant) -> None:
        for node, key in self._presence.hide_due(now):
            held = self._store.get(node).items[key]
            self._learned(node, msgspec.structs.replace(held.item, value=None))
        for node in self._presence.forget_due(now):
            self._forget(node)

    def _forget(self, node: str) -> None:
        """Hold nothing of a departed writer any more."""
        state = self._store.erase(node)
        self._intake.forget_writer(node)
        for item in [] if state is None else [held.item for held in state.items.values()]:
            if item.value is not None and not self._presence.is_hidden(node, item.key):
                self._learned(node, msgspec.structs.replace(item, value=None))
        self._presence.forgotten(node)

    def _make_space(self) -> None:
        """The living before the dead: forget who has been gone for the longest when the store is nearly full."""
        config = self._config
        bytes_max = config.total_bytes_max - config.writer_bytes_max
        while len(self._store) > config.writers_max or self._store.bytes > bytes_max:
            node = self._presence.longest_gone()
            if node is None:
                return
            self._forget(node)

    # Frames

    def _on_frame(self, payload: bytes, now: Instant) -> None:
        if self._is_paused:
            self._intake.drop("paused")
            return
        try:
            frame = decode_frame(payload)
        except FrameError as error:
            self._intake.drop(error.cause)
            return
        if frame.sender not in self._peers:  # answers go only to members, at their own address
            self._intake.drop("stranger")
            return
        if not self._intake.may_read(frame.sender, now):
            self._intake.drop("peer_rate")
            return
        answer: list[FactMessage] = []
        for message in frame.messages:
            match message:
                case Summary():
                    answer += self._on_summary(message, now)
                case Digest():
                    budget = self._outgoing.budget_bytes(frame.sender, now) if not answer else 0
                    answer += self._on_digest(message, budget, now)
                case Delta():
                    answer += self._on_delta(message, now)
                case _:
                    assert_never(message)
        if answer:
            self._effects += self._outgoing.answer(frame.sender, self._peers[frame.sender], answer, now)

    def _on_summary(self, summary: Summary, now: Instant) -> list[FactMessage]:
        """Say how far we know those among whom we differ."""
        differing = self._store.differing(summary)
        if differing:
            self._stir(now)
        reaches = [self._store.get(writer).reach for writer in differing if not self._intake.is_refused(writer, now)]
        return [*self._outgoing.digests(reaches, is_answer=False)]

    def _on_digest(self, digest: Digest, budget_bytes: int, now: Instant) -> list[FactMessage]:
        """Send what the other lacks, as far as `budget_bytes` goes, and ask for what we lack."""
        deltas: list[FactMessage] = []
        missing: list[Reach] = []
        for known in digest.reaches:
            if known.writer == self._node:
                self._compare_own(known.incarnation, known.version, now)
            if not self._store.is_present(known.writer):
                continue
            state = self._store.get(known.writer)
            before = state.bytes
            base = state.base_for(known)
            if state.bytes != before:
                self._store.put(state, before)
            if base is not None:
                if budget_bytes > 0:
                    deltas += self._outgoing.deltas(state, base)
                    budget_bytes -= state.bytes
            elif self._is_ahead(known, state) and not self._intake.is_refused(known.writer, now):
                missing.append(state.reach)
        if digest.is_answer:
            return deltas
        return [*deltas, *self._outgoing.digests(missing, is_answer=True)]

    def _is_ahead(self, known: Reach, state: WriterState) -> bool:
        is_later = (known.incarnation, known.version) > (state.incarnation, state.version)
        return known.writer != self._node and known.version > 0 and is_later

    def _on_delta(self, delta: Delta, now: Instant) -> list[FactMessage]:
        writer = delta.writer
        if writer == self._node:
            self._compare_own(delta.incarnation, delta.to_version, now)
            return []
        if writer not in self._peers:
            self._intake.drop("absent_writer")
            return []
        state = self._store.get(writer)
        match state.fit(delta):
            case Fit.STALE:
                return []
            case Fit.GAP:
                if self._intake.may_ask(writer, now):
                    return [Digest((state.reach,), is_answer=True)]
                return []
            case Fit.EXTENDS | Fit.RESETS:
                self._apply(state, delta, now)
                return []

    def _apply(self, state: WriterState, delta: Delta, now: Instant) -> None:
        self._make_space()
        others = self._store.bytes - state.bytes - self._own.bytes
        following = self._intake.admit(state, delta, others, len(self._store), now)
        if following is None:
            return
        is_reset = state.fit(delta) is Fit.RESETS
        self._store.put(following, state.bytes)
        self._stir(now)
        if is_reset:
            self._rumours.rebase(state.writer)
        if delta.is_push and not following.is_partial:
            self._spread(state.writer, 0 if is_reset else state.version, now)
        if is_reset:
            for key, held in state.items.items():
                if held.item.value is not None and key not in following.items:
                    self._learned(state.writer, msgspec.structs.replace(held.item, value=None))
        for item in delta.items:
            known = state.items.get(item.key)
            if not is_reset and item.version <= state.version:
                continue
            was_there = known is not None and known.item.value is not None
            if item.value is not None or was_there:
                self._learned(state.writer, item)

    def _compare_own(self, incarnation: int, version: int, now: Instant) -> None:
        """Nobody can know more of us than we do, unless we forgot an earlier life."""
        own = self._own
        if (incarnation, version) > (own.incarnation, own.version) and version > 0:
            self._raise_incarnation(incarnation, now)

    def _learned(self, writer: str, item: Item) -> None:
        self._effects.append(FactLearned(writer=writer, key=item.key, version=item.version, value=item.value))

    # Time

    def _stir(self, now: Instant) -> None:
        """We do not all know the same: summaries come often again (Trickle, RFC 6206 §4.2)."""
        self._summary_stretch = 1.0
        self._summary_at = min(self._summary_at, Instant(now + self._summary_wait_s()))

    def _summary_wait_s(self) -> float:
        return self._config.summary_interval_s * self._summary_stretch * self._rng.uniform(0.75, 1.25)

    def _spread(self, writer: str, since: int, now: Instant) -> None:
        if not self._rumours:
            self._push_at = max(self._push_at, now)
        self._stir(now)
        self._rumours.start(writer, since)

    def _tick(self, now: Instant) -> None:
        self._expire(now)
        if now >= self._sweep_at:
            self._sweep_at = Instant(now + SWEEP_S)
            self._sweep(now)
        if self._is_paused or not self._peers:
            return
        if self._rumours and now >= self._push_at:
            self._push_at = Instant(now + self._config.push_interval_s)
            self._push()
        if now >= self._summary_at:
            self._summary_at = Instant(now + self._summary_wait_s())
            self._summary_stretch = min(2 * self._summary_stretch, self._config.summary_stretch_max)
            node = self._some_peers(1)[0]
            packet = [encoded(self._store.summary())]
            self._effects.append(self._outgoing.push(node, self._peers[node], packet))

    def _push(self) -> None:
        limit = transmit_limit(self._config.push_multiplier, len(self._peers) + 1)
        for node in self._some_peers(self._config.push_fanout):
            packet = self._rumours.packet(self._store, self._outgoing, limit, receiver=node)
            if packet:
                self._effects.append(self._outgoing.push(node, self._peers[node], packet))

    def _some_peers(self, count: int) -> list[str]:
        """Different random peers."""
        nodes = list(self._peers)
        chosen: list[str] = []
        while nodes and len(chosen) < count:
            place = int(self._rng.random() * len(nodes))
            nodes[place], nodes[-1] = nodes[-1], nodes[place]
            chosen.append(nodes.pop())
        return chosen

    def _sweep(self, now: Instant) -> None:
        """Forget old removals and old refusals."""
        self._intake.sweep(now)
        since = Instant(now - self._config.tombstone_keep_s)
        states = self._store.some(self._swept, SWEEP_WRITERS)
        self._swept = self._swept + SWEEP_WRITERS if len(states) == SWEEP_WRITERS else 0
        for state in states:
            before = state.bytes
            state.expire_removals(since)
            if state.bytes != before:
                self._store.put(state, before)


def _newborn(node: str, incarnation: int) -> WriterState:
    """A life begins by saying that it has: else what the last one said would stay until this one says something."""
    state = WriterState(node, incarnation)
    state.version = 1
    return state


def _is_text(text: str) -> bool:
    """Whether it can be sent as UTF-8: names from the network may hold what cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _is_key(key: str) -> bool:
    return _is_text(key) and 0 < len(key.encode()) <= KEY_BYTES_MAX


def _fact(item: Item) -> Fact | None:
    if item.value is None:
        return None
    return Fact(key=item.key, version=item.version, value=item.value, ttl_s=item.ttl_s)
