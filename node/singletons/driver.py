"""The keeper of leases on trio."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
import trio

from consensus.state.cluster import ClusterState
from node.reconciler.events import Permit
from node.singletons.deadlines import Deadlines
from node.singletons.desk import LeaseDesk
from node.singletons.keeper import (
    KILL_MARGIN_S,
    RENEWALS,
    Acquire,
    Acquired,
    Claim,
    Effect,
    Ended,
    Event,
    Extend,
    Forget,
    LeaseKeeper,
    Observed,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
    RenewFailed,
    Tick,
)
from node.singletons.messages import LeaseGiven, LeasesDone, LeasesHeld, LeasesKept, LeaseWanted
from orca.errors import ConflictError, NotAvailableError, OrcaError
from orca.model.allocation import Allocation, AllocationStatus, DesiredStatus, Phase
from orca.model.ids import AllocationId, NodeId, singleton_lease
from orca.model.spec import RuntimeKind
from orca.model.units import Instant

_log = structlog.get_logger("orca.singletons")
LOOK_S: Final = 1.0
"""A computer that slept wakes late from a wait; so long at most."""
ASK_S: Final = 3.0


def claims_of(state: ClusterState, copies: Sequence[Allocation]) -> tuple[Claim, ...]:
    """What copies of singletons that are placed on one node want. Pure."""
    found = []
    for one in copies:
        spec = state.spec_of(one)
        assert spec.singleton is not None, f"{one.id} is no singleton's"
        held = state.leases.get(singleton_lease(one.service))
        is_taken = held is not None and held.holder != one.id
        found.append(
            Claim(
                allocation=one.id,
                lease=singleton_lease(one.service),
                lease_s=spec.singleton.lease_s,
                stop_s=spec.stop_timeout_s,
                is_wanted=one.desired is DesiredStatus.RUNNING,
                taken_by=f"{held.holder} on {held.node}" if held is not None and is_taken else "",
                is_guarded=spec.runtime is RuntimeKind.DOCKER,
            )
        )
    return tuple(found)


class Singletons:
    """Holds the leases of this node's copies.

    `clock` goes on while the computer sleeps. `changed` is called when a permit is another than it was, and never from
    within `permits`.
    """

    def __init__(
        self,
        node: NodeId,
        clock: Callable[[], Instant],
        desk: LeaseDesk,
        deadlines: Deadlines,
        *,
        changed: Callable[[], None],
    ) -> None:
        self._node = node
        self._clock = clock
        self.desk = desk
        self._deadlines = deadlines
        self._changed = changed
        resumed = {name: Instant(at + KILL_MARGIN_S) for name, at in deadlines.load().items()}
        self._keeper = LeaseKeeper(resumed)
        self._guarded: dict[AllocationId, None] = {}
        self._noted: dict[AllocationId, None] = {}
        self._permits: Mapping[AllocationId, Permit] = {}
        self._claims: tuple[Claim, ...] = ()
        self._mine: list[Allocation] = []
        self._alone: list[Allocation] = []
        self._orders: list[Acquire | Renew | Release] = []
        self._wake = trio.Event()

    # ------------------------------------------------------------------------- plain calls

    def permits(self, state: ClusterState) -> Mapping[AllocationId, Permit]:
        """What the copies of singletons may do that this node is to run by `state`; the others need none."""
        mine = list(state.copies.of_node(self._node).values())
        if len(mine) != len(self._mine) or not all(map(operator.is_, mine, self._mine)):
            self._mine = mine
            self._alone = [one for one in mine if state.spec_of(one).singleton is not None]
        self._claims = claims_of(state, self._alone)
        self._guarded = {one.allocation: None for one in self._claims if one.is_guarded}
        if self._claims or self._permits:
            self._step(Observed(claims=self._claims))
        self._permits = self._look()
        return self._permits

    def told(self, status: AllocationStatus) -> None:
        """What the reconciler says of a copy; one that has stopped is gone from its runtime."""
        if status.allocation in self._permits and status.phase is Phase.STOPPED:
            self._step(Ended(allocation=status.allocation))

    def _look(self) -> dict[AllocationId, Permit]:
        return {one.allocation: self._permit(one.allocation) for one in self._claims}

    def _permit(self, allocation: AllocationId) -> Permit:
        found = self._keeper.permit(allocation)
        if found.fence is None or allocation not in self._guarded or allocation in self._noted:
            return found
        return Permit(may_stay=found.may_stay, why="the end of its lease cannot be noted on this node")

    def _step(self, event: Event) -> None:
        for effect in self._keeper.step(event, self._clock()):
            self._perform(effect)
        self._wake.set()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Extend(allocation=allocation, until=until):
                if allocation in self._guarded:
                    self._note(allocation, until)
            case Forget(allocation=allocation):
                self._deadlines.forget(allocation)
                self._noted.pop(allocation, None)
            case _:
                self._orders.append(effect)

    def _note(self, allocation: AllocationId, until: Instant) -> None:
        """What is not noted is not started; if it runs, the guard goes by what it knows, which is earlier."""
        try:
            self._deadlines.extend(allocation, until)
        except NotAvailableError as error:
            _log.error("the end of a lease cannot be noted", allocation=allocation, reason=error.message)
        else:
            self._noted[allocation] = None

    # ------------------------------------------------------------------------------ on trio

    async def run(self) -> None:
        """Keep leases until cancelled; the guard ends what they were for, unless the next daemon goes on."""
        async with trio.open_nursery() as nursery:
            while True:
                self._take(Tick())
                self._wake = trio.Event()
                orders, self._orders = self._orders, []
                for order in orders:
                    nursery.start_soon(self._carry_out, order)
                deadline = self._keeper.deadline()
                left_s = math.inf if deadline is None else min(LOOK_S, max(0.0, deadline - self._clock()))
                with trio.move_on_after(left_s):
                    await self._wake.wait()

    def _take(self, event: Event) -> None:
        self._step(event)
        if self._look() != self._permits:
            self._changed()

    async def _carry_out(self, order: Acquire | Renew | Release) -> None:
        try:
            match order:
                case Acquire(claim=claim):
                    answer: Event = await self._acquire(claim)
                case Renew():
                    answer = await self._renew(order)
                case Release():
                    answer = await self._release(order)
        except Exception:  # noqa: BLE001 - see below
            # Without an answer a lease would never be asked for again.
            _log.exception("a question about a lease failed by a defect of this node")
            answer = _failed(order, "a defect of this node; its log has the details")
        self._take(answer)

    async def _acquire(self, claim: Claim) -> Event:
        try:
            if claim.is_guarded:
                await trio.to_thread.run_sync(self._deadlines.ensure_guard)
            given = await self.desk.ask(LeaseWanted(allocation=claim.allocation), LeaseGiven, timeout_s=ASK_S)
        except (OrcaError, trio.TooSlowError) as error:
            is_held = isinstance(error, ConflictError)
            return Refused(allocation=claim.allocation, reason=_words(error), is_held=is_held)
        return Acquired(allocation=claim.allocation, epoch=given.epoch)

    async def _renew(self, order: Renew) -> Event:
        shortest_s = min((one.lease_s for one in self._claims), default=ASK_S)
        try:
            if self._guarded:
                await trio.to_thread.run_sync(self._deadlines.ensure_guard)
            timeout_s = min(ASK_S, shortest_s / RENEWALS)
            kept = await self.desk.ask(LeasesHeld(leases=order.leases), LeasesKept, timeout_s=timeout_s)
        except (OrcaError, trio.TooSlowError) as error:
            return RenewFailed(reason=_words(error))
        return Renewed(kept=kept.leases)

    async def _release(self, order: Release) -> Event:
        try:
            await self.desk.ask(LeasesDone(leases=(order.lease,)), LeasesKept, timeout_s=ASK_S)
        except (OrcaError, trio.TooSlowError):
            return Released(allocation=order.allocation, is_done=False)
        return Released(allocation=order.allocation)


def _words(error: BaseException) -> str:
    return (error.message if isinstance(error, OrcaError) else "") or "the leader gave no answer in time"


def _failed(order: Acquire | Renew | Release, reason: str) -> Event:
    match order:
        case Acquire(claim=claim):
            return Refused(allocation=claim.allocation, reason=reason)
        case Renew():
            return RenewFailed(reason=reason)
        case Release(allocation=allocation):
            return Released(allocation=allocation, is_done=False)
