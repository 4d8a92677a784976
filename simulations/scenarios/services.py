"""Chaos for whole nodes that run services, then healing, then everything is as it was asked to be.

The nodes are complete but for sockets, engines and files: gossip, replica, scheduler, reconciler, probes and routes.
At the end, when nothing fails any more, services are deployed, scaled and drained under requests, and none may fail.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from consensus.state.cluster import ServiceRecord
from orca.model.ids import ServiceId
from orca.model.node import NodeAvailability
from orca.model.spec import DeployStrategy
from simulations.checkers import acknowledged
from simulations.checkers.capacity import Capacity
from simulations.checkers.nodes import NodeChecker, connect
from simulations.checkers.raft import ElectionSafety, LeaderCompleteness, LogMatching, StateMachineSafety
from simulations.checkers.replacement import Replacement
from simulations.checkers.routes import Routes
from simulations.checkers.settled import SETTLED_WITHIN_S, Settled, is_sound
from simulations.faults import Mood, draw_mood
from simulations.judge import Judge
from simulations.nodes.cluster import CPU_MILLI, Cluster
from simulations.nodes.engine import Image
from simulations.nodes.knobs import KNOBS
from simulations.nodes.nemesis import NodeNemesis
from simulations.nodes.node import Computer
from simulations.nodes.operator import REPLICAS_MAX, Operator
from simulations.nodes.replica import NodeTuning, ReplicaShell
from simulations.nodes.traffic import Traffic
from simulations.scenarios.report import Report
from simulations.world import World

NAME: Final = "services"
LOAD: Final = 0.5
"""The share of all processors that is given away when every service has its most copies."""
BATCH: Final = 25
BATCH_S: Final = 1.0
"""So many services are deployed at once at the start, and the next after so many seconds."""
PLAN_S: Final = 0.0001
"""For each service a plan takes so long, in which the leader does not look again."""


class ServicesPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of; None is drawn from the seed."""

    name: str = NAME
    nodes: int | None = None
    services: int | None = None
    chaos_s: float = 45.0
    requests_per_s: float = 20.0
    mood: Mood | None = None


LARGE: Final = ServicesPlan(name="services-large", nodes=50, services=1000, chaos_s=60.0, requests_per_s=50.0)
"""As many as it is meant for; it has to run faster than real time."""


