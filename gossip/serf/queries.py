"""Asking everybody and answering: queries, acks, answers, relays (WIRE §6.5).

A query travels as a broadcast; acks and answers go straight to the asker in one packet, and
with a relay factor through other members too, for the case that the direct way loses it.
Queries whose names begin with `_serf_` are between agents and never reach the application.
"""

import math
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from gossip.codec.serf_frames import encode_serf
from gossip.messages import Address, Filter, NodeFilter, Query, QueryResponse, Relay, TagFilter
from gossip.serf.clock import LamportClock
from gossip.serf.config import SerfConfig
from gossip.serf.effects import QueryAcked, QueryAnswer, QueryKey, QueryReceived, QueryStarted, SendUser
from gossip.serf.history import Ring, Sight
from gossip.serf.members import Members, MemberStatus, SerfMember
from gossip.serf.outbox import Outbox
from gossip.serf.patterns import PatternError, compile_pattern
from gossip.serf.questions import TIMEOUT_MAX_S, Questions
from orca.errors import InvalidRequestError, NotAvailableError
from orca.model.units import Instant
from orca.sources import Rng

INTERNAL_PREFIX: Final = "_serf_"
PING_QUERY: Final = "_serf_ping"
RELAY_FACTOR_MAX: Final = 255
_RELAY_PROTOCOL: Final = 5
_NS: Final = 1_000_000_000


class Identity(msgspec.Struct):
    """Who we are; the tags change in place."""

    node: str
    address: Address
    version: bytes
    tags: dict[str, str]


class AnswerSink(Protocol):
    """Who waits for the answers to an internal query."""

    def answered(self, node: str, payload: bytes, now: Instant) -> bool:
        """One member's answer; True when no more are wanted."""
        ...

    def ended(self, now: Instant) -> None:
        """Nothing more will come."""
        ...


