"""Who brings the faults of a mood about, at random times, until it is told to stop."""

from collections.abc import Callable

from orca.model.ids import NodeId
from simulations.faults import Mood
from simulations.network import Conditions, Network
from simulations.process import Process
from simulations.world import World

_RESTART_S = 1.0


class Nemesis:
    """Chaos for a group of processes; `done` counts what it did that no other part counts."""

    def __init__(
        self,
        world: World,
        network: Network[bytes],
        processes: dict[NodeId, Process],
        mood: Mood,
    ) -> None:
        self.done = {"crash": 0, "crash_all": 0, "partition": 0, "transfer": 0, "drift": 0}
        self._world = world
        self._network = network
        self._processes = processes
        self._mood = mood
        self._chance = world.chance("nemesis")
        self._is_over = False

    def start(self) -> None:
        """Set the conditions, and begin."""
        mood, conditions = self._mood, self._network.conditions
        conditions.loss, conditions.duplication = mood["loss"], mood["duplication"]
        conditions.reordering = mood["reordering"]
        if mood.has("slow_network"):
            conditions.delay_s_mean = mood["slow_network"]
        for knob, action in (
            ("partition", self._partition),
            ("one_way", self._one_way),
            ("clog", self._clog),
            ("crash", self._crash),
            ("crash_all", self._crash_all),
            ("pause", self._pause),
            ("disk_full", self._fill_disk),
            ("transfer", self._transfer),
        ):
            if mood.has(knob):
                self._repeat(mood[knob], action)

    def adopt(self, process: Process) -> None:
        """A node that is new in this run suffers, too."""
        process.on_crash = self._restart_later
        if self._mood.has("drift"):
            rate = 1 + self._chance.uniform(-1, 1) * self._mood["drift"]
            process.clock.set(self._world.now, rate=rate)
            self.done["drift"] += 1

    def stop(self) -> None:
        """Heal everything: the network, the disks, the clocks; start what is down and may come back."""
        self._is_over = True
        self._network.heal()
        self._network.conditions = Conditions()
        for process in self._processes.values():
            process.tuning.crash_chance = 0.0
            process.tuning.sync_s = 0.002
            process.disk.is_full = False
            process.clock.set(self._world.now, rate=1.0)
            if not process.is_up and not process.is_gone_for_good:
                process.start()

    def _repeat(self, mean_s: float, action: Callable[[], None]) -> None:
        def again() -> None:
            if not self._is_over:
                action()
                self._world.after(self._chance.pause_s(mean_s), again)

        self._world.after(self._chance.pause_s(mean_s), again)

    def _up(self) -> list[Process]:
        return [process for process in self._processes.values() if process.is_up]

    def _pick(self) -> Process | None:
        """A node that is up; the leader more often than any other."""
        up = self._up()
        if not up:
            return None
        leaders = [process for process in up if process.is_leader]
        return self._chance.pick(leaders) if leaders and self._chance.happens(0.4) else self._chance.pick(up)

    def _partition(self) -> None:
        """Split the nodes in two for a while; often the leader is alone."""
        names = list(self._processes)
        victim = self._pick()
        if victim is not None and self._chance.happens(0.4):
            side = [victim.node]
        else:
            side = [name for name in names if self._chance.happens(0.5)]
        others = [name for name in names if name not in side]
        ways = [(a, b) for a in side for b in others] + [(b, a) for a in side for b in others]
        self.done["partition"] += bool(ways)
        self._cut_for(ways, self._chance.uniform(0.5, 5))

    def _one_way(self) -> None:
        """One node is not heard any more, or hears nothing, by one or all others."""
        victim = self._pick()
        others = [name for name in self._processes if victim is not None and name != victim.node]
        if victim is None or not others:
            return
        if self._chance.happens(0.5):
            others = [self._chance.pick(others)]
        is_deaf = self._chance.happens(0.5)
        ways = [(name, victim.node) if is_deaf else (victim.node, name) for name in others]
        self._cut_for(ways, self._chance.uniform(0.5, 5))

    def _cut_for(self, ways: list[tuple[NodeId, NodeId]], pause_s: float) -> None:
        self._world.note(f"cut for {pause_s:.2f} s: {' '.join(f'{a}>{b}' for a, b in ways)}")
        for sender, to in ways:
            self._network.cut(sender, to)

        def mend() -> None:
            for sender, to in ways:
                self._network.mend(sender, to)

        self._world.after(pause_s, mend)

    def _clog(self) -> None:
        names = list(self._processes)
        sender, to = self._chance.pick(names), self._chance.pick(names)
        if sender != to:
            self._network.clog(sender, to, self._world.now + self._chance.uniform(0.2, 2.5))

    def _crash(self) -> None:
        victim = self._pick()
        if victim is not None:
            self.done["crash"] += 1
            victim.crash()

    def _crash_all(self) -> None:
        up = self._up()
        self.done["crash_all"] += bool(up)
        for process in up:
            process.crash()

    def _pause(self) -> None:
        """Longer than an election, often."""
        victim = self._pick()
        if victim is not None:
            victim.stand_still(self._chance.uniform(0.2, 4))

    def _fill_disk(self) -> None:
        victim = self._pick()
        if victim is None:
            return
        disk = victim.disk
        disk.is_full = True
        self._world.note(f"the disk of {victim.node} is full")

        def free() -> None:
            disk.is_full = False

        self._world.after(self._chance.uniform(0.3, 3), free)

    def _transfer(self) -> None:
        leaders = [process for process in self._up() if process.is_leader]
        if leaders:
            leader = self._chance.pick(leaders)
            to = None if self._chance.happens(0.3) else self._chance.pick(list(self._processes))
            self.done["transfer"] += 1
            leader.transfer(to)

    def _restart_later(self, process: Process) -> None:
        if self._is_over:
            self._world.after(0.1, lambda: self._start(process))
        else:
            self._world.after(self._chance.pause_s(_RESTART_S), lambda: self._start(process))

    @staticmethod
    def _start(process: Process) -> None:
        if not process.is_up and not process.is_gone_for_good:
            process.start()
