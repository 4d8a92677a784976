"""What runs a simulated Raft machine, whatever it replicates: lives, a disk and a network that fail.

It is the driver's counterpart and keeps the driver's rules: the effects of one step are performed in list
order and completely before the next step, one write at a time, and what came in meanwhile is handed in
together. It dies between any two effects when it is told to.
"""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from consensus.raft import (
    Apply,
    Effect,
    Event,
    MembershipChange,
    MembershipProposed,
    Message,
    MessageReceived,
    MessagesReceived,
    PeerUnreachable,
    ProposalId,
    Proposed,
    ProposedMany,
    RaftConfig,
    RaftMachine,
    RestoreSnapshot,
    SaveFailed,
    SendMessage,
    Tick,
    TransferRequested,
    collect_write,
    decode_message,
    encode_message,
)
from consensus.storage import Entry, LoadedLog, LogWrite, Membership, Snapshot
from orca.errors import StoreFullError
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant
from simulations.clock import DriftingClock
from simulations.disk import SimulatedDisk
from simulations.judge import Judge
from simulations.network import Address, Network
from simulations.world import Chance, Timer, World

_INBOX_MAX = 4096


class Tuning(msgspec.Struct, kw_only=True):
    """How the nodes of a run behave.

    A write takes an exponential time of mean `sync_s`. `log_entries_kept`: then the log is compacted.
    `crash_chance` is the chance to die before an effect, `unreachable_chance` the one to be told that a peer is down.
    """

    raft: RaftConfig = msgspec.field(default_factory=RaftConfig)
    sync_s: float = 0.002
    log_entries_kept: int = 1000
    crash_chance: float = 0.0
    unreachable_chance: float = 0.5


class ProcessCounts(msgspec.Struct, kw_only=True):
    """What happened to one node."""

    steps: int = 0
    crashes: int = 0
    crashes_between_effects: int = 0
    crashes_while_writing: int = 0
    saves_failed: int = 0
    slow_writes: int = 0
    stood_still: int = 0
    snapshots_taken: int = 0
    snapshots_restored: int = 0


class _Gone(Exception):  # noqa: N818 - a signal, not an error
    """The process died in the middle of something."""


