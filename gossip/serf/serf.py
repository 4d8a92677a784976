"""The machine of the Serf layer: what SWIM and peers say goes in, news and orders come out."""

import enum
from typing import Final, assert_never

from gossip.codec import CodecError
from gossip.codec.serf_frames import decode_coordinate, decode_serf, encode_coordinate, encode_serf, encode_tags
from gossip.effects import Noted
from gossip.events import Tick
from gossip.messages import (
    Address,
    Alive,
    CoordinatePayload,
    JoinIntent,
    LeaveIntent,
    Query,
    QueryResponse,
    Relay,
    SerfMessage,
    SerfState,
    UserEvent,
)
from gossip.serf.clock import LamportClock
from gossip.serf.config import META_BYTES_MAX, SerfConfig
from gossip.serf.coordinates import Coordinates, distance_s
from gossip.serf.effects import ChangeMeta, LeaveSwim, Left, PersistPeers, SerfEffect
from gossip.serf.events import (
    EventRequested,
    ForceLeaveRequested,
    JoinEnded,
    JoinStarted,
    KeyCommandRequested,
    LeaveRequested,
    Passage,
    QueryAnswered,
    QueryClosed,
    QueryRequested,
    Request,
    RotationRequested,
    SerfEvent,
    SwimLeft,
    TagsChanged,
)
from gossip.serf.internal import InternalQueries
from gossip.serf.keys import RingOfKeys
from gossip.serf.members import SerfMember
from gossip.serf.membership import Membership
from gossip.serf.outbox import Outbox
from gossip.serf.queries import Identity, Queries, draft_query
from gossip.serf.user_events import UserEvents
from gossip.serf.view import MemberView
from gossip.transmit_queue import TransmitQueue, transmit_limit
from orca.errors import InvalidRequestError
from orca.model.units import Instant
from orca.sources import Rng

CONFLICTS_NOTED_MAX: Final = 256
SWIM_LEAVE_TIMEOUTS: Final = 3
"""SWIM ends its own leave in one broadcast timeout; after three we go on without its word."""
_NEVER: Final = Instant(float("inf"))


class Stage(enum.Enum):
    """Where this node stands between joining and having left."""

    MEMBER = "member"
    INTENDING = "intending"
    """The leave intent is being spread."""
    LEAVING = "leaving"
    """SWIM says farewell."""
    LINGERING = "lingering"
    """Gone for those who heard it, up for the probes of the others."""
    LEFT = "left"


