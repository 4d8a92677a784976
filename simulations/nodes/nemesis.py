"""Who brings the faults of a mood about among whole nodes, at random times, until it is told to stop."""

from collections.abc import Callable

from simulations.faults import Mood
from simulations.network import Conditions
from simulations.nodes.cluster import Cluster, Way
from simulations.nodes.node import Computer

RESTART_S = 2.0
"""Mean time until a process that crashed is back."""
SYNC_S = 0.002


class NodeNemesis:
    """Chaos; `done` counts what it did that no other part counts."""

    def __init__(self, cluster: Cluster, mood: Mood) -> None:
        self.done = dict.fromkeys(
            ("crash", "power", "away", "pause", "clock_jump", "death", "engine", "drift", "slow_node"), 0
        )
        self.is_over = False
        self._cluster = cluster
        self._world = cluster.world
        self._mood = mood
        self._chance = cluster.world.chance("nemesis")
        self._away: dict[Computer, None] = {}

    def start(self) -> None:
        """Set the conditions, and begin."""
        mood = self._mood
        for conditions in (self._cluster.network.conditions, self._cluster.group.network.conditions):
            conditions.loss, conditions.duplication = mood["loss"], mood["duplication"]
            if mood.has("slow_network"):
                conditions.delay_s_mean = mood["slow_network"]
        actions: dict[str, Callable[[], None]] = {
            "partition": self._partition,
            "one_way": self._one_way,
            "crash": lambda: self._end("crash", Computer.crash, self._chance.pause_s(RESTART_S)),
            "power": lambda: self._end("power", Computer.lose_power, self._chance.pause_s(2 * RESTART_S)),
            "away": lambda: self._end("away", Computer.lose_power, self._chance.uniform(12, 40)),
            "pause": self._pause,
            "disk_full": self._fill_disk,
            "clock_jump": self._jump,
            "death": self._kill_container,
            "engine": self._lose_engine,
        }
        for knob, action in actions.items():
            if mood.has(knob):
                self._repeat(mood[knob], action)
        for computer in self._cluster.computers.values():
            self._spoil(computer)
        self._watch()

    def _spoil(self, computer: Computer) -> None:
        """What a computer suffers from all the time."""
        mood, tuning = self._mood, computer.replica.tuning
        tuning.crash_chance = mood["crash_between"]
        tuning.sync_s = mood["slow_disk"] or SYNC_S
        if mood.has("drift"):
            rate = 1 + self._chance.uniform(-1, 1) * mood["drift"]
            computer.replica.clock.set(self._world.now, rate=rate)
            self.done["drift"] += 1
        if mood.has("slow_node") and self._chance.happens(0.3):
            computer.member.slow_s = mood["slow_node"]
            self.done["slow_node"] += 1

    def stop(self) -> None:
        """Heal everything; start what is down."""
        self.is_over = True
        cluster = self._cluster
        for network in (cluster.network, cluster.group.network):
            network.heal()
        cluster.network.conditions = Conditions()
        cluster.group.network.conditions = Conditions()
        for computer in cluster.computers.values():
            computer.replica.tuning.crash_chance = 0.0
            computer.replica.tuning.sync_s = SYNC_S
            computer.replica.disk.is_full = False
            computer.replica.clock.set(self._world.now, rate=1.0)
            computer.wall_skew_ms = 0
            computer.member.recover()
            computer.engine.set_available(is_available=True)
            cluster.start(computer)

    def _repeat(self, mean_s: float, action: Callable[[], None]) -> None:
        def again() -> None:
            if not self.is_over:
                action()
                self._world.after(self._chance.pause_s(mean_s), again)

        self._world.after(self._chance.pause_s(mean_s), again)

    def _watch(self) -> None:
        """A process that died by itself is started again, as a service manager does."""
        if self.is_over:
            return
        for computer in self._cluster.computers.values():
            if not computer.is_up and computer not in self._away:
                self._away[computer] = None
                self._world.after(self._chance.pause_s(RESTART_S), lambda one=computer: self._return(one))  # type: ignore[misc]
        self._world.after(0.5, self._watch)

    def _return(self, computer: Computer) -> None:
        self._away.pop(computer, None)
        self._cluster.start(computer)

    def _pick(self) -> Computer | None:
        """A node that is up; the leader more often than any other."""
        up = [one for one in self._cluster.computers.values() if one.is_up]
        leader = self._cluster.leader
        if leader is not None and leader.is_up and self._chance.happens(0.25):
            return leader
        return self._chance.pick(up) if up else None

    def _end(self, knob: str, how: Callable[[Computer], None], for_s: float) -> None:
        victim = self._pick()
        if victim is not None:
            self.done[knob] += 1
            self._away[victim] = None
            how(victim)
            self._world.after(for_s, lambda: self._return(victim))

    def _partition(self) -> None:
        """Two sides, often one node and the rest."""
        computers = list(self._cluster.computers)
        victim = self._pick()
        side = [one for one in computers if self._chance.happens(0.4)]
        if victim is not None and (self._chance.happens(0.4) or len(side) in (0, len(computers))):
            side = [victim.node]
        self._cut_for([way for a in side for b in computers if b not in side for way in ((a, b), (b, a))])

    def _one_way(self) -> None:
        """One node is not heard any more, or hears nothing, by one or all others."""
        victim = self._pick()
        others = [one for one in self._cluster.computers if victim is not None and one != victim.node]
        if victim is None or not others:
            return
        if self._chance.happens(0.5):
            others = [self._chance.pick(others)]
        is_deaf = self._chance.happens(0.5)
        self._cut_for([(one, victim.node) if is_deaf else (victim.node, one) for one in others])

    def _cut_for(self, ways: list[Way]) -> None:
        pause_s = self._chance.uniform(1, 15)
        self._world.note(f"cut for {pause_s:.2f} s: {' '.join(f'{a}>{b}' for a, b in ways)}")
        self._cluster.cut(ways)
        self._world.after(pause_s, lambda: self._cluster.mend(ways))

    def _pause(self) -> None:
        victim = self._pick()
        if victim is not None:
            self.done["pause"] += 1
            victim.stand_still(0.2 * (15 / 0.2) ** self._chance.random())

    def _fill_disk(self) -> None:
        victim = self._pick()
        if victim is None:
            return
        disk = victim.replica.disk
        disk.is_full = True
        self._world.note(f"the disk of {victim.node} is full")

        def free() -> None:
            disk.is_full = False

        self._world.after(self._chance.uniform(0.5, 8), free)

    def _jump(self) -> None:
        """The time of day of one computer is another; the clock that only goes forward does not care."""
        victim = self._chance.pick(list(self._cluster.computers.values()))
        victim.wall_skew_ms = int(self._chance.uniform(-1, 1) * self._chance.pick((100, 5_000, 60_000)))
        self.done["clock_jump"] += 1
        self._world.note(f"the clock of {victim.node} jumps to {victim.wall_skew_ms} ms")

    def _kill_container(self) -> None:
        computers = [one for one in self._cluster.computers.values() if one.engine.containers]
        if computers:
            engine = self._chance.pick(computers).engine
            running = [name for name, one in engine.containers.items() if one.is_running]
            if running:
                self.done["death"] += 1
                engine.kill(self._chance.pick(running))

    def _lose_engine(self) -> None:
        victim = self._pick()
        if victim is not None:
            self.done["engine"] += 1
            victim.engine.set_available(is_available=False)
            self._world.after(self._chance.uniform(1, 10), lambda: victim.engine.set_available(is_available=True))
