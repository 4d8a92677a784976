"""Leases: one holder at a time, a fencing number for each, and a clock that cannot jump.

*Lease time* (`clock_ms`) is not the time of day. It is a clock of the cluster that only the leader
reads (`LeaseClock`): it starts where the log says that it was (`ClusterState.clock_ms`), and goes
on by the leader's monotonic clock. The leader stamps it on each lease command, also on those that
peers forward, and `apply` keeps the largest. Therefore

- a change of the time of day, on any node, moves no lease;
- a new leader starts at a lease time that is not later than the old leader's was: a change of
  leader prolongs leases and never shortens one.

Nothing expires by itself. The leader, which has seen `expires_clock_ms` pass (and the drift
bound `DRIFT` on top), proposes `ExpireLeases`; a renewal that is committed before makes it
void, because then the lease has a later end. A holder must stop `holder_ttl_s` after the moment *before*
which it sent its last acknowledged request, by its own monotonic clock: that is earlier.

*Epochs* fence: a holder's number is larger than any earlier one of any lease, since it is made
of the group's epoch and the index of the command that gave it (Gray and Cheriton 1989 for
leases; the number is the sequencer of Burrows' Chubby, §2.4).
"""

from typing import Final, assert_never

from consensus.state.applying.results import (
    NOTHING,
    TIME_MS_MAX,
    Done,
    Refusal,
    check_room,
    check_text,
    touch,
)
from consensus.state.cluster import ClusterState
from consensus.state.commands import AcquireLease, ExpireLeases, LeaseCommand, LeaseRef, ReleaseLeases, RenewLeases
from consensus.state.records import LeaseRecord
from orca.model.ids import LeaseEpoch, StateRevision
from orca.model.units import Instant

LEASES_MAX: Final = 10_000
TTL_MS_MIN: Final = 1_000
TTL_MS_MAX: Final = 86_400_000
DRIFT: Final = 0.05
"""By how much two computers' monotonic clocks may differ in speed, on the safe side by far."""
INDEX_BITS: Final = 40


class LeaseClock:
    """The leader's lease time; made when it begins to lead, from the state that it has applied."""

    def __init__(self, applied_clock_ms: int, now: Instant) -> None:
        self._started_ms = applied_clock_ms
        self._started_at = now

    def read_ms(self, now: Instant) -> int:
        """The lease time at `now`, to stamp on a command."""
        return self._started_ms + max(0, int((now - self._started_at) * 1000))


def holder_ttl_s(ttl_ms: int) -> float:
    """For how long a holder may act after it sent the request that was granted, by its own clock."""
    return ttl_ms / 1000 * (1 - DRIFT)


def expirable(state: ClusterState, clock_ms: int) -> tuple[LeaseRef, ...]:
    """The leases that the leader may declare expired at lease time `clock_ms`."""
    return tuple(
        LeaseRef(lease=lease.name, epoch=lease.epoch) for lease in state.leases.values() if _is_over(lease, clock_ms)
    )


def _is_over(lease: LeaseRecord, clock_ms: int) -> bool:
    return clock_ms >= lease.expires_clock_ms + int(lease.ttl_ms * DRIFT)


def apply_lease(state: ClusterState, at: StateRevision, command: LeaseCommand) -> Done:
    """Carry out a command about leases."""
    if not isinstance(command, ReleaseLeases) and not 0 <= command.clock_ms <= TIME_MS_MAX:
        raise Refusal("invalid_request", f"lease time {command.clock_ms} cannot be")
    match command:
        case AcquireLease():
            return _acquire(state, at, command)
        case RenewLeases():
            return _renew(state, command)
        case ReleaseLeases():
            return _release(state, at, command)
        case ExpireLeases():
            return _expire(state, at, command)
        case _:
            assert_never(command)


def _advance(state: ClusterState, clock_ms: int) -> int:
    state.clock_ms = max(state.clock_ms, clock_ms)
    return state.clock_ms


def _acquire(state: ClusterState, at: StateRevision, command: AcquireLease) -> Done:
    check_text("the lease's name", command.lease)
    check_text("the lease's holder", command.holder)
    if command.node not in state.nodes:
        raise Refusal("forbidden", f"{command.node} is no node of this cluster and gets no lease")
    if not TTL_MS_MIN <= command.ttl_ms <= TTL_MS_MAX:
        raise Refusal(
            "invalid_request", f"a lease of {command.ttl_ms} ms cannot be; {TTL_MS_MIN} to {TTL_MS_MAX} ms is right"
        )
    held = state.leases.get(command.lease)
    is_same = held is not None and (held.node, held.holder) == (command.node, command.holder)
    if held is not None and not is_same:
        left_ms = max(0, held.expires_clock_ms - max(state.clock_ms, command.clock_ms))
        raise Refusal(
            "conflict",
            f"{held.holder} on {held.node} holds the lease {held.name}, for {left_ms / 1000:.1f} s more "
            "unless it renews or releases it; try again then",
        )
    if held is None:
        check_room("leases", len(state.leases), LEASES_MAX, "release some")
    lease = LeaseRecord(
        name=command.lease,
        epoch=LeaseEpoch((state.epoch << INDEX_BITS) + at) if held is None else held.epoch,
        node=command.node,
        holder=command.holder,
        ttl_ms=command.ttl_ms,
        renewed_clock_ms=_advance(state, command.clock_ms),
    )
    state.leases[lease.name] = lease
    if held is None:
        touch(state, at)
    return Done(leases=(lease,))


def _held(state: ClusterState, ref: LeaseRef) -> LeaseRecord | None:
    lease = state.leases.get(ref.lease)
    return lease if lease is not None and lease.epoch == ref.epoch else None


def _renew(state: ClusterState, command: RenewLeases) -> Done:
    if command.node not in state.nodes:
        raise Refusal("forbidden", f"{command.node} is no node of this cluster and keeps no lease")
    clock_ms = _advance(state, command.clock_ms)
    kept: list[LeaseRecord] = []
    for ref in dict.fromkeys(command.leases):
        lease = _held(state, ref)
        if lease is None or lease.node != command.node:
            continue
        lease = LeaseRecord(
            name=lease.name,
            epoch=lease.epoch,
            node=lease.node,
            holder=lease.holder,
            ttl_ms=lease.ttl_ms,
            renewed_clock_ms=clock_ms,
        )
        state.leases[lease.name] = lease
        kept.append(lease)
    return Done(leases=tuple(kept))


def _release(state: ClusterState, at: StateRevision, command: ReleaseLeases) -> Done:
    for ref in command.leases:
        lease = _held(state, ref)
        if lease is not None and lease.node == command.node:
            del state.leases[lease.name]
            touch(state, at)
    return NOTHING


def _expire(state: ClusterState, at: StateRevision, command: ExpireLeases) -> Done:
    # By the command's own time: the largest one seen may be that of a renewal just before.
    _advance(state, command.clock_ms)
    for ref in command.leases:
        lease = _held(state, ref)
        if lease is not None and _is_over(lease, command.clock_ms):
            del state.leases[lease.name]
            touch(state, at)
    return NOTHING
