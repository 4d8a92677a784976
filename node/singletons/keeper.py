"""Which leases this node asks for, renews and gives back, and until when its singletons may run. Pure."""

from collections.abc import Mapping
from typing import Final, TypeAlias, assert_never

import msgspec

from consensus.state.applying.leases import holder_ttl_s
from consensus.state.commands import LeaseRef
from node.reconciler.events import Permit
from orca.model.ids import AllocationId, LeaseEpoch, LeaseName
from orca.model.units import Instant, format_duration

STOP_MARGIN_S: Final = 1.0
"""Between the end of the time to stop in and the end of the lease: for the orders on their way."""
KILL_MARGIN_S: Final = 0.5
"""So long before the end of a lease the guard kills what still runs."""
RENEWALS: Final = 5
"""How many renewals are tried in the time of one lease, when all goes well."""
RETRY_S: Final = 1.0
LOOK_S: Final = 3.0
"""What is held by another, as far as this node knows, is asked for so often nevertheless: it may be behind."""


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """An event or an effect."""


class Claim(_Value, frozen=True):
    """A copy of a singleton that is placed here.

    `is_wanted`: it is to run, not to stop. `taken_by`: who else holds its lease, as far as this node knows.
    `is_guarded`: it outlives the daemon, so a guard has to watch it.
    """

    allocation: AllocationId
    lease: LeaseName
    lease_s: float
    stop_s: float
    is_wanted: bool = True
    taken_by: str = ""
    is_guarded: bool = True


class Tick(_Value, frozen=True):
    """Time has passed; `deadline()` was reached."""


class Observed(_Value, frozen=True):
    """All copies of singletons that are placed here."""

    claims: tuple[Claim, ...]


class Ended(_Value, frozen=True):
    """Nothing is left here of a copy that was stopped."""

    allocation: AllocationId


class Acquired(_Value, frozen=True):
    """The answer to `Acquire`: the copy has its lease."""

    allocation: AllocationId
    epoch: LeaseEpoch


class Refused(_Value, frozen=True):
    """The answer to `Acquire`: not now. `is_held`: another copy has it, for certain."""

    allocation: AllocationId
    reason: str
    is_held: bool = False


class Renewed(_Value, frozen=True):
    """The answer to `Renew`: those that go on; what was asked for and is not here is lost."""

    kept: tuple[LeaseRef, ...]


class RenewFailed(_Value, frozen=True):
    """No answer to `Renew`."""

    reason: str


class Released(_Value, frozen=True):
    """The answer to `Release`; not `is_done`: nobody could be told."""

    allocation: AllocationId
    is_done: bool = True


Event: TypeAlias = Tick | Observed | Ended | Acquired | Refused | Renewed | RenewFailed | Released


class Extend(_Value, frozen=True):
    """What runs of `allocation` is to be dead at `until`. Done before the permit is given."""

    allocation: AllocationId
    until: Instant


class Forget(_Value, frozen=True):
    """Nothing runs of `allocation`: nobody has to watch it."""

    allocation: AllocationId


class Acquire(_Value, frozen=True):
    """Ask the leader for the lease; one answer comes."""

    claim: Claim


class Renew(_Value, frozen=True):
    """Ask the leader to prolong these; one answer comes."""

    leases: tuple[LeaseRef, ...]


class Release(_Value, frozen=True):
    """Give the lease back; one answer comes."""

    allocation: AllocationId
    lease: LeaseRef


Effect: TypeAlias = Extend | Forget | Acquire | Renew | Release


class _Holding(msgspec.Struct, kw_only=True):
    """One copy. `until`: it must be dead then, when there is any; it may be set without an epoch after a restart."""

    claim: Claim
    epoch: LeaseEpoch | None = None
    until: Instant | None = None
    asked_at: Instant | None = None
    try_at: Instant
    is_asking: bool = False
    is_lost: bool = False
    has_ended: bool = False
    why: str = ""

    @property
    def ref(self) -> LeaseRef | None:
        """What is held."""
        return None if self.epoch is None else LeaseRef(lease=self.claim.lease, epoch=self.epoch)

    @property
    def stop_at(self) -> Instant | None:
        """When it has to begin to stop."""
        if self.until is None or self.is_lost or self.has_ended:
            return None
        return _stop_at(self.claim, self.until, is_resumed=self.epoch is None)


