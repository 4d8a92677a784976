"""What a leader does unasked: leases that nobody renewed end, and the schema rises when all know it. Pure."""

import math
from typing import Final

from consensus.raft import RaftMachine
from consensus.state.applying.leases import DRIFT, TTL_MS_MIN, LeaseClock, expirable
from consensus.state.cluster import ClusterState
from consensus.state.commands import Command, ExpireLeases, RaiseSchema
from consensus.state.schema import raisable_schema
from orca.model.ids import RequestId, StateRevision, Term
from orca.model.units import Instant, WallMs
from orca.sources import IdSource

ACTOR: Final = "leader"
PAUSE_S: Final = 1.0
"""At least so long from one to the next: one that is refused must not fill the log."""
LOOK_S: Final = TTL_MS_MIN / 1000
"""No lease is shorter, so whoever looks so often at those that are new comes in time for all."""


class LeaderDuties:
    """One command at a time; `next_command` is asked again after `ended`.

    Both it and `due_at` are asked at each turn of the leader, so the leases are looked through only when the
    first of those that were seen may have ended, or `LOOK_S` after others may have come.
    """

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids
        self._term: Term | None = None
        self._clock: LeaseClock | None = None
        self._is_in_flight = False
        self._not_before = -math.inf
        self._seen = StateRevision(-1)
        self._looked_at = -math.inf
        self._soonest = math.inf

    def follow(self, raft: RaftMachine, state: ClusterState, now: Instant) -> None:
        """Begin or end, as this node leads or not.

        Lease time begins with what the log says that it was, so only after an entry of this leader's own term is
        applied: before, a deposed leader's last words may be missing.
        """
        if not raft.is_leader:
            self._term = self._clock = None
        elif self._term != raft.term and raft.term_of(raft.applied_index) == raft.term:
            self._term, self._clock = raft.term, LeaseClock(state.clock_ms, now)
            self._is_in_flight = False
            self._seen, self._looked_at, self._soonest = StateRevision(-1), -math.inf, math.inf

    def lease_time_ms(self, now: Instant) -> int | None:
        """To stamp on a command about leases; None unless this node leads and knows."""
        return None if self._clock is None else self._clock.read_ms(now)

    def next_command(self, state: ClusterState, now: Instant, now_ms: WallMs) -> Command | None:
        """What is to be proposed now."""
        if self._clock is None or self._is_in_flight or now < self._not_before:
            return None
        command = self._expiry(state, now, now_ms) or self._raise(state, now_ms)
        self._is_in_flight = command is not None
        return command

    def _expiry(self, state: ClusterState, now: Instant, now_ms: WallMs) -> Command | None:
        if self._clock is None or now < self._look_at(state):
            return None
        clock_ms = self._clock.read_ms(now)
        ends_ms = (lease.expires_clock_ms + int(lease.ttl_ms * DRIFT) for lease in state.leases.values())
        self._seen, self._looked_at = state.revision, now
        self._soonest = now + (min(ends_ms) - clock_ms) / 1000
        over = expirable(state, clock_ms)
        return ExpireLeases(leases=over, clock_ms=clock_ms, at_ms=now_ms) if over else None

    def _raise(self, state: ClusterState, now_ms: WallMs) -> Command | None:
        schema = raisable_schema(state)
        if schema is None:
            return None
        return RaiseSchema(to=schema, request_id=RequestId(self._ids.fresh()), actor=ACTOR, at_ms=now_ms)

    def _look_at(self, state: ClusterState) -> float:
        if not state.leases:
            return math.inf
        return self._soonest if state.revision == self._seen else min(self._soonest, self._looked_at + LOOK_S)

    def ended(self, now: Instant) -> None:
        """The last one is settled, whatever became of it."""
        self._is_in_flight = False
        self._not_before = now + PAUSE_S

    def due_at(self, state: ClusterState) -> float:
        """When a lease may have ended, if nobody renews it; never, when there is none or nobody to ask."""
        if self._clock is None or self._is_in_flight:
            return math.inf
        return max(self._not_before, self._look_at(state))