class Services:
    """One run. The types can be others than the real ones: that is how planted bugs get in."""

    def __init__(
        self,
        seed: int,
        plan: ServicesPlan,
        trace: Callable[[str], None] | None = None,
        *,
        computer_type: type[Computer] = Computer,
        replica_type: type[ReplicaShell] = ReplicaShell,
    ) -> None:
        self.world = World(seed, trace)
        self.plan = plan
        self.mood = plan.mood or draw_mood(self.world.chance("mood"), KNOBS)
        chance = self._chance = self.world.chance("scenario")
        nodes = plan.nodes or chance.pick((1, 2, 3, 3, 4, 5, 5, 7))
        services = plan.services or chance.between(1, 10)
        self.routes, self.settled = Routes(), Settled()
        self.checkers: tuple[NodeChecker, ...] = (Capacity(), Replacement(), self.routes, self.settled)
        raft = (ElectionSafety(), LogMatching(), LeaderCompleteness(), StateMachineSafety())
        self.judge = Judge(self.world, [*raft, *self.checkers])
        tuning = NodeTuning(
            log_entries_kept=int(self.mood["compaction"]) or 1000,
            plan_s=max(0.02 + services * PLAN_S, 2 * services * PLAN_S),
        )
        self.cluster = Cluster(
            self.world, nodes, self.judge, tuning, computer_type=computer_type, replica_type=replica_type
        )
        connect(self.cluster, self.checkers)
        cpu_milli = max(1, min(1000, int(nodes * CPU_MILLI * LOAD / (services * REPLICAS_MAX))))
        self.operator = Operator(self.world, self.cluster, self.mood, services, cpu_milli)
        self.nemesis = NodeNemesis(self.cluster, self.mood)
        self.traffic = Traffic(self.world, self.cluster, self.operator.services, plan.requests_per_s, self._requested)
        self.healed_s = 0.0

    def _requested(self, *request: object) -> None:
        for checker in self.checkers:
            checker.requested(*request)  # type: ignore[arg-type]

    def run(self) -> Report:
        """The whole story; it ends with the first violation."""
        try:
            self._tell()
        except AssertionError as error:
            self.judge.report("invariants", str(error) or repr(error))
        return self._report()

    # ------------------------------------------------------------------------ the story

    def _tell(self) -> None:
        self.cluster.start_all()
        if not (self._wait_for("leader", lambda: self.cluster.leader is not None) and self._begin()):
            return
        self.traffic.start()
        self.operator.start()
        self.nemesis.start()
        if not self._run(self.plan.chaos_s):
            return
        self.world.note("heal")
        self.nemesis.stop()
        self.operator.stop()
        began = self.world.now
        if not (self._open_nodes() and self.settled.demand("the last repair", self._run)):
            return
        self.healed_s = self.world.now - began
        if self._repair() and self.settled.demand("good versions of everything", self._run):
            self._work_quietly()
        if not self.judge.violations:
            self._judge_the_end()

    def _begin(self) -> bool:
        """The first version of everything."""
        services = self.operator.services
        for first in range(0, len(services), BATCH):
            self.operator.deploy(services[first : first + BATCH], Image.GOOD)
            if len(services) > BATCH and not self._run(BATCH_S):
                return False
        return self._wait_for("answer to the first deploys", lambda: self.operator.is_idle)

    def _open_nodes(self) -> bool:
        """Every node takes work."""
        if not self._wait_for("answer to what was begun", lambda: self.operator.is_idle):
            return False
        for node, record in self._leader().replica.state.nodes.items():
            if record.availability is not NodeAvailability.ACTIVE:
                self.operator.undrain(node)
        return self._wait_for("answer to an undrain", lambda: self.operator.is_idle)

    def _repair(self) -> bool:
        """A good version of what cannot come to rest by itself, and of all else that stands still."""
        for service, record in self._records().items():
            if not is_sound(record) or record.is_stopped or not record.replicas:
                self.operator.deploy([service], Image.GOOD, strategy=DeployStrategy.ROLLING)
        return self._wait_for("answer to a repair", lambda: self.operator.is_idle)

    def _work_quietly(self) -> None:
        """Nothing fails, and people go on working: no request may fail."""
        self._set_quiet(is_quiet=True)
        services = self.operator.services
        for service in services[: max(1, len(services) // 2)][:10]:
            if self._records()[service].replicas:
                self.operator.deploy([service], Image.GOOD, strategy=DeployStrategy.ROLLING, max_unavailable=0)
        self.operator.scale(services[-1], REPLICAS_MAX)
        if not (self._wait_for("answer", lambda: self.operator.is_idle) and self.settled.demand("deploys", self._run)):
            return
        if len(self.cluster.computers) > 2:
            victim = self._chance.pick(list(self.cluster.computers))
            self.operator.drain(victim)
            if self._wait_for("answer", lambda: self.operator.is_idle):
                self._wait_for(f"end of all on {victim}", lambda: not self._has_copies(victim))
        self._set_quiet(is_quiet=False)

    def _has_copies(self, node: str) -> bool:
        return any(one.is_running for one in self.cluster.computers[node].engine.containers.values())  # type: ignore[index]

    def _set_quiet(self, *, is_quiet: bool) -> None:
        for checker in self.checkers:
            checker.is_quiet = is_quiet

    def _leader(self) -> Computer:
        """Who leads, as soon as somebody does; whoever lives when nobody does in time."""
        self._wait_for("leader", lambda: self.cluster.leader is not None)
        return self.cluster.leader or next(iter(self.cluster.computers.values()))

    def _records(self) -> dict[ServiceId, ServiceRecord]:
        return dict(self._leader().replica.state.services)

    def _run(self, for_s: float) -> bool:
        """Let time go by; False when somebody found something."""
        self.world.run(self.world.now + for_s, lambda: bool(self.judge.violations))
        return not self.judge.violations

    def _wait_for(self, what: str, condition: Callable[[], bool], within_s: float = SETTLED_WITHIN_S) -> bool:
        deadline = self.world.now + within_s
        while not condition():
            if self.world.now >= deadline:
                self.judge.report("progress", f"no {what} within {within_s:g} s")
                return False
            if not self._run(0.1):
                return False
        return True

    def _judge_the_end(self) -> None:
        for computer in self.cluster.computers.values():
            computer.replica.replica.check_invariants()
        for line in list(acknowledged.find_lost_changes(self.operator.asked, self._leader().replica.state))[:3]:
            self.judge.report(acknowledged.NAME, line)

    # ------------------------------------------------------------------------ the report

    def _report(self) -> Report:
        computers = self.cluster.computers.values()
        asked = self.operator.asked
        return Report(
            scenario=self.plan.name,
            seed=self.world.seed,
            digest=self.world.digest(),
            mood=self.mood,
            violations=list(self.judge.violations),
            effects=self._effects(),
            actions=self.world.actions,
            steps=sum(one.replica.counts.steps + one.member.counts.steps for one in computers),
            virtual_s=self.world.now,
            done=sum(one.is_done for one in asked),
            unknown=sum(one.outcome is None for one in asked),
            failed=sum(one.outcome is not None and not one.is_done for one in asked),
            figures={
                "requests": self.traffic.asked,
                "of them answered": self.traffic.answered,
                "plans": sum(one.replica.plans for one in computers),
                "seconds to be at rest": self.healed_s,
            },
        )

    def _effects(self) -> dict[str, int]:
        """What each knob really did; see `nodes.knobs`."""
        mesh, gossip, mood = self.cluster.network.counts, self.cluster.group.network.counts, self.mood
        counts = [one.replica.counts for one in self.cluster.computers.values()]
        return {
            "loss": mesh.lost + gossip.lost,
            "duplication": mesh.duplicated + gossip.duplicated,
            "slow_network": mesh.slow + gossip.slow if mood.has("slow_network") else 0,
            "slow_disk": sum(one.slow_writes for one in counts) if mood.has("slow_disk") else 0,
            "partition": mesh.cut + gossip.cut if mood.has("partition") else 0,
            "one_way": mesh.cut_one_way + gossip.cut_one_way if mood.has("one_way") else 0,
            "disk_full": sum(one.saves_failed for one in counts),
            "crash_between": sum(one.crashes_between_effects for one in counts),
            "compaction": sum(one.snapshots_taken for one in counts) if mood.has("compaction") else 0,
            **self.nemesis.done,
            **{knob: number if mood.has(knob) else 0 for knob, number in self.operator.done.items()},
        }


def run(seed: int, trace: Callable[[str], None] | None = None, plan: ServicesPlan | None = None) -> Report:
    """One run of this scenario."""
    return Services(seed, plan or ServicesPlan(), trace).run()