def _stop_at(claim: Claim, until: Instant, *, is_resumed: bool) -> Instant:
    # One that an earlier daemon left is mostly about to be adopted: it is let run for as long as the guard lets it.
    grace_s = 0.0 if is_resumed else min(claim.stop_s, claim.lease_s / 3)
    return Instant(until - STOP_MARGIN_S - grace_s)


class LeaseKeeper:
    """`resumed`: until when copies may run that an earlier daemon started here."""

    def __init__(self, resumed: Mapping[AllocationId, Instant]) -> None:
        self._resumed = dict(resumed)
        self._held: dict[AllocationId, _Holding] = {}
        self._renewing: tuple[AllocationId, ...] = ()
        self._renew_at: Instant | None = None
        self._effects: list[Effect] = []

    def permit(self, allocation: AllocationId) -> Permit:
        """What `allocation` may do now; of what is no singleton nobody asks."""
        one = self._held.get(allocation)
        if one is None:
            return Permit()
        if one.is_lost:
            return Permit(is_over=True, why=one.why)
        return Permit(fence=one.epoch, may_stay=one.until is not None, why=one.why)

    def step(self, event: Event, now: Instant) -> list[Effect]:
        """Take in `event`; the effects are performed in list order."""
        self._effects = []
        match event:
            case Tick():
                pass
            case Observed(claims=claims):
                self._on_observed(claims, now)
            case Ended(allocation=allocation):
                if allocation in self._held:
                    self._on_ended(self._held[allocation], now)
            case Acquired():
                self._on_acquired(event)
            case Refused():
                self._on_refused(event, now)
            case Renewed(kept=kept):
                self._on_renewed(kept)
            case RenewFailed():
                self._on_renew_failed(event, now)
            case Released():
                self._on_released(event, now)
            case _:
                assert_never(event)
        self._lose_what_ends(now)
        self._ask(now)
        self._renew(now)
        return self._effects

    def deadline(self) -> Instant | None:
        """When it next wants a `Tick`."""
        times = [one.stop_at for one in self._held.values()]
        times += [one.try_at for one in self._held.values() if self._wants(one)]
        if not self._renewing and any(self._is_renewed(one) for one in self._held.values()):
            times.append(self._renew_at)
        return min((at for at in times if at is not None), default=None)

    def check_invariants(self) -> None:
        """Raise AssertionError when it contradicts itself."""
        for name, one in self._held.items():
            assert one.epoch is None or one.until is not None, f"{name} holds a lease without an end"
            assert not (one.is_asking and one.epoch is not None and not one.has_ended), f"{name} asks for what it has"

    # ------------------------------------------------------------------------ what is to be

    def _on_observed(self, claims: tuple[Claim, ...], now: Instant) -> None:
        placed = {claim.allocation: claim for claim in claims}
        for name, claim in placed.items():
            one = self._held.get(name)
            if one is None:
                until = self._resumed.pop(name, None)
                if until is not None and now >= _stop_at(claim, until, is_resumed=True):
                    until = None  # nothing may run of it by now; it asks as one that was never started
                self._held[name] = _Holding(claim=claim, try_at=now, until=until)
                continue
            if one.claim.taken_by and not claim.taken_by:
                one.try_at = now
            one.claim = claim
        for name in [name for name in self._held if name not in placed]:
            one = self._held[name]
            if one.until is None:
                one.has_ended = True
            elif not one.has_ended:
                # Nobody says any more when it is gone from here; the guard sees to that.
                one.is_lost, one.why = True, one.why or "the cluster has forgotten it"
            is_done = one.has_ended and one.epoch is None
            if not one.is_asking and (is_done or (one.until is not None and now >= one.until)):
                del self._held[name]

    def _on_ended(self, one: _Holding, now: Instant) -> None:
        if one.has_ended:
            return
        one.has_ended, one.try_at = True, now
        one.until = None if one.epoch is None else one.until
        self._effects.append(Forget(allocation=one.claim.allocation))

    def _lose_what_ends(self, now: Instant) -> None:
        for one in self._held.values():
            at = one.stop_at
            if at is not None and now >= at:
                why = f": {one.why}" if one.why else ""
                self._lose(one, f"its lease of {format_duration(one.claim.lease_s)} could not be renewed{why}")

    def _lose(self, one: _Holding, why: str) -> None:
        one.is_lost, one.why = True, why

    # -------------------------------------------------------------------- getting and giving back

    def _wants(self, one: _Holding) -> bool:
        """Whether it has something to ask of the leader: a lease, or to be rid of one."""
        if one.is_asking:
            return False
        if one.has_ended:
            return one.epoch is not None
        return one.epoch is None and not one.is_lost and one.claim.is_wanted

    def _ask(self, now: Instant) -> None:
        for one in self._held.values():
            if not self._wants(one) or now < one.try_at:
                continue
            one.is_asking, one.asked_at = True, now
            if one.ref is not None:
                self._effects.append(Release(allocation=one.claim.allocation, lease=one.ref))
            elif one.claim.taken_by and one.until is None and not one.why:
                # Not yet worth a question: it is told when that ends, and looks by itself now and then.
                one.is_asking, one.asked_at = False, None
                one.why = f"it waits for its lease: {one.claim.taken_by} has it"
                one.try_at = Instant(now + LOOK_S)
            else:
                self._effects.append(Acquire(claim=one.claim))

    def _on_acquired(self, event: Acquired) -> None:
        one = self._held.get(event.allocation)
        if one is None:
            return
        assert one.asked_at is not None, "nobody asked"
        one.is_asking = False
        one.epoch, one.until = event.epoch, self._end_of(one, one.asked_at)
        if one.has_ended:
            return
        if not one.is_lost:
            one.why = ""
            self._extend(one)
            self._plan_renewal()

    def _on_refused(self, event: Refused, now: Instant) -> None:
        one = self._held.get(event.allocation)
        if one is None:
            return
        one.is_asking = False
        one.try_at = Instant(now + (LOOK_S if event.is_held else RETRY_S))
        if one.is_lost or one.has_ended:
            return
        if event.is_held and one.until is not None:
            self._lose(one, f"another copy has its lease: {event.reason}")
        else:
            one.why = f"it waits for its lease: {event.reason}"

    def _on_released(self, event: Released, now: Instant) -> None:
        one = self._held.get(event.allocation)
        if one is None:
            return
        one.is_asking = False
        one.try_at = Instant(now + RETRY_S)
        if event.is_done or (one.until is not None and now >= one.until):
            one.epoch = one.until = None

    # -------------------------------------------------------------------------------- renewing

    def _is_renewed(self, one: _Holding) -> bool:
        return one.epoch is not None and not (one.is_lost or one.has_ended)

    def _plan_renewal(self) -> None:
        """The next one is due a fifth of the shortest lease after the oldest question."""
        held = [one for one in self._held.values() if self._is_renewed(one)]
        if held and not self._renewing:
            oldest = min(one.asked_at for one in held if one.asked_at is not None)
            self._renew_at = Instant(oldest + min(one.claim.lease_s for one in held) / RENEWALS)

    def _renew(self, now: Instant) -> None:
        held = [one for one in self._held.values() if self._is_renewed(one)]
        if self._renewing or not held or self._renew_at is None or now < self._renew_at:
            return
        for one in held:
            one.asked_at = now
        self._renewing = tuple(one.claim.allocation for one in held)
        self._effects.append(Renew(leases=tuple(one.ref for one in held if one.ref is not None)))

    def _on_renewed(self, kept: tuple[LeaseRef, ...]) -> None:
        asked, self._renewing, self._renew_at = self._renewing, (), None
        going_on = frozenset(kept)
        for name in asked:
            one = self._held.get(name)
            if one is None or not self._is_renewed(one) or one.asked_at is None:
                continue
            if one.ref not in going_on:
                self._lose(one, "its lease is not its own any more")
                continue
            one.until, one.why = self._end_of(one, one.asked_at), ""
            self._extend(one)
        self._plan_renewal()

    def _on_renew_failed(self, event: RenewFailed, now: Instant) -> None:
        asked, self._renewing = self._renewing, ()
        self._renew_at = Instant(now + RETRY_S)
        for name in asked:
            if (one := self._held.get(name)) is not None and not one.is_lost:
                one.why = event.reason

    def _end_of(self, one: _Holding, asked_at: Instant) -> Instant:
        return Instant(asked_at + holder_ttl_s(round(one.claim.lease_s * 1000)))

    def _extend(self, one: _Holding) -> None:
        assert one.until is not None, "a lease that is held has an end"
        until = Instant(one.until - KILL_MARGIN_S)
        self._effects.append(Extend(allocation=one.claim.allocation, until=until))
