"""A group loses its quorum for good, is started anew from the survivor that knows most, and the lost come back.

Beside what always holds within one life of the group, this checks the promise of a recovery by hand: the survivor
that is chosen (`consensus.raft.LogPosition`) knows all that any survivor knew to be committed; when it had all that
the group ever committed, nothing acknowledged is lost. Afterwards whoever comes back with the old past is outranked,
begins blank, and all end with one log and one state.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from consensus.raft import AddLearner, Promote, blank_write, next_epoch, recovery_write
from consensus.storage import Entry
from orca.model.ids import LogIndex, NodeId, Term
from simulations.checkers import durability, linearizable
from simulations.disk import SimulatedDisk
from simulations.faults import Mood, draw_mood
from simulations.history import Ending, History, Record
from simulations.judge import Judge, TermAt
from simulations.process import Process
from simulations.registers import Kind, Operation, Outcome
from simulations.scenarios.plans import Plan
from simulations.scenarios.raft import RaftChaos
from simulations.scenarios.report import Report
from simulations.workload import Client, Manners
from simulations.world import Chance, World

NAME: Final = "recovery"
VOTERS_WANTED: Final = 3
_OFF: Final = ("kill", "change", "disk_full", "crash_between")
"""Knobs that are for a group that keeps its quorum."""


def recovery_mood(chance: Chance) -> Mood:
    """All faults but those that change the group or end in a disk that takes nothing."""
    mood = draw_mood(chance)
    return Mood(amounts={name: 0.0 if name in _OFF else amount for name, amount in mood.amounts.items()})


class _ByLife(Judge):
    """What one node says goes to the judge of the life of the group that its disk belongs to."""

    def __init__(self, process: Process, judges: dict[int, Judge]) -> None:
        super().__init__(process.world, ())
        self._process = process
        self._judges = judges

    def _own(self) -> Judge:
        return self._judges[self._process.disk.durable.hard_state.epoch]

    def report(self, checker: str, detail: str) -> None:
        self._own().report(checker, detail)

    def started(self, node: NodeId, applied: LogIndex, digest: int) -> None:
        self._own().started(node, applied, digest)

    def stored(self, node: NodeId, prev_term: Term | None, entries: Sequence[Entry]) -> None:
        self._own().stored(node, prev_term, entries)

    def leads(self, node: NodeId, term: Term, snapshot_index: LogIndex, term_at: TermAt) -> None:
        self._own().leads(node, term, snapshot_index, term_at)

    def applied(self, node: NodeId, term: Term, entry: Entry, digest: int) -> None:
        self._own().applied(node, term, entry, digest)

    def restored(self, node: NodeId, index: LogIndex, digest: int) -> None:
        self._own().restored(node, index, digest)

    def sent(self, node: NodeId, to: NodeId, message: Any) -> None:
        self._own().sent(node, to, message)


class RecoveryChaos(RaftChaos):
    """One run."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        chance = World(seed).chance("recovery mood")
        plan = Plan(
            name=NAME,
            voters=chance.pick((2, 3, 3, 4, 5, 5)),
            learners=chance.pick((0, 1, 2)),
            chaos_s=chance.uniform(4, 12),
            mood=recovery_mood(chance),
        )
        super().__init__(seed, plan, trace=trace)
        self._chance = self.world.chance("recovery")
        self._epoch = 0
        self._judges = {0: self.judge}
        self.set_aside = 0
        self._keys: list[str] = []
        self._committed: tuple[LogIndex, Term | None] = (LogIndex(0), None)
        self._done_before = 0
        self._was_complete = False
        self._recovered: list[Record] = []
        for process in self.processes.values():
            process.on_outranked = self._give_up_later
            process.judge = _ByLife(process, self._judges)

    def _make_empty(self) -> Process:
        process = super()._make_empty()
        process.on_outranked = self._give_up_later
        process.judge = _ByLife(process, self._judges)
        return process

    def _tell(self) -> None:
        self._begin()
        if not self._run(self.plan.chaos_s):
            return
        self.world.note("heal")
        self._nemesis.stop()
        if not self._wait_for("leader", lambda: self._leader() is not None):
            return
        if not self._run(self._chance.uniform(0, 0.5)):
            return
        lost = self._lose_quorum()
        if not self._run(self._chance.uniform(0.5, 3)):
            return
        for client in self.clients:
            client.stop()
        if not self._wait_for("end of what clients had begun", lambda: all(client.is_idle for client in self.clients)):
            return
        chosen = self._choose()
        if not self._wait_for("survivor that can be stopped", lambda: chosen.is_free):
            return
        self._recover(chosen)
        if self._wait_for("leader of the new life", lambda: self._leader() is chosen):
            self._go_on_with(chosen, lost)

    def _go_on_with(self, chosen: Process, lost: list[Process]) -> None:
        """The rest of the story, once the survivor leads."""
        if not self._wait_for("state of the new leader", lambda: chosen.state.applied == chosen.machine.last_index):
            return
        self._judge_what_was_lost(chosen)
        self._begin_history(chosen)
        self._grow()
        for process in lost:
            if not self._run(self._chance.uniform(0, 2)):
                return
            process.is_gone_for_good = False
            process.start()
        if not self._ask("write", Kind.WRITE, "last"):
            return
        if self._wait_for("agreement of all", self._is_one_group) and self._read_everything():
            self._judge_the_end()

    # The loss.

    def _leader(self) -> Process | None:
        leaders = [one for one in self.processes.values() if one.is_leader and one.machine.epoch == self._epoch]
        return max(leaders, key=lambda one: one.machine.term) if leaders else None

    def _lose_quorum(self) -> list[Process]:
        """So many voters die that the rest is no quorum; whether the leader is among them is chance."""
        leader = self._leader()
        group = (leader or next(iter(self.processes.values()))).machine.membership
        voters = [self.processes[name] for name in group.voters]
        count = self._chance.between((len(voters) + 1) // 2, len(voters) - 1)
        lost: list[Process] = []
        while len(lost) < count:
            one = self._chance.pick([one for one in voters if one not in lost])
            lost.append(one)
        self._committed = max(
            (one.machine.commit_index, one.machine.term_of(one.machine.commit_index))
            for one in self.processes.values()
            if one.is_up
        )
        for one in lost:
            self.world.note(f"{one.node} is lost")
            one.is_gone_for_good = True  # also for whoever meant to start it again
            one.on_crash = _do_nothing
            one.crash()
        return lost

    def _survivors(self) -> list[Process]:
        return [one for one in self.processes.values() if one.is_up]

    def _choose(self) -> Process:
        """Who knows most, of those that people can ask."""
        chosen = max(self._survivors(), key=lambda one: one.machine.position)
        for other in self._survivors():
            index = other.machine.commit_index
            term, known = other.machine.term_of(index), chosen.machine.term_of(index)
            if index > chosen.machine.last_index or (known is not None and term is not None and known != term):
                self.judge.report(NAME, f"{other.node} knew that entry {index} is committed, {chosen.node} has it not")
        return chosen

    def _recover(self, chosen: Process) -> None:
        machine = chosen.machine
        term, position = machine.term, machine.position
        self._was_complete = self._has_all(chosen)
        self._epoch = next_epoch(machine.epoch, self._chance)
        self.judge = self._judges[self._epoch] = self._make_judge()
        chosen.on_crash = _do_nothing
        chosen.crash()
        disk = chosen.disk.open()
        disk.write(recovery_write(chosen.node, term, position, self._epoch))
        self.world.note(f"{chosen.node} is to begin anew, epoch {self._epoch}")
        chosen.start()

    def _has_all(self, chosen: Process) -> bool:
        index, term = self._committed
        return index <= chosen.machine.last_index and chosen.machine.term_of(index) == term

    def _give_up_later(self, process: Process, epoch: int) -> None:
        """What the node does when it is outranked: keep a copy elsewhere, and begin blank."""
        life = process.counts.steps
        self.world.note(f"{process.node} gives its log up")

        def give_up() -> None:
            if not process.is_up or not process.machine.is_outranked:
                return
            process.on_crash = _do_nothing
            process.crash()
            process.disk = SimulatedDisk(self.world.chance(f"{process.node}/disk after {life}"))
            process.disk.write(blank_write(epoch))
            process.voters = frozenset()
            self.set_aside += 1
            process.start()

        self.world.after(self._chance.uniform(0, 0.5), give_up)

    # Afterwards.

    def _grow(self) -> None:
        """Make members of all that live, and voters of as many as are wanted."""
        leader = self._leader()
        if leader is not None:
            group = leader.machine.membership
            strangers = [one.node for one in self._survivors() if one.node not in group.members]
            if strangers:
                leader.change(AddLearner(node=self._chance.pick(strangers)))
            elif group.learners and len(group.voters) < VOTERS_WANTED:
                leader.change(Promote(node=self._chance.pick(list(group.learners))))
        self.world.after(0.3, self._grow)

    def _is_one_group(self) -> bool:
        leader = self._leader()
        if leader is None or leader.machine.commit_index < leader.machine.last_index:
            return False
        members = leader.machine.membership.members
        return all(
            one.is_up
            and one.node in members
            and one.machine.epoch == self._epoch
            and one.state.applied == leader.state.applied
            for one in self.processes.values()
        )

    def _judge_what_was_lost(self, chosen: Process) -> None:
        if self._was_complete:
            for line in durability.find_lost_writes(self.history, {chosen.node: chosen.registers})[:3]:
                self.judge.report(durability.NAME, f"after a recovery that had everything: {line}")

    def _begin_history(self, chosen: Process) -> None:
        """From here on another history: it begins with what the survivor had."""
        self._done_before = self.history.count(Ending.DONE)
        for number, (key, value) in enumerate(sorted(chosen.registers.values.items())):
            operation = Operation(request=f"recovered{number}", key=key, kind=Kind.WRITE, word=value)
            record = Record("recovery", operation, self.world.moment())
            record.end(Ending.DONE, self.world.moment(), Outcome(value=value))
            self._recovered.append(record)
        self.history = History()
        manners = Manners(keys=2, patience_s=20.0)
        self._last_client = Client("after", self.world, self.processes, self.history, manners)
        self._keys = sorted(chosen.registers.values)

    def _read_everything(self) -> bool:
        return all(self._ask("read", Kind.READ, key) for key in [*self._keys, "last"])

    def _judge_the_end(self) -> None:
        states = {one.node: one.registers for one in self.processes.values()}
        for line in durability.find_lost_writes(self.history, states)[:3]:
            self.judge.report(durability.NAME, line)
        whole = History()
        for record in (*self._recovered, *self.history.records):
            whole.add(record)
        for verdict in linearizable.judge_history(whole):
            if not verdict.is_linearizable:
                self.judge.report(linearizable.NAME, str(verdict))
        digests = {one.registers.digest for one in self.processes.values()}
        if len(digests) != 1:
            self.judge.report(NAME, "nodes of one group have different states")

    def _report(self) -> Report:
        report = super()._report()
        return msgspec.structs.replace(
            report,
            effects={**report.effects, **dict.fromkeys(_OFF, 0)},
            done=report.done + self._done_before,
            violations=[violation for judge in self._judges.values() for violation in judge.violations],
        )


def _do_nothing(_: Process) -> None:
    """It stays down until somebody starts it."""


def run(seed: int, trace: Callable[[str], None] | None = None) -> Report:
    """One run of this scenario."""
    return RecoveryChaos(seed, trace).run()
