"""Runs the real `Replica` on a disk and a network that fail, by the rules of `consensus.driver`."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from consensus.answers import Answers, Promise, failure_of
from consensus.commits import CommitWords, KnownCommits
from consensus.outside import Listener
from consensus.raft import (
    Accepted,
    Effect,
    EntriesLearned,
    Event,
    LeaderChanged,
    MembershipChanged,
    Message,
    Noted,
    ProposalId,
    ProposalLost,
    ProposalRejected,
    RaftMachine,
    ReadReady,
    ReadRejected,
    SnapshotLearned,
    collect_write,
)
from consensus.replica import Replica
from consensus.scheduler.beliefs import Beliefs
from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import Command, decode_command
from consensus.state.schema import check_proposable
from consensus.storage import Entry, LoadedLog, LogWrite, Snapshot
from orca.errors import OrcaError, StoreFullError
from orca.model.ids import LogIndex, NodeId
from orca.model.units import WallMs
from orca.sources import IdSource
from simulations.judge import Judge
from simulations.network import Network
from simulations.shell import Shell, Tuning
from simulations.world import Chance, Timer, World

DEADLINE_S: Final = 30.0
RETRY_S: Final = 1.0
COMPACTING_S: Final = 0.05
"""How long the encoding of a snapshot takes, in another thread."""

End = Callable[[Outcome | OrcaError], None]


class Outside(Listener, Protocol):
    """What a replica needs of its node."""

    def beliefs_view(self) -> Beliefs:
        """What the scheduler may believe now."""
        ...

    def wall(self) -> WallMs:
        """The time of day, as this computer has it."""
        ...

    def planned(self, command: Command, beliefs: Beliefs) -> None:
        """The leader proposes a plan that it made from `beliefs`."""
        ...


class NodeTuning(Tuning, kw_only=True):
    """Beside that: how long a plan takes, which is how long the leader does not look again."""

    plan_s: float = 0.02
    log_bytes_kept: int = 32 * 2**20


class ReplicaShell(Shell):
    """One replica over all its lives; `outside` is the node's present life."""

    replica_type: type[Replica] = Replica

    def __init__(
        self,
        node: NodeId,
        voters: frozenset[NodeId],
        world: World,
        network: Network[bytes],
        judge: Judge,
        tuning: NodeTuning,
        ids: IdSource,
    ) -> None:
        super().__init__(node, voters, world, network, judge, tuning)
        self.outside: Outside | None = None
        self.on_crash: Callable[[], None] = lambda: None
        self.plans = 0
        self.applied = LogIndex(0)
        self._ids = ids
        self._node_tuning = tuning
        self._plan_after = 0.0
        self._pause_until = 0.0
        self._is_compacting = False
        self._wake_timer: Timer | None = None
        self.replica: Replica
        self._answers: Answers

    # ------------------------------------------------------------------------ what others ask

    @property
    def state(self) -> ClusterState:
        """The applied state; read it, never change it."""
        return self.replica.state

    @property
    def leads_knowingly(self) -> bool:
        """Whether it leads and has applied an entry of its own term."""
        return self.is_leader and self.machine.term_of(self.applied) == self.machine.term

    def propose(self, command: Command, on_end: End) -> None:
        """Get `command` committed; `on_end` is told what became of it, or why not, once."""
        if self._machine is None:
            return
        try:
            check_proposable(self.state, command)
        except OrcaError as error:
            on_end(error)
            return
        proposal = self.replica.propose(command)
        is_told = False

        def settle() -> None:
            nonlocal is_told
            if not is_told:
                is_told = True
                self._answers.close(proposal.proposal_id)
                on_end(_end_of(promise))

        promise = self._answers.open(proposal.proposal_id, settle)
        life = self._life
        self.world.after(DEADLINE_S, lambda: settle() if self._life == life else None)
        self._proposals.append(proposal)
        self._work()

    def learn(self, event: EntriesLearned | SnapshotLearned) -> None:
        """Take in what another node says is committed."""
        if self._machine is not None:
            self._others.append(event)
            self._work()

    def beliefs_changed(self) -> None:
        """Plan again soon."""
        if self._machine is not None:
            self.replica.mark_dirty()
            if self.is_leader:
                self._wake_at(self._plan_after)

    # ------------------------------------------------------------------------ lives

    def _fresh_id(self) -> int:
        return self.replica.fresh_proposal_id()

    def _make_machine(self, loaded: LoadedLog, rng: Chance) -> RaftMachine:
        tuning = self._node_tuning
        self.replica = self.replica_type(
            self.node,
            self.voters,
            loaded,
            rng,
            self._ids,
            log_entries_kept=tuning.log_entries_kept,
            log_bytes_kept=tuning.log_bytes_kept,
        )
        self._answers = Answers(self._ended)
        self.applied = self.replica.raft.applied_index
        self._commits = KnownCommits(self.replica.raft.commit_index, self.local_now())
        self._words = CommitWords()
        self._plan_after = self._pause_until = self.world.now
        self._is_compacting = False
        return self.replica.raft

    def _crashed(self) -> None:
        self.on_crash()

    def _digest(self) -> int:
        return 0  # that states are equal is looked at when all is quiet

    # ------------------------------------------------------------------------ turns

    def _own_event(self) -> Event | None:
        """What a driver does at the end of a turn: compact, plan, do the leader's duties."""
        now = self.world.now
        if self.local_now() >= self._commits.due_at(self.machine.commit_index):
            self._save_commit()
        if now < self._pause_until:
            self._wake_at(self._pause_until)
            return None
        if self.replica.is_compaction_due and not self._is_compacting:
            self._compact()
        return self._plan() or self.replica.duty(self.local_now(), self._wall())

    def _plan(self) -> Event | None:
        if self.outside is None:
            return None
        if not self.is_leader:
            return self.replica.plan(Beliefs(), self._wall())  # it forgets since when it led
        now = self.world.now
        if now < self._plan_after:
            self._wake_at(self._plan_after)
            return None
        if self.replica.is_plan_due(self._wall()):
            self.plans += 1
            self._plan_after = now + self._node_tuning.plan_s
        beliefs = self.outside.beliefs_view()
        proposal = self.replica.plan(beliefs, self._wall())
        if proposal is not None:
            self.outside.planned(decode_command(proposal.payload), beliefs)
        wake_at_ms = self.replica.plan_wake_at_ms()
        if wake_at_ms is not None:
            self._wake_at(now + max(0.0, (wake_at_ms - self._wall()) / 1000) + 0.001)
        return proposal

    def _wall(self) -> WallMs:
        return WallMs(0) if self.outside is None else self.outside.wall()

    def _wake_at(self, when: float) -> None:
        if self._wake_timer is not None:
            if self.world.now < self._wake_timer.when <= when:
                return
            self._wake_timer.cancel()
        life = self._life
        self._wake_timer = self.world.at(when, lambda: self._work() if self._life == life else None)

    def _set_timer(self) -> None:
        super()._set_timer()
        due_at = min(self.replica.duty_at(), self._commits.due_at(self.machine.commit_index))
        if due_at < float("inf"):
            self._wake_at(self.clock.world(due_at) + 1e-6)

    def _compact(self) -> None:
        self._is_compacting = True
        make, life = self.replica.compaction(), self._life

        def done() -> None:
            if self._life == life:
                self._is_compacting = False
                self.counts.snapshots_taken += 1
                self._others.append(make())
                self._work()

        self.world.after(self._chance.pause_s(COMPACTING_S), done)

    def _save_commit(self) -> None:
        """How far the log is committed, when nothing else is written."""
        write = LogWrite(commit_index=self.machine.commit_index)
        self._commits.save(write.commit_index, self.local_now())
        try:
            self.disk.stage(write)
        except StoreFullError:
            return
        self.disk.sync()

    # ------------------------------------------------------------------------ effects

    def _perform(self, effects: Sequence[Effect]) -> None:
        _, write, _ = collect_write(effects, self.machine.commit_index)
        refused = self.counts.saves_failed
        super()._perform(effects)
        if self.counts.saves_failed > refused:
            self._pause_until = self.world.now + RETRY_S
            if self.outside is not None:
                self.outside.store_refused("no space left on the simulated disk")
        elif write is not None:
            self._commits.save(write.commit_index, self.local_now())

    def _send(self, to: NodeId, message: Message) -> None:
        if self._words.takes(to, message, self.local_now()):
            self.world.at(self.clock.world(self._words.due_at), self._send_words)
        else:
            super()._send(to, message)

    def _send_words(self) -> None:
        if self._machine is not None and self._resume_at is None and self.local_now() >= self._words.due_at - 1e-9:
            for peer, word in self._words.take().items():
                super()._send(peer, word)

    def _apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.judge.applied(self.node, self.machine.term, entry, 0)
        applied = self.replica.take_applied(entries)
        self.applied = entries[-1].index
        self._answers.apply(entries, {one.index: one.outcome for one in applied})
        if self.outside is not None:
            self.outside.applied(applied)

    def _restore(self, snapshot: Snapshot) -> None:
        self.counts.snapshots_restored += 1
        self.replica.restore(snapshot)
        self.applied = snapshot.meta.last_index
        self._answers.restore(self.applied)
        self.judge.restored(self.node, self.applied, 0)
        if self.outside is not None:
            self.outside.restored()

    def _tell(self, effect: Effect) -> None:
        match effect:
            case Accepted():
                self._answers.accept(effect, self.applied)
            case ProposalRejected():
                self._answers.reject(effect)
            case ProposalLost():
                self._answers.lose(effect.proposal_id)
            case ReadReady() | ReadRejected():
                self._answers.read(effect)
            case LeaderChanged() | MembershipChanged():
                self.world.note(f"{self.node}: {effect}")
                self.replica.mark_dirty()
                if self.outside is not None:
                    self.outside.group_changed()
            case Noted():
                self.world.note(f"{self.node} notes {effect.message}")
            case _:
                raise AssertionError(f"{effect} has no place here")

    def _ended(self, proposal: ProposalId, outcome: Outcome | None) -> None:
        self.replica.duty_ended(proposal, self.local_now())
        if self.replica.plan_ended(proposal) and (outcome is None or outcome.error):
            self._pause_until = self.world.now + RETRY_S
            self.world.note(f"a plan of {self.node} came to nothing: {outcome}")


def _end_of(promise: Promise) -> Outcome | OrcaError:
    failure = failure_of(promise, DEADLINE_S, is_stopped=False)
    if failure is not None:
        return failure
    assert promise.outcome is not None, "a command that was applied has an outcome"
    return promise.outcome
