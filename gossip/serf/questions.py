"""The queries that run: ours, with who has answered, and those of others that we may still answer.

Both tables are bounded. An answer counts once a member, and no more answers are taken than
a group of the size at the start could give twice over, so that nobody can flood a reader.
"""

from typing import Final, NamedTuple

import msgspec

from gossip.messages import Query, QueryResponse
from gossip.serf.effects import QueryEnded, QueryKey
from orca.model.units import Instant

OPEN_MAX: Final = 256
PENDING_MAX: Final = 1024
TIMEOUT_MAX_S: Final = 600.0
_NEVER: Final = Instant(float("inf"))


class _Open(msgspec.Struct):
    """One of our queries; changed in place."""

    handle: int
    key: QueryKey
    deadline: Instant
    expected: int
    wants_ack: bool
    acked: dict[str, None]
    answered: dict[str, None]


class PendingQuery(NamedTuple):
    """A query of somebody else that this node may answer."""

    query: Query
    deadline: Instant


class Questions:
    """Bookkeeping only: sends nothing and decides nothing about content."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._handle_of: dict[QueryKey, int] = {}
        self._pending: dict[QueryKey, PendingQuery] = {}

    def is_open(self, handle: int) -> bool:
        """Whether our query of that handle still runs."""
        return handle in self._open

    @property
    def is_full(self) -> bool:
        """Whether no further query of ours may run."""
        return len(self._open) >= OPEN_MAX

    def open(self, handle: int, key: QueryKey, deadline: Instant, expected: int, *, wants_ack: bool) -> None:
        """Our query is on its way."""
        self._open[handle] = _Open(
            handle=handle,
            key=key,
            deadline=deadline,
            expected=expected,
            wants_ack=wants_ack,
            acked={},
            answered={},
        )
        self._handle_of[key] = handle

    def response(self, response: QueryResponse, now: Instant) -> int | str:
        """The handle of the query that `response` answers for the first time, else why it does not count."""
        handle = self._handle_of.get(QueryKey(response.ltime, response.query_id))
        if handle is None:
            return "query_unknown"
        query = self._open[handle]
        if now > query.deadline:
            return "query_over"
        if response.is_ack and not query.wants_ack:
            return "query_ack_unwanted"
        seen = query.acked if response.is_ack else query.answered
        if response.node in seen:
            return "query_duplicate"
        if len(seen) >= 2 * query.expected + 16:
            return "query_flood"
        seen[response.node] = None
        return handle

    def close(self, handle: int) -> QueryEnded | None:
        """Our query is over; None when it was already."""
        query = self._open.pop(handle, None)
        if query is None:
            return None
        del self._handle_of[query.key]
        return QueryEnded(handle=handle, acks=len(query.acked), answers=len(query.answered), expected=query.expected)

    def receive(self, query: Query, deadline: Instant) -> None:
        """Keep a query until it is answered or over; the oldest makes room."""
        if len(self._pending) >= PENDING_MAX:
            del self._pending[next(iter(self._pending))]
        self._pending[QueryKey(query.ltime, query.query_id)] = PendingQuery(query, deadline)

    def pending(self, key: QueryKey) -> PendingQuery | None:
        """The query that may still be answered under that key."""
        return self._pending.get(key)

    def answered(self, key: QueryKey) -> None:
        """A query may be answered once."""
        self._pending.pop(key, None)

    def overdue(self, now: Instant) -> list[int]:
        """Handles of our queries whose time is over; queries of others that are over are forgotten."""
        for key in [key for key, pending in self._pending.items() if pending.deadline < now]:
            del self._pending[key]
        return sorted(handle for handle, query in self._open.items() if query.deadline <= now)

    def deadline(self) -> Instant:
        """When the next of our queries is over."""
        return min(query.deadline for query in self._open.values()) if self._open else _NEVER

    def check_invariants(self) -> None:
        """Raise AssertionError when the tables do not fit each other."""
        assert len(self._open) <= OPEN_MAX, f"{len(self._open)} queries run, {OPEN_MAX} allowed"
        assert len(self._pending) <= PENDING_MAX, f"{len(self._pending)} queries wait, {PENDING_MAX} allowed"
        keys = {query.key: handle for handle, query in self._open.items()}
        assert keys == self._handle_of, "keys and handles of our queries fit each other"
