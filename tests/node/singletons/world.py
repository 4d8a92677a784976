"""Nodes with keepers, clocks that run apart, and a leader with the real leases; the network does what it likes.

A node's copy is modelled as the reconciler and the guard treat it: it starts under a permit with a fence, goes on while
it may, takes up to its stop timeout to end when it may not, and is dead at the deadline that was noted.
"""

import random
from dataclasses import dataclass, field
from typing import Final

from consensus.state.apply import apply
from consensus.state.applying.leases import LeaseClock, expirable
from consensus.state.cluster import ClusterState
from consensus.state.commands import AcquireLease, AdmitNode, ExpireLeases, LeaseCommand, LeaseRef, ReleaseLeases
from consensus.state.commands.leases import RenewLeases
from node.singletons.keeper import (
    KILL_MARGIN_S,
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
from orca.model.ids import AllocationId, LeaseEpoch, LeaseName, LogIndex, NodeId
from orca.model.units import Instant, WallMs

LEASE: Final = LeaseName("singleton/default/one")
LEASE_S: Final = 15.0
STOP_S: Final = 10.0
TIMEOUT_S: Final = 3.0
WALL: Final = WallMs(1_800_000_000_000)


@dataclass
class Running:
    """A copy that runs since it was started under `fence`; `ends_at` is when its stop will have had its effect."""

    allocation: AllocationId
    fence: LeaseEpoch
    ends_at: float | None = None


@dataclass
class Machine:
    """A node. Its clock runs at `rate`; `noted` are the deadlines that outlive its daemon."""

    name: NodeId
    rate: float
    keeper: LeaseKeeper = field(default_factory=lambda: LeaseKeeper({}))
    placed: dict[AllocationId, bool] = field(default_factory=dict)
    running: Running | None = None
    noted: dict[AllocationId, Instant] = field(default_factory=dict)
    is_cut: bool = False
    is_up: bool = True
    life: int = 0

    def runs(self) -> bool:
        return self.running is not None

    def clock(self, now: float) -> Instant:
        return Instant(1000.0 + now * self.rate)


@dataclass
class Message:
    """A question on its way, or the answer when `answer` is set."""

    machine: Machine
    life: int
    at: float
    order: Acquire | Renew | Release
    answer: Event | None = None
    asked_at: float = 0.0


class World:
    """Everything, on one true clock `now` that nobody can read."""

    def __init__(self, rng: random.Random, count: int = 3) -> None:
        self.rng = rng
        self.now = 0.0
        self.is_rough = False
        self.state = ClusterState()
        self.index = 0
        # Any two differ by less than the bound that leases allow for.
        self.machines = [Machine(NodeId(f"n{n}"), rng.uniform(0.976, 1.024)) for n in range(count)]
        for one in self.machines:
            self.apply(AdmitNode(node=one.name, name=one.name, at_ms=WALL))
        self.lead(self.machines[0])
        self.messages: list[Message] = []
        self.fences: list[LeaseEpoch] = []
        self.copies = 0

    def apply(self, command: AdmitNode | LeaseCommand) -> list[LeaseRef] | str:
        self.index += 1
        outcome = apply(self.state, LogIndex(self.index), command)
        return outcome.message or [LeaseRef(lease=one.name, epoch=one.epoch) for one in outcome.leases]

    def lead(self, machine: Machine) -> None:
        """Another leader begins where the state says that lease time was."""
        self.leader = machine
        self.lease_clock = LeaseClock(self.state.clock_ms, machine.clock(self.now))

    @property
    def clock_ms(self) -> int:
        return self.lease_clock.read_ms(self.leader.clock(self.now))

    # ------------------------------------------------------------------------- what happens

    def place(self, machine: Machine) -> AllocationId:
        """The scheduler, which may be wrong about every other copy, puts one here."""
        self.copies += 1
        name = AllocationId(f"c{self.copies}")
        machine.placed[name] = True
        return name

    def observe(self, machine: Machine) -> None:
        """The node hears of the state, unless it is cut off."""
        held = self.state.leases.get(LEASE)
        claims = tuple(
            Claim(
                allocation=name,
                lease=LEASE,
                lease_s=LEASE_S,
                stop_s=STOP_S,
                is_wanted=is_wanted,
                taken_by="" if held is None or held.holder == name else held.holder,
            )
            for name, is_wanted in machine.placed.items()
        )
        self.step(machine, Observed(claims=claims))

    def step(self, machine: Machine, event: Event) -> None:
        if not machine.is_up:
            return
        effects = machine.keeper.step(event, machine.clock(self.now))
        machine.keeper.check_invariants()
        for effect in effects:
            self._perform(machine, effect)
        self._reconcile(machine)

    def _perform(self, machine: Machine, effect: Effect) -> None:
        match effect:
            case Extend(allocation=allocation, until=until):
                machine.noted[allocation] = until
            case Forget(allocation=allocation):
                machine.noted.pop(allocation, None)
            case Acquire() | Renew() | Release():
                delay_s = self.rng.choice((0.0, 0.01, 0.5, 2.0, 5.0)) if self.is_rough else 0.01
                self.messages.append(Message(machine, machine.life, self.now + delay_s, effect, asked_at=self.now))
                if delay_s > TIMEOUT_S:  # nobody waits for it any more, and it comes all the same
                    self._answer(self.messages[-1], _no_answer(effect), self.now + TIMEOUT_S)

    def _reconcile(self, machine: Machine) -> None:
        """As the reconciler: start what may run and nothing else, stop what may not."""
        copy = machine.running
        if copy is None:
            for name, is_wanted in machine.placed.items():
                permit = machine.keeper.permit(name)
                if is_wanted and permit.fence is not None and not permit.is_over:
                    assert name in machine.noted, "what is not noted would not be guarded"
                    machine.running = Running(name, permit.fence)
                    if permit.fence not in self.fences:
                        assert not self.fences or permit.fence > self.fences[-1], "a number that is not larger"
                        self.fences.append(permit.fence)
                    return
            return
        permit = machine.keeper.permit(copy.allocation)
        is_foreign = permit.fence != copy.fence and not (permit.fence is None and permit.may_stay)
        must_stop = permit.is_over or is_foreign or not machine.placed.get(copy.allocation, False)
        if must_stop:
            grace_s = min(STOP_S, LEASE_S / 3) if permit.is_over else STOP_S
            ends_at = self.now + self.rng.uniform(0, grace_s / machine.rate)
            copy.ends_at = min(ends_at, copy.ends_at if copy.ends_at is not None else ends_at)

    # ----------------------------------------------------------------------------- time

    def advance(self, seconds: float) -> None:
        """Let time pass in small steps; everything that is due happens."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.1)
            self._lead_on()
            for message in [one for one in self.messages if one.at <= self.now]:
                self.messages.remove(message)
                self._deliver(message)
            for machine in self.machines:
                self._live(machine)
            alive = [one.running for one in self.machines if one.running is not None]
            assert len(alive) <= 1, f"two run at {self.now}: {alive}"

    def _lead_on(self) -> None:
        over = expirable(self.state, self.clock_ms)
        if over and not self.leader.is_cut:
            self.apply(ExpireLeases(leases=over, clock_ms=self.clock_ms, at_ms=WALL))

    def _live(self, machine: Machine) -> None:
        copy = machine.running
        if copy is not None:
            until = machine.noted.get(copy.allocation)
            is_killed = until is not None and machine.clock(self.now) >= until
            if is_killed or (copy.ends_at is not None and self.now >= copy.ends_at and machine.is_up):
                machine.running = None
        if not machine.is_up:
            return
        if not machine.is_cut:
            self.observe(machine)
        due = machine.keeper.deadline()
        if due is not None and machine.clock(self.now) >= due:
            self.step(machine, Tick())
        for name, is_wanted in list(machine.placed.items()):
            is_over = machine.keeper.permit(name).is_over or not is_wanted
            if is_over and (machine.running is None or machine.running.allocation != name):
                self.step(machine, Ended(allocation=name))
                if not machine.is_cut:
                    del machine.placed[name]  # the cluster hears that it stopped, and forgets it

    def _deliver(self, message: Message) -> None:
        machine = message.machine
        if message.life != machine.life or not machine.is_up:
            if message.answer is None and not machine.is_cut:
                self._serve(message)  # what was sent before a crash arrives all the same
            return
        if message.answer is not None:
            self.step(machine, message.answer)
            return
        lost = machine.is_cut or (self.leader.is_cut and self.leader is not machine) or self._is_lost()
        answer = None if lost else self._serve(message)
        gives_up_at = message.asked_at + TIMEOUT_S
        if self.now > gives_up_at:
            return
        at = self.now + (self.rng.choice((0.0, 0.05, 1.0)) if self.is_rough else 0.01)
        if answer is None or self._is_lost() or at > gives_up_at:
            answer, at = _no_answer(message.order), gives_up_at
        self._answer(message, answer, at)

    def _answer(self, message: Message, answer: Event, at: float) -> None:
        self.messages.append(Message(message.machine, message.life, at, message.order, answer))

    def _is_lost(self) -> bool:
        return self.is_rough and self.rng.random() < 0.05

    def _serve(self, message: Message) -> Event:
        """As the leader's desk."""
        machine, order = message.machine, message.order
        match order:
            case Acquire(claim=claim):
                found = self.apply(
                    AcquireLease(
                        lease=claim.lease,
                        node=machine.name,
                        holder=str(claim.allocation),
                        ttl_ms=round(claim.lease_s * 1000),
                        clock_ms=self.clock_ms,
                        at_ms=WALL,
                    )
                )
                if isinstance(found, str):
                    return Refused(allocation=claim.allocation, reason=found, is_held=True)
                return Acquired(allocation=claim.allocation, epoch=found[0].epoch)
            case Renew(leases=leases):
                kept = self.apply(RenewLeases(node=machine.name, leases=leases, clock_ms=self.clock_ms, at_ms=WALL))
                assert not isinstance(kept, str)
                return Renewed(kept=tuple(kept))
            case Release(lease=lease):
                self.apply(ReleaseLeases(node=machine.name, leases=(lease,), at_ms=WALL))
                return Released(allocation=order.allocation)

    # --------------------------------------------------------------------------- faults

    def crash(self, machine: Machine) -> None:
        """The daemon is killed; the copy runs on, and the guard with it."""
        machine.is_up = False
        machine.life += 1

    def restart(self, machine: Machine) -> None:
        if not machine.is_up:
            resumed = {name: Instant(at + KILL_MARGIN_S) for name, at in machine.noted.items()}
            machine.keeper, machine.is_up = LeaseKeeper(resumed), True
            self.observe(machine)


def _no_answer(order: Acquire | Renew | Release) -> Event:
    match order:
        case Acquire(claim=claim):
            return Refused(allocation=claim.allocation, reason="no answer")
        case Renew():
            return RenewFailed(reason="no answer")
        case Release(allocation=allocation):
            return Released(allocation=allocation, is_done=False)