class Shell:
    """One node over all its lives; what it replicates is up to who inherits.

    `voters` are the group that an empty log begins with; empty for a node that is to be added later.
    """

    def __init__(
        self,
        node: NodeId,
        voters: frozenset[NodeId],
        world: World,
        network: Network[bytes],
        judge: Judge,
        tuning: Tuning,
    ) -> None:
        self.node = node
        self.voters = voters
        self.world = world
        self.network = network
        self.judge = judge
        self.tuning = tuning
        self.counts = ProcessCounts()
        self.clock = DriftingClock()
        self.disk = SimulatedDisk(world.chance(f"{node}/disk"))
        self.is_gone_for_good = False
        self._chance = world.chance(f"{node}/process")
        self._machine: RaftMachine | None = None
        self._life = 0
        self._next_id = 0
        self._resume_at: float | None = None
        self._reset()

    def _reset(self) -> None:
        self._inbox: list[MessageReceived] = []
        self._proposals: list[Proposed] = []
        self._others: deque[Event] = deque()
        self._leads_term: Term | None = None
        self._timer: Timer | None = None
        self._is_writing = False
        self._is_stepping = False
        self._postponed: list[Callable[[], None]] = []

    # What others see.

    @property
    def is_up(self) -> bool:
        """Whether its process runs, standing still or not."""
        return self._machine is not None

    @property
    def is_free(self) -> bool:
        """Whether what it is asked now is stepped at once."""
        return self.is_up and not self._is_writing and not self._is_stepping and self._resume_at is None

    @property
    def machine(self) -> RaftMachine:
        """The machine of this life."""
        assert self._machine is not None, f"{self.node} is down"
        return self._machine

    @property
    def is_leader(self) -> bool:
        """Whether it leads, as far as it knows."""
        return self._machine is not None and self._machine.is_leader

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as it knows."""
        return None if self._machine is None else self._machine.leader

    @property
    def membership(self) -> Membership | None:
        """The group as this node knows it; None while it is down."""
        return None if self._machine is None else self._machine.membership

    # Lives.

    def start(self) -> None:
        """A new life, with what the disk has."""
        assert self._machine is None, f"{self.node} runs already"
        if self.is_gone_for_good:
            return
        self._reset()
        self._life += 1
        self._resume_at = None
        now = self.world.now
        self.clock.set(now, rate=self.clock.rate, start=self._chance.uniform(0, 1e6))
        loaded = self.disk.open().load()
        machine = self._make_machine(loaded, self.world.chance(f"{self.node}/life {self._life}"))
        self.world.note(f"{self.node} starts, log {loaded.snapshot_index}..{loaded.last_index}")
        self.judge.started(self.node, loaded.snapshot_index, self._digest())
        self._tell_stored(self.disk.term_at(loaded.snapshot_index), loaded.entries)
        self._machine = machine
        self.network.attach(self.node, self.receive)
        self._others.append(Tick())
        self._work()

    def crash(self) -> None:
        """The process is gone, in the middle of whatever it did."""
        if self._machine is None:
            return
        self.counts.crashes += 1
        self.counts.crashes_while_writing += self._is_writing
        self.world.note(f"{self.node} crashes{' while it writes' if self._is_writing else ''}")
        self._machine = None
        self._life += 1
        if self._timer is not None:
            self._timer.cancel()
        self.network.detach(self.node)
        self.disk.crash()
        self._reset()
        self._crashed()

    def stand_still(self, pause_s: float) -> None:
        """Do nothing at all for so long, as after SIGSTOP; what comes in waits."""
        if self._machine is None:
            return
        until = self.world.now + pause_s
        if self._resume_at is None or until > self._resume_at:
            self.counts.stood_still += 1
            self.world.note(f"{self.node} stands still for {pause_s:.2f} s")
            self._resume_at = until
            life = self._life
            self.world.at(until, lambda: self._resume(life))

    def _resume(self, life: int) -> None:
        if life != self._life or self._resume_at is None or self.world.now < self._resume_at:
            return
        self._resume_at = None
        postponed, self._postponed = self._postponed, []
        for action in postponed:
            action()
        self._work()

    # What comes in.

    def receive(self, sender: Address, payload: bytes) -> None:
        """A message arrives."""
        message = decode_message(payload)
        self.world.note(f"{sender} -> {self.node}", payload, lambda: repr(message))
        if len(self._inbox) < _INBOX_MAX:
            self._inbox.append(MessageReceived(sender=NodeId(str(sender)), message=message))
        self._work()

    def change(self, change: MembershipChange) -> None:
        """Somebody wants the group changed."""
        proposal_id = ProposalId(self._fresh_id())
        self.world.note(f"{self.node} is asked for {change}")
        self._others.append(MembershipProposed(proposal_id=proposal_id, change=change))
        self._work()

    def transfer(self, to: NodeId | None) -> None:
        """Somebody wants another leader."""
        self.world.note(f"{self.node} is asked to hand over to {to}")
        self._others.append(TransferRequested(to=to))
        self._work()

    def _fresh_id(self) -> int:
        self._next_id += 1
        return self._next_id

    # Steps.

    def _work(self) -> None:
        if self._is_stepping or self._machine is None:
            return  # an effect of the step under way brought it about, or ended this life
        self._is_stepping = True
        life = self._life
        try:
            while life == self._life and not self._is_writing and self._resume_at is None:
                event = self._next_event()
                if event is None:
                    break
                self._step(event)
        except _Gone:
            return
        finally:
            if life == self._life:
                self._is_stepping = False
        if life == self._life and not self._is_writing and self._resume_at is None:
            self._set_timer()

    def _next_event(self) -> Event | None:
        if self._inbox:
            messages, self._inbox = tuple(self._inbox), []
            return messages[0] if len(messages) == 1 else MessagesReceived(messages=messages)
        if self._proposals:
            proposals, self._proposals = tuple(self._proposals), []
            return proposals[0] if len(proposals) == 1 else ProposedMany(proposals=proposals)
        if self._others:
            return self._others.popleft()
        machine = self.machine
        deadline = machine.deadline()
        if deadline is not None and self.local_now() >= deadline:
            return Tick()
        return self._own_event()

    def _set_timer(self) -> None:
        deadline = self.machine.deadline()
        if deadline is None or deadline == float("inf"):
            return
        when = self.clock.world(deadline) + 1e-6  # never early, whatever the rounding
        if self._timer is not None:
            if self._timer.when <= when:
                return
            self._timer.cancel()
        self._timer = self.world.at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._machine is not None:
            self._work()

    def local_now(self) -> Instant:
        """What its clock shows."""
        return self.clock.local(self.world.now)

    def _step(self, event: Event) -> None:
        self.counts.steps += 1
        self._perform(self._effects_of(event))

    def _effects_of(self, event: Event) -> list[Effect]:
        try:
            effects = self.machine.step(event, self.local_now())
            self.machine.check_invariants()
        except AssertionError as error:
            self.judge.report("invariants", f"{self.node}: {error}")
            self.crash()
            raise _Gone from None
        return effects

    def _perform(self, effects: Sequence[Effect]) -> None:
        before, write, after = collect_write(effects, self.machine.commit_index)
        for effect in before:
            self._perform_one(effect)
        if write is None:
            self._perform_rest(after)
            return
        self._maybe_die()
        try:
            self.disk.stage(write)
        except StoreFullError as error:
            self.counts.saves_failed += 1
            self.world.note(f"{self.node} cannot write")
            self._perform_rest(self._effects_of(SaveFailed(detail=error.message)))
            return
        self._is_writing = True
        prev_term = self.disk.term_at(LogIndex(write.entries[0].index - 1)) if write.entries else None
        pause_s = self._chance.pause_s(self.tuning.sync_s)
        self.counts.slow_writes += pause_s > 0.05
        life = self._life
        self.world.after(pause_s, lambda: self._written(life, write, prev_term, after))

    def _written(self, life: int, write: LogWrite, prev_term: Term | None, after: list[Effect]) -> None:
        """The write has come to the disk, as far as this process is still there."""
        if life != self._life:
            return
        if self._resume_at is not None:
            self._postponed.append(lambda: self._written(life, write, prev_term, after))
            return
        try:
            self._maybe_die()
            self._sync()
            self._is_writing = False
            self._tell_stored(prev_term, write.entries)
            self._is_stepping = True
            self._perform_rest(after)
        except _Gone:
            return
        self._is_stepping = False
        self._work()

    def _sync(self) -> None:
        self.disk.sync()

    def _tell_stored(self, prev_term: Term | None, entries: Sequence[Entry]) -> None:
        if entries:
            self.judge.stored(self.node, prev_term, entries)

    def _perform_rest(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self._perform_one(effect)
        machine = self.machine
        if machine.is_leader and machine.term != self._leads_term:
            self._leads_term = machine.term
            self.world.note(f"{self.node} leads term {machine.term}")
            self.judge.leads(self.node, machine.term, self.disk.durable.snapshot_index, self.disk.term_at)

    def _maybe_die(self) -> None:
        if self._chance.happens(self.tuning.crash_chance):
            self.counts.crashes_between_effects += 1
            self.crash()
            raise _Gone

    def _perform_one(self, effect: Effect) -> None:
        self._maybe_die()
        match effect:
            case SendMessage():
                self._send(effect.to, effect.message)
            case Apply():
                self._apply(effect.entries)
            case RestoreSnapshot():
                self._restore(effect.snapshot)
            case _:
                self._tell(effect)

    # Effects.

    def _send(self, to: NodeId, message: Message) -> None:
        self.judge.sent(self.node, to, message)
        payload = encode_message(message)
        is_reached = self.network.send(self.node, to, payload, len(payload))
        if not is_reached and self._chance.happens(self.tuning.unreachable_chance):
            self._others.append(PeerUnreachable(node=to))

    def durable(self) -> LoadedLog:
        """What a new life would find if power were lost now."""
        return self.disk.durable

    # Of whoever inherits.

    def _make_machine(self, loaded: LoadedLog, rng: Chance) -> RaftMachine:
        """The machine of a new life, and the state as of the snapshot."""
        raise NotImplementedError

    def _digest(self) -> int:
        """A number that replicas with the same state share."""
        raise NotImplementedError

    def _crashed(self) -> None:
        """The process is gone."""

    def _own_event(self) -> Event | None:
        """What is to be stepped when nothing else waits."""
        return None

    def _apply(self, entries: Sequence[Entry]) -> None:
        """Carry out committed entries."""
        raise NotImplementedError

    def _restore(self, snapshot: Snapshot) -> None:
        """Begin anew with the state of `snapshot`."""
        raise NotImplementedError

    def _tell(self, effect: Effect) -> None:
        """What somebody asked about, or wants to know."""
        raise NotImplementedError
