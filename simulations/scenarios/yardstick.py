"""The negative control: PySyncObj as it comes, one follower killed and restarted, and a partition.

The third node starts late, the leader works with the second. The second is killed and comes back knowing
nothing: not the entries that it acknowledged, and not the vote it gave. Cut off from the leader, it and
the third elect another leader, in the same term. All that is a textbook failure of an engine that keeps term, vote and
log in memory, and it is what its default configuration does. The checkers have to say so.
"""

from collections.abc import Callable
from typing import Final

from orca.model.ids import NodeId
from simulations.checkers import durability, linearizable
from simulations.checkers.raft import ElectionSafety, LeaderCompleteness, LogMatching, StateMachineSafety
from simulations.faults import KNOBS, calm
from simulations.history import Ending, History
from simulations.judge import Judge
from simulations.network import Network
from simulations.scenarios.report import Report
from simulations.subjects.port import Subject
from simulations.subjects.pysyncobj import Packet, PySyncNode, on_virtual_time
from simulations.workload import Manners, make_clients
from simulations.world import World

NAME: Final = "yardstick"
_NUMBERS: Final = [1, 2, 3]


class Yardstick:
    """One run; it goes on after a violation, to see all of them. With `is_harmed` False nobody is killed or cut off."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None, *, is_harmed: bool) -> None:
        self._world = World(seed, trace)
        self._is_harmed = is_harmed
        self._network: Network[Packet] = Network(self._world)
        self._judge = Judge(self._world, [ElectionSafety(), LogMatching(), LeaderCompleteness(), StateMachineSafety()])
        self._nodes = [PySyncNode(number, _NUMBERS, self._world, self._network, self._judge) for number in _NUMBERS]
        for node in self._nodes:
            node.peers = {one.number: one for one in self._nodes}
        self._history = History()
        subjects: dict[NodeId, Subject] = {node.node: node for node in self._nodes}
        manners = Manners(follows_leader=0.9, think_s=0.1)
        self._clients = make_clients(3, self._world, subjects, self._history, manners)

    def run(self) -> Report:
        """The whole story."""
        with on_virtual_time(self._world):
            self._tell()
        return self._report()

    def _tell(self) -> None:
        chance = self._world.chance("yardstick")
        first, second, third = self._nodes
        first.start()
        second.start()
        self._look_at_connections()
        for client in self._clients:
            client.start()
        self._world.run(5 + chance.random())
        leader, follower = (first, second) if first.is_leader else (second, first)
        if self._is_harmed:
            follower.crash()
            self._world.run(self._world.now + 0.2)
            self._separate(leader, [follower, third])
            follower.start()
        third.start()
        self._world.run(self._world.now + 15 + chance.random())
        self._world.note("heal")
        self._network.heal()
        self._world.run(self._world.now + 15)
        for client in self._clients:
            client.stop()
        self._world.run(self._world.now + 10)
        states = {node.node: node.registers for node in self._nodes}
        for line in durability.find_lost_writes(self._history, states):
            self._judge.report(durability.NAME, line)
        for verdict in linearizable.judge_history(self._history):
            if not verdict.is_linearizable:
                self._judge.report(linearizable.NAME, str(verdict))

    def _look_at_connections(self) -> None:
        for node in self._nodes:
            node.look_at_connections()
        self._world.after(0.25, self._look_at_connections)

    def _separate(self, one: PySyncNode, others: list[PySyncNode]) -> None:
        for other in others:
            self._network.cut(one.number, other.number)
            self._network.cut(other.number, one.number)

    def _report(self) -> Report:
        return Report(
            scenario=NAME,
            seed=self._world.seed,
            digest=self._world.digest(),
            mood=calm(),
            violations=list(self._judge.violations),
            effects=dict.fromkeys(KNOBS, 0),
            actions=self._world.actions,
            virtual_s=self._world.now,
            done=self._history.count(Ending.DONE),
            unknown=self._history.count(Ending.UNKNOWN),
            failed=self._history.count(Ending.FAILED),
        )


def run(seed: int, trace: Callable[[str], None] | None = None, *, is_harmed: bool = True) -> Report:
    """One run of this scenario."""
    return Yardstick(seed, trace, is_harmed=is_harmed).run()