class Serf:
    """One member's Serf layer; see the package docstring for the rules.

    It is SWIM's delegate: those methods return at once and leave their effects for
    `drain`. Requests of the node come through `step`, which drains too.

    `keyring` None: gossip is not encrypted. `saved`: what the last `PersistPeers` before a
    restart held.
    """

    def __init__(
        self,
        config: SerfConfig,
        own: Identity,
        rng: Rng,
        now: Instant,
        *,
        keyring: RingOfKeys | None = None,
        saved: PersistPeers | None = None,
    ) -> None:
        self._config = config
        self._own = own
        self._meta = self._encoded_tags(own.tags)
        self._outbox = Outbox()
        self._coordinates = Coordinates(rng)
        self._ack_payload = encode_coordinate(self._coordinates.own)
        self._membership = Membership(own, config, rng, self._outbox, self._coordinates, now)
        self._events = UserEvents(config, self._outbox)
        self._queries = Queries(own, config, rng, self._membership.members, self._outbox)
        self._internal = InternalQueries(own, config, self._queries, self._membership.members, self._outbox, keyring)
        self._stage = Stage.MEMBER
        self._stage_ends_at = _NEVER
        self._ignores_old = False
        self._conflicts: dict[str, None] = {}
        self._persist_at = _NEVER
        self._persisted: PersistPeers | None = None
        if saved is not None:
            self._resume(saved, now)

    # What the node asks

    def step(self, event: SerfEvent, now: Instant) -> list[SerfEffect]:
        """Do what the node asks, or what is due; the effects include those that wait since the last drain.

        Raises errors of `orca.errors` for requests that cannot be done; then nothing changed.
        """
        match event:
            case Tick():
                self._tick(now)
            case JoinStarted() | JoinEnded() | LeaveRequested() | SwimLeft():
                self._on_passage(event, now)
            case _:
                self._on_request(event, now)
        # A tick by itself is no news: planned after each, looking would be all that an idle member does.
        if not isinstance(event, Tick) or self._to_persist() != self._persisted:
            self._plan_persisting(now)
        return self._outbox.drain()

    def drain(self) -> list[SerfEffect]:
        """The effects of delegate calls since the last drain or step."""
        return self._outbox.drain()

    def deadline(self) -> Instant:
        """When the machine next wants a Tick."""
        due = min(self._membership.deadline(), self._stage_ends_at, self._persist_at)
        return min(due, self._events.deadline(), self._queries.deadline())

    # What SWIM asks (its delegate)

    def meta(self) -> bytes:
        """Our tags, encoded."""
        return self._meta

    def ack_payload(self) -> bytes:
        """Our coordinate, for acks to pings."""
        return self._ack_payload

    def has_broadcasts(self) -> bool:
        """Whether anything waits for a packet."""
        return self._outbox.has_broadcasts()

    def broadcasts(self, overhead_bytes: int, room_bytes: int) -> list[bytes]:
        """User payloads for one packet with `room_bytes` left; each costs `overhead_bytes`, a type byte and itself."""
        if not self._outbox.has_broadcasts():
            return []
        limit = transmit_limit(self._config.retransmit_multiplier, self._membership.group_size)
        return self._outbox.broadcasts(overhead_bytes + 1, room_bytes, limit)

    def local_state(self, is_join: bool) -> bytes:
        """Our part of a push/pull; the same for a join."""
        members = self._membership.members
        return encode_serf(
            SerfState(
                ltime=self._membership.clock.time,
                status_ltimes={member.node: member.status_ltime for member in members},
                left_members=tuple(member.node for member in self._membership.departed()),
                event_ltime=self._events.clock.time,
                events=self._events.ring.past_events(),
                query_ltime=self._queries.clock.time,
            )
        )

    def merge_state(self, state: bytes, is_join: bool, now: Instant) -> None:
        """A peer's part of a push/pull."""
        if not state:
            self._outbox.drop("state_empty")
            return
        try:
            decoded = decode_serf(state)
        except CodecError as error:
            self._outbox.drop(f"state_{error.cause}")
            return
        if not isinstance(decoded, SerfState):
            self._outbox.drop("state_unexpected_type")
            return
        # Nothing has carried these times yet: what was seen last is one below.
        self._witness(self._membership.clock, decoded.ltime - 1)
        self._witness(self._events.clock, decoded.event_ltime - 1)
        self._witness(self._queries.clock, decoded.query_ltime - 1)
        self._membership.merge(decoded, now)
        if is_join and self._ignores_old and self._events.clock.is_credible(decoded.event_ltime):
            self._events.ring.minimum = max(self._events.ring.minimum, decoded.event_ltime)
            self._events.release(now)
        self._events.replay(decoded.events, now)
        self._plan_persisting(now)

    def user_message(self, payload: bytes, source: Address, now: Instant) -> None:
        """A Serf message, without memberlist's type byte."""
        try:
            message = decode_serf(payload)
        except CodecError as error:
            self._outbox.drop(f"serf_{error.cause}")
            return
        self._on_message(message, payload, now)
        self._plan_persisting(now)

    def acked(self, node: str, rtt_s: float, payload: bytes, now: Instant) -> None:
        """A probe of `node` was answered: learn how far it is."""
        if not payload or self._membership.members.get(node) is None:
            return
        try:
            coordinate = decode_coordinate(payload)
        except CodecError as error:
            self._outbox.drop(f"coordinate_{error.cause}")
            return
        if not self._coordinates.update(node, coordinate, rtt_s):
            self._outbox.drop("coordinate_not_usable")
            return
        self._ack_payload = encode_coordinate(self._coordinates.own)

    def member_joined(self, member: MemberView, now: Instant) -> None:
        """A member is alive, for the first time or again."""
        self._membership.joined(member, now)
        self._plan_persisting(now)

    def member_updated(self, member: MemberView, now: Instant) -> None:
        """A member's tags or address changed."""
        self._membership.updated(member, now)
        self._plan_persisting(now)

    def member_left(self, member: MemberView, is_graceful: bool, now: Instant) -> None:
        """A member is dead, or said farewell."""
        self._membership.left(member, now, is_graceful=is_graceful)
        self._plan_persisting(now)

    def name_conflict(self, existing: MemberView, other: Alive, now: Instant) -> None:
        """Two nodes use one name."""
        if existing.node == self._own.node:
            self._internal.conflict(other.address, now)
        elif existing.node not in self._conflicts and len(self._conflicts) < CONFLICTS_NOTED_MAX:
            self._conflicts[existing.node] = None  # said once: it is repeated with every round of gossip
            claim = f"{existing.address} and {other.address} both use the name {existing.node!r}"
            self._outbox.emit(Noted(message=f"{claim}; names must be unique"))

    # What the node may look at

    @property
    def stage(self) -> Stage:
        """Where we are between joining and having left."""
        return self._stage

    @property
    def event_ltime_min(self) -> int:
        """Events of earlier times are not delivered: they may be of before a restart, or of before a join."""
        return self._events.ring.minimum

    @property
    def drops(self) -> dict[str, int]:
        """What was thrown away, by cause."""
        dropped = dict(self._outbox.drops)
        dropped["coordinate_reset"] = self._coordinates.reset_count
        for name, queue in self._queues().items():
            dropped[f"{name}_too_large"] = queue.refused_count
            dropped[f"{name}_overflow"] = queue.dropped_count
        return {cause: count for cause, count in sorted(dropped.items()) if count}

    @property
    def queue_depths(self) -> dict[str, int]:
        """How many broadcasts wait, by kind."""
        return {name: len(queue) for name, queue in self._queues().items()}

    def members(self) -> list[SerfMember]:
        """Every member, departed and failed ones too, by name."""
        return sorted(self._membership.members, key=lambda member: member.node)

    def member(self, node: str) -> SerfMember | None:
        """The member of that name."""
        return self._membership.members.get(node)

    def coordinate(self, node: str) -> CoordinatePayload | None:
        """Where a member is, ourselves included; None before its first ack."""
        return self._coordinates.own if node == self._own.node else self._coordinates.peer(node)

    def estimated_rtt_s(self, one: str, other: str) -> float | None:
        """The round trip between two members, measured or not; None while a coordinate is missing."""
        first, second = self.coordinate(one), self.coordinate(other)
        return None if first is None or second is None else distance_s(first, second)

    def check_invariants(self) -> None:
        """Raise AssertionError when the state contradicts itself."""
        self._outbox.check_invariants()
        self._membership.check_invariants()
        self._events.ring.check_invariants()
        self._queries.check_invariants()
        assert (self._stage is Stage.MEMBER) != self._membership.is_leaving, "we leave, or are a member"
        assert self._own.node not in self._conflicts, "our own name's conflicts are resolved, not noted"

    def _on_passage(self, event: Passage, now: Instant) -> None:
        match event:
            case JoinStarted(ignores_old=ignores_old):
                self._ignores_old = ignores_old
                if ignores_old and self._membership.group_size <= 1:
                    self._events.hold()
            case JoinEnded(joined=joined):
                self._ignores_old = False
                self._events.release(now)
                if joined and self._stage is Stage.MEMBER:
                    self._membership.announce_join(now)
            case LeaveRequested():
                self._leave(now)
            case SwimLeft():
                self._linger(now)
            case _:
                assert_never(event)

    def _on_request(self, event: Request, now: Instant) -> None:
        match event:
            case EventRequested(name=name, payload=payload):
                self._events.request(name, payload, now, is_coalescable=event.is_coalescable)
            case QueryRequested():
                self._request_query(event, now)
            case QueryClosed(handle=handle):
                self._queries.close(handle, now)
            case QueryAnswered(key=query, payload=payload):
                self._queries.answer(query, payload, now)
            case TagsChanged(tags=tags):
                self._retag(tags, now)
            case ForceLeaveRequested(node=node, is_prune=is_prune):
                self._membership.force_leave(node, now, is_prune=is_prune)
            case KeyCommandRequested(handle=handle, operation=operation, key=key):
                self._internal.command(handle, operation, key, event.relay_factor, now)
            case RotationRequested(key=key, allows_absent=allows_absent):
                self._internal.rotate(key, now, allows_absent=allows_absent)
            case _:
                assert_never(event)

    def _on_message(self, message: SerfMessage, encoded: bytes, now: Instant) -> None:
        match message:
            case LeaveIntent():
                if self._membership.leave_intent(message, now):
                    self._membership.pass_on(message.node, encoded)
            case JoinIntent():
                if self._membership.join_intent(message, now):
                    self._membership.pass_on(message.node, encoded)
            case UserEvent():
                self._events.receive(message, encoded, now)
            case Query():
                self._queries.receive(message, encoded, now)
            case QueryResponse():
                self._queries.respond(message, now)
            case Relay():
                self._queries.relay(message)
            case SerfState():
                self._outbox.drop("serf_state_in_packet")
            case _:
                assert_never(message)

    def _request_query(self, event: QueryRequested, now: Instant) -> None:
        draft = draft_query(
            event.name,
            event.payload,
            event.filters,
            wants_ack=event.wants_ack,
            relay_factor=event.relay_factor,
        )
        self._queries.request(draft, event.handle, event.timeout_s, now)

    def _encoded_tags(self, tags: dict[str, str]) -> bytes:
        try:
            meta = encode_tags(tags)
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"a tag of {tags!r} cannot be written as UTF-8") from error
        if len(meta) > META_BYTES_MAX:
            raise InvalidRequestError(f"tags take {len(meta)} bytes encoded; at most {META_BYTES_MAX} travel")
        return meta

    def _retag(self, tags: dict[str, str], now: Instant) -> None:
        self._meta = self._encoded_tags(tags)
        self._own.tags = dict(tags)
        self._membership.retagged(now)
        self._outbox.emit(ChangeMeta())

    # Leaving

    def _leave(self, now: Instant) -> None:
        if self._stage is not Stage.MEMBER:
            return
        self._stage = Stage.INTENDING
        self._stage_ends_at = Instant(now + self._config.broadcast_timeout_s)
        self._membership.announce_leave(now, self._intent_spread)

    def _intent_spread(self) -> None:
        """The leave intent was sent often enough: on with the next Tick, which is due at once."""
        if self._stage is Stage.INTENDING:
            self._stage_ends_at = Instant(float("-inf"))

    def _linger(self, now: Instant) -> None:
        if self._stage in {Stage.INTENDING, Stage.LEAVING}:
            self._stage = Stage.LINGERING
            self._stage_ends_at = Instant(now + self._config.leave_propagate_s)

    def _stage_over(self, now: Instant) -> None:
        match self._stage:
            case Stage.INTENDING:
                self._stage = Stage.LEAVING
                self._stage_ends_at = Instant(now + SWIM_LEAVE_TIMEOUTS * self._config.broadcast_timeout_s)
                self._outbox.emit(LeaveSwim())
            case Stage.LEAVING:
                self._linger(now)
            case Stage.LINGERING:
                self._stage = Stage.LEFT
                self._stage_ends_at = _NEVER
                self._persist()
                self._outbox.emit(Left())
            case Stage.MEMBER | Stage.LEFT:
                raise AssertionError(f"stage {self._stage} does not end by itself")

    # Upkeep

    def _tick(self, now: Instant) -> None:
        self._membership.tick(now)
        self._events.tick(now)
        self._queries.tick(now)
        if self._stage_ends_at <= now:
            self._stage_over(now)
        if self._persist_at <= now:
            self._persist()

    def _resume(self, saved: PersistPeers, now: Instant) -> None:
        """Take up the clocks of the life before, and look for its peers."""
        self._witness(self._membership.clock, saved.ltime - 1)
        self._witness(self._events.clock, saved.event_ltime - 1)
        self._witness(self._queries.clock, saved.query_ltime - 1)
        self._events.ring.minimum = self._events.clock.time
        self._queries.ring.minimum = self._queries.clock.time
        self._membership.look_for(saved.peers, now)
        self._persisted = saved

    def _witness(self, clock: LamportClock, ltime: int) -> None:
        if ltime < 0:
            return
        if clock.is_credible(ltime):
            clock.witness(ltime)
        else:
            self._outbox.drop("state_ltime")

    def _to_persist(self) -> PersistPeers:
        has_left = self._stage is Stage.LEFT
        return PersistPeers(
            peers=() if has_left else self._membership.peers_to_save(),
            ltime=self._membership.clock.time,
            event_ltime=self._events.clock.time,
            query_ltime=self._queries.clock.time,
        )

    def _plan_persisting(self, now: Instant) -> None:
        """Something may have changed: look at it once in a while, not at every packet."""
        if self._persist_at == _NEVER and self._stage is not Stage.LEFT:
            self._persist_at = Instant(now + self._config.persist_interval_s)

    def _persist(self) -> None:
        self._persist_at = _NEVER
        to_persist = self._to_persist()
        if to_persist != self._persisted:
            self._persisted = to_persist
            self._outbox.emit(to_persist)

    def _queues(self) -> dict[str, TransmitQueue]:
        return {"intents": self._outbox.intents, "queries": self._outbox.queries, "events": self._outbox.events}