class Queries:
    """Both ends of a query."""

    def __init__(self, own: Identity, config: SerfConfig, rng: Rng, members: Members, outbox: Outbox) -> None:
        self.clock = LamportClock()
        self.ring = Ring(self.clock)
        self._own = own
        self._config = config
        self._rng = rng
        self._members = members
        self._outbox = outbox
        self._questions = Questions()
        self._sinks: dict[int, AnswerSink] = {}
        self._internal: Callable[[Query, Instant], bytes | None] = lambda query, now: None
        self._sink_handle = 0

    def answer_internal_by(self, answer: Callable[[Query, Instant], bytes | None]) -> None:
        """Let `answer` word our answers to internal queries; None is no answer."""
        self._internal = answer

    def request(self, query: Query, handle: int, timeout_s: float, now: Instant) -> None:
        """Ask on behalf of the application; `query` needs name, payload, filters, ack and relay only.

        Raises InvalidRequestError when it cannot be asked like this, NotAvailableError when
        too many queries run.
        """
        if handle < 0:
            raise InvalidRequestError(f"query handle {handle} is below 0; those belong to internal queries")
        if self._questions.is_open(handle):
            raise InvalidRequestError(f"query handle {handle} is in use; take another until its QueryEnded")
        is_ping = query.name == PING_QUERY and not query.payload
        if query.name.startswith(INTERNAL_PREFIX) and not is_ping:
            raise InvalidRequestError(
                f"query name {query.name!r} begins with {INTERNAL_PREFIX!r}, which agents keep for themselves"
            )
        if not 0 <= query.relay_factor <= RELAY_FACTOR_MAX:
            raise InvalidRequestError(f"relay factor {query.relay_factor} is outside 0 to {RELAY_FACTOR_MAX}")
        if not 0 <= timeout_s <= TIMEOUT_MAX_S:
            raise InvalidRequestError(f"a query timeout of {timeout_s} s is outside 0 to {TIMEOUT_MAX_S:.0f} s")
        self._ask(query, handle, timeout_s, now)

    def ask_internal(self, name: str, payload: bytes, sink: AnswerSink, now: Instant, relay_factor: int = 0) -> int:
        """Ask on our own behalf; the answers go to `sink`. Returns the handle; raises as `request`."""
        self._sink_handle -= 1
        handle = self._sink_handle
        self._sinks[handle] = sink
        query = draft_query(name, payload, relay_factor=relay_factor)
        try:
            self._ask(query, handle, 0.0, now)
        except (InvalidRequestError, NotAvailableError):
            del self._sinks[handle]
            raise
        return handle

    def close(self, handle: int, now: Instant) -> None:
        """Our query is over."""
        ended = self._questions.close(handle)
        if ended is None:
            return
        sink = self._sinks.pop(handle, None)
        if sink is None:
            self._outbox.emit(ended)
        else:
            sink.ended(now)

    def receive(self, query: Query, encoded: bytes, now: Instant) -> None:
        """A query came in as `encoded`: pass it on when it is new, and answer when it is for us."""
        if not self.clock.is_credible(query.ltime):
            self._outbox.drop("query_ltime")
            return
        self.clock.witness(query.ltime)
        sight = self.ring.see(query.ltime, query.query_id)
        if sight is not Sight.NEW:
            self._outbox.drop(f"query_{sight.value}")
            return
        if not query.is_local_only:
            self._outbox.queries.put(None, encoded)
        if not self._is_for_us(query.filters):
            return
        if query.wants_ack:
            ack = QueryResponse(ltime=query.ltime, query_id=query.query_id, node=self._own.node, is_ack=True)
            self._send(query, ack, encode_serf(ack), now)
        deadline = Instant(now + min(query.timeout_ns / _NS, TIMEOUT_MAX_S))
        self._questions.receive(query, deadline)
        key = QueryKey(query.ltime, query.query_id)
        if query.name.startswith(INTERNAL_PREFIX):
            self._answer_internally(query, now)
            return
        self._outbox.emit(
            QueryReceived(
                key=key,
                name=query.name,
                payload=query.payload,
                source_node=query.source_node,
                deadline=deadline,
            )
        )

    def answer(self, key: QueryKey, payload: bytes, now: Instant) -> None:
        """Answer a received query; NotAvailableError when it was answered or is over, InvalidRequestError by size."""
        pending = self._questions.pending(key)
        if pending is None or now > pending.deadline:
            raise NotAvailableError(f"query {key.query_id} of time {key.ltime} is over, or was answered before")
        response = QueryResponse(ltime=key.ltime, query_id=key.query_id, node=self._own.node, payload=payload)
        encoded = encode_serf(response)
        if len(encoded) > self._config.response_bytes_max:
            raise InvalidRequestError(
                f"the answer takes {len(encoded)} bytes encoded; at most {self._config.response_bytes_max} travel"
            )
        self._questions.answered(key)
        self._send(pending.query, response, encoded, now)

    def response_bytes(self, query: Query, payload: bytes) -> int:
        """What an answer with that payload takes, encoded."""
        response = QueryResponse(ltime=query.ltime, query_id=query.query_id, node=self._own.node, payload=payload)
        return len(encode_serf(response))

    def respond(self, response: QueryResponse, now: Instant) -> None:
        """An ack or an answer to one of our queries came in."""
        handle = self._questions.response(response, now)
        if isinstance(handle, str):
            self._outbox.drop(handle)
            return
        sink = self._sinks.get(handle)
        if sink is not None:
            if not response.is_ack and sink.answered(response.node, response.payload, now):
                self.close(handle, now)
        elif response.is_ack:
            self._outbox.emit(QueryAcked(handle=handle, node=response.node))
        else:
            self._outbox.emit(QueryAnswer(handle=handle, node=response.node, payload=response.payload))

    def relay(self, relay: Relay) -> None:
        """Pass an answer on for somebody; only to members, so that nobody uses us against strangers."""
        if relay.target != self._own.address and not any(member.address == relay.target for member in self._members):
            self._outbox.drop("relay_to_stranger")
            return
        self._outbox.emit(SendUser(to=relay.target, payload=relay.message))

    def tick(self, now: Instant) -> None:
        """End what is over."""
        for handle in self._questions.overdue(now):
            self.close(handle, now)

    def deadline(self) -> Instant:
        """When `tick` has something to do."""
        return self._questions.deadline()

    def default_timeout_s(self) -> float:
        """How long a query waits unless told otherwise; grows with the group."""
        rounds = max(1, math.ceil(math.log10(len(self._members) + 1)))
        return self._config.gossip_interval_s * self._config.query_timeout_multiplier * rounds

    def check_invariants(self) -> None:
        """Raise AssertionError when the tables do not fit each other."""
        self._questions.check_invariants()
        self.ring.check_invariants()
        assert all(self._questions.is_open(handle) for handle in self._sinks), "a sink waits for a query that is over"

    def _ask(self, draft: Query, handle: int, timeout_s: float, now: Instant) -> None:
        if self._questions.is_full:
            raise NotAvailableError("too many queries run at once; wait until one has ended")
        timeout_s = timeout_s or self.default_timeout_s()
        query = msgspec.structs.replace(
            draft,
            ltime=self.clock.time,
            query_id=int(self._rng.random() * 2**31),
            source=self._own.address,
            source_node=self._own.node,
            timeout_ns=int(timeout_s * _NS),
        )
        try:
            encoded = encode_serf(query)
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"query {query.name!r} or a filter cannot be written as UTF-8") from error
        if len(encoded) > self._config.query_bytes_max:
            raise InvalidRequestError(
                f"query {query.name!r} takes {len(encoded)} bytes encoded; at most"
                f" {self._config.query_bytes_max} travel: shorten the payload or the filters"
            )
        self.clock.stamp()
        key = QueryKey(query.ltime, query.query_id)
        deadline = Instant(now + timeout_s)
        expected = self._members.count(MemberStatus.ALIVE)
        self._questions.open(handle, key, deadline, expected, wants_ack=query.wants_ack)
        if handle >= 0:
            self._outbox.emit(QueryStarted(handle=handle, key=key, expected=expected, deadline=deadline))
        self.receive(query, encoded, now)

    def _answer_internally(self, query: Query, now: Instant) -> None:
        payload = self._internal(query, now)
        if payload is None:
            return
        try:
            self.answer(QueryKey(query.ltime, query.query_id), payload, now)
        except (InvalidRequestError, NotAvailableError):  # an asker's timeout of nothing, a member with long tags
            self._outbox.drop("internal_answer")

    def _is_for_us(self, filters: tuple[Filter, ...]) -> bool:
        return all(self._passes(condition) for condition in filters)

    def _passes(self, condition: Filter) -> bool:
        match condition:
            case NodeFilter(nodes=nodes):
                return self._own.node in nodes
            case TagFilter(tag=tag, expression=expression):
                try:
                    pattern = compile_pattern(expression)
                except PatternError:
                    self._outbox.drop("filter_pattern")
                    return False
                return pattern.matches(self._own.tags.get(tag, ""))

    def _send(self, query: Query, response: QueryResponse, encoded: bytes, now: Instant) -> None:
        """Straight to the asker, and through others as often as it wishes."""
        if query.source == self._own.address:
            self.respond(response, now)
            return
        self._outbox.emit(SendUser(to=query.source, payload=encoded))
        if query.relay_factor == 0 or len(self._members) < query.relay_factor + 1:
            return
        relayed = encode_serf(Relay(target=query.source, target_node=query.source_node, message=encoded))
        if len(relayed) > self._config.response_bytes_max:
            self._outbox.drop("relay_too_large")
            return
        for member in self._relays(query.relay_factor):
            self._outbox.emit(SendUser(to=member.address, payload=relayed))

    def _relays(self, count: int) -> list[SerfMember]:
        """Random living members that know how to relay."""
        able = [
            member
            for member in self._members.in_status(MemberStatus.ALIVE)
            if member.node != self._own.node and len(member.version) > 1 and member.version[1] >= _RELAY_PROTOCOL
        ]
        chosen: list[SerfMember] = []
        while able and len(chosen) < count:
            chosen.append(able.pop(int(self._rng.random() * len(able))))
        return chosen


def draft_query(
    name: str, payload: bytes, filters: tuple[Filter, ...] = (), *, wants_ack: bool = False, relay_factor: int = 0
) -> Query:
    """A query without time, number and asker, which it gets when it is asked."""
    return Query(
        ltime=0,
        query_id=0,
        source=Address("", 0),
        source_node="",
        filters=filters,
        wants_ack=wants_ack,
        relay_factor=relay_factor,
        name=name,
        payload=payload,
    )
