"""Chaos for a group of Raft nodes: 1 to 7 voters and learners, then healing, then everything must work."""

from collections.abc import Callable
from typing import Final

from consensus.raft import AddLearner
from orca.model.ids import NodeId
from simulations.checkers import durability, linearizable
from simulations.checkers.promises import Promises
from simulations.checkers.raft import ElectionSafety, LeaderCompleteness, LogMatching, StateMachineSafety
from simulations.faults import draw_mood
from simulations.history import Ending, History
from simulations.judge import Judge
from simulations.keeper import Keeper
from simulations.nemesis import Nemesis
from simulations.network import Network
from simulations.process import Process
from simulations.registers import Kind
from simulations.scenarios import progress
from simulations.scenarios.plans import CHAOS, Plan, draw_config
from simulations.scenarios.report import Report
from simulations.shell import Tuning
from simulations.subjects.port import Subject
from simulations.workload import Client, Manners, make_clients
from simulations.world import World

HEALED_WITHIN_S: Final = 30.0
"""After everything is healed: an election takes 2 s, a snapshot and some rounds of catching up a few more."""


class RaftChaos:
    """One run. `process_type` and `mood` can be others than the real ones: that is how planted bugs get in."""

    def __init__(
        self,
        seed: int,
        plan: Plan,
        *,
        process_type: type[Process] = Process,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.world = World(seed, trace)
        chance = self.world.chance("scenario")
        self.plan = plan
        self.mood = plan.mood or draw_mood(self.world.chance("mood"))
        self.network: Network[bytes] = Network(self.world)
        self.processes: dict[NodeId, Process] = {}
        self.judge = self._make_judge()
        self._process_type = process_type
        self._config = plan.config or draw_config(self.world.chance("config"))
        self._nemesis = Nemesis(self.world, self.network, self.processes, self.mood)
        self._keeper = Keeper(self.world, self.processes, self.mood, self._make_empty)
        self._learners = plan.learners if plan.learners is not None else chance.pick((0, 0, 1, 2))
        voters = plan.voters or chance.pick((1, 2, 3, 3, 3, 4, 5, 5, 7))
        names = [NodeId(f"n{number}") for number in range(1, voters + 1)]
        for name in names:
            self._add(name, frozenset(names))
        self.history = History()
        manners = Manners(keys=chance.between(1, 4), think_s=chance.uniform(0.05, 0.3))
        clients = plan.clients or chance.between(2, 5)
        subjects: dict[NodeId, Subject] = self.processes  # type: ignore[assignment]
        self.clients = make_clients(clients, self.world, subjects, self.history, manners)
        self._last_client = Client("last", self.world, subjects, self.history, manners)

    def _make_judge(self) -> Judge:
        """For one life of the group."""
        checkers = [
            ElectionSafety(),
            LogMatching(),
            LeaderCompleteness(),
            StateMachineSafety(),
            Promises(lambda node: self.processes[node].durable()),
        ]
        return Judge(self.world, checkers)

    def _tuning(self) -> Tuning:
        return Tuning(
            raft=self._config,
            sync_s=self.mood["slow_disk"] or 0.002,
            log_entries_kept=int(self.mood["compaction"]) or 10_000,
            crash_chance=self.mood["crash_between"],
        )

    def _add(self, name: NodeId, voters: frozenset[NodeId]) -> Process:
        process = self._process_type(name, voters, self.world, self.network, self.judge, self._tuning())
        self.processes[name] = process
        self._nemesis.adopt(process)
        return process

    def _make_empty(self) -> Process:
        """A new node, which knows of no group."""
        process = self._add(NodeId(f"n{len(self.processes) + 1}"), frozenset())
        process.start()
        return process

    def run(self) -> Report:
        """The whole story; it ends with the first violation."""
        try:
            self._tell()
        except AssertionError as error:
            self.judge.report("invariants", str(error))
        return self._report()

    def _begin(self) -> None:
        for process in list(self.processes.values()):
            process.start()
        for client in self.clients:
            client.start()
        self._nemesis.start()
        self._ask_for_learners(self._learners)

    def _tell(self) -> None:
        self._begin()
        self._keeper.start()
        if not self._run(self.plan.chaos_s):
            return
        self.world.note("heal")
        self._nemesis.stop()
        self._keeper.stop()
        for client in self.clients:
            client.stop()
        if self._make_sure_of_progress() and self._read_everything():
            self._judge_the_end()

    def _ask_for_learners(self, count: int) -> None:
        if count == 0:
            return
        leader = progress.current_leader(self.processes)
        if leader is not None:
            leader.change(AddLearner(node=self._make_empty().node))
        self.world.after(1.0, lambda: self._ask_for_learners(count - (leader is not None)))

    def _run(self, for_s: float, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Let time go by; False when somebody found something."""
        self.world.run(self.world.now + for_s, lambda: bool(self.judge.violations) or is_over())
        return not self.judge.violations

    def _wait_for(self, what: str, condition: Callable[[], bool]) -> bool:
        deadline = self.world.now + HEALED_WITHIN_S
        while not condition():
            if self.world.now >= deadline:
                where = progress.describe(self.processes)
                self.judge.report(progress.NAME, f"no {what} {HEALED_WITHIN_S:g} s after the last fault: {where}")
                return False
            if not self._run(0.1):
                return False
        return True

    def _make_sure_of_progress(self) -> bool:
        return (
            self._wait_for("end of what clients had begun", lambda: all(client.is_idle for client in self.clients))
            and self._ask("write", Kind.WRITE, "last")
            and self._wait_for("end of a voter's replacement", lambda: self._keeper.is_idle)
            and self._wait_for("agreement of all members", lambda: progress.is_settled(self.processes))
        )

    def _ask(self, what: str, kind: Kind, key: str) -> bool:
        """The last client asks until it is answered."""
        self._last_client.stop()
        while True:
            self._last_client.ask(kind, key)
            if not self._wait_for(f"answer to a {what}", lambda: self._last_client.is_idle):
                return False
            if self.history.records[-1].ending is Ending.DONE:
                return True
            if self.history.count(Ending.UNKNOWN) + self.history.count(Ending.FAILED) > len(self.history.records) / 2:
                self.judge.report(progress.NAME, f"a {what} fails again and again: {self.history.records[-1]}")
                return False

    def _read_everything(self) -> bool:
        return all(self._ask("read", Kind.READ, key) for key in sorted(self.history.by_key()))

    def _judge_the_end(self) -> None:
        states = {member.node: member.registers for member in progress.members_that_count(self.processes)}
        for line in durability.find_lost_writes(self.history, states)[:3]:
            self.judge.report(durability.NAME, line)
        for verdict in linearizable.judge_history(self.history):
            if not verdict.is_linearizable:
                self.judge.report(linearizable.NAME, str(verdict))

    def _report(self) -> Report:
        return Report(
            scenario=self.plan.name,
            seed=self.world.seed,
            digest=self.world.digest(),
            mood=self.mood,
            violations=list(self.judge.violations),
            effects=self._effects(),
            actions=self.world.actions,
            steps=sum(process.counts.steps for process in self.processes.values()),
            virtual_s=self.world.now,
            done=self.history.count(Ending.DONE),
            unknown=self.history.count(Ending.UNKNOWN),
            failed=self.history.count(Ending.FAILED),
        )

    def _effects(self) -> dict[str, int]:
        """What each knob really did; see `faults.KNOBS`."""
        network, done = self.network.counts, self._nemesis.done
        counts = [process.counts for process in self.processes.values()]
        return {
            "loss": network.lost,
            "duplication": network.duplicated,
            "reordering": network.overtaken if self.mood.has("reordering") else 0,
            "slow_network": network.slow if self.mood.has("slow_network") else 0,
            "slow_disk": sum(one.slow_writes for one in counts) if self.mood.has("slow_disk") else 0,
            "partition": network.cut if self.mood.has("partition") else 0,
            "one_way": network.cut_one_way if self.mood.has("one_way") else 0,
            "clog": network.clogged,
            "crash": done["crash"],
            "crash_all": done["crash_all"],
            "pause": sum(one.stood_still for one in counts),
            "disk_full": sum(one.saves_failed for one in counts),
            "transfer": done["transfer"],
            "change": self._keeper.changed,
            "kill": self._keeper.replaced,
            "crash_between": sum(one.crashes_between_effects for one in counts),
            "drift": done["drift"],
            "compaction": sum(one.snapshots_taken for one in counts),
        }


def run(
    seed: int,
    plan: Plan | None = None,
    *,
    process_type: type[Process] = Process,
    trace: Callable[[str], None] | None = None,
) -> Report:
    """One run of this scenario."""
    return RaftChaos(seed, plan or CHAOS, process_type=process_type, trace=trace).run()
