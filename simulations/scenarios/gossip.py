"""Chaos for a gossip cluster of 2 to 12 members, then repair, then all must agree, be quiet, and find a crash.

The members are whole: SWIM, Serf, facts and the codec, sealed in some runs. While faults happen they write
facts, change tags and send events. Which faults a run has, on which profile, is drawn from its seed.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from gossip.facts import FactRemoved, FactWritten
from gossip.machine import ORCA_TAG, config_of
from gossip.serf import EventRequested
from gossip.swim import PROFILES
from simulations.checkers.accuracy import Accuracy
from simulations.checkers.completeness import Completeness, detection_bound_s
from simulations.checkers.convergence import Convergence
from simulations.checkers.events import Events
from simulations.checkers.group import GroupJudge
from simulations.checkers.memory import Memory
from simulations.checkers.traffic import Traffic
from simulations.faults import Mood, draw_mood
from simulations.members.group import Group
from simulations.members.knobs import CONFUSING, KNOBS
from simulations.members.nemesis import Nemesis
from simulations.scenarios.report import Report
from simulations.world import World

NAME: Final = "gossip"
FORMED_WITHIN_S: Final = 20.0
QUIET_AFTER_S: Final = 15.0
QUIET_S: Final = 10.0
KEYS: Final = ("load", "log", "health/web.1", "health/web.2")


class GossipPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of; None is drawn from the seed."""

    name: str = NAME
    members: int | None = None
    profile: str | None = None
    is_sealed: bool | None = None
    chaos_s: float = 30.0
    mood: Mood | None = None


class GossipChaos:
    """One run."""

    def __init__(self, seed: int, plan: GossipPlan, trace: Callable[[str], None] | None = None) -> None:
        self.world = World(seed, trace)
        self.plan = plan
        self.mood = plan.mood or draw_mood(self.world.chance("mood"), KNOBS)
        self._chance = self.world.chance("scenario")
        chance = self._chance
        self.profile = plan.profile or chance.pick(("orca", "orca", "orca", "lan", "local"))
        self._count = plan.members or chance.pick((2, 3, 3, 4, 4, 5, 5, 6, 8, 12))
        is_sealed = chance.happens(0.2) if plan.is_sealed is None else plan.is_sealed
        key = chance.randbytes(32)
        self.group = Group(self.world, config_of(PROFILES[self.profile]), key=key if is_sealed else b"")
        self._nemesis = Nemesis(self.group, self.mood)
        is_strict = not any(self.mood.has(knob) for knob in CONFUSING)
        self.accuracy = Accuracy(self.group, is_strict=is_strict)
        self.completeness = Completeness(self.group)
        self.convergence = Convergence(self.group)
        self.traffic = Traffic(self.group)
        self.events = Events(self.group)
        checkers = (self.accuracy, self.completeness, self.convergence, self.traffic, self.events, Memory(self.group))
        self.judge = GroupJudge(self.group, checkers)
        self.said = 0
        self.healed_s = 0.0
        self._is_talking = True

    def run(self) -> Report:
        """The whole story; it ends with the first violation."""
        try:
            self._tell()
        except AssertionError as error:
            self.judge.report("invariants", str(error))
        return self._report()

    def _tell(self) -> None:
        self.group.form(self._count)
        if not self.convergence.demand("the start", FORMED_WITHIN_S):
            return
        self._nemesis.start()
        self._talk()
        self._run(max(self.plan.chaos_s, self.mood["long_partition"] + 5))
        if self.judge.violations:
            return
        self.world.note("heal")
        self._is_talking = False
        self._nemesis.stop()
        began = self.world.now
        if not self.convergence.demand("the last repair"):
            return
        self.healed_s = self.world.now - began
        self._run(QUIET_AFTER_S)
        self.traffic.demand_quiet(QUIET_S)
        self.events.demand()
        if not self.judge.violations:
            self._crash_one()

    def _run(self, for_s: float) -> None:
        self.group.run(for_s, lambda: bool(self.judge.violations))

    def _crash_one(self) -> None:
        """Nothing is wrong, and then somebody dies."""
        members = len(self.group.staying())
        victim = self._chance.pick(self.group.staying())
        victim.crash()
        self.completeness.watch(victim)
        self._run(detection_bound_s(self.group.config.swim, members))
        self.completeness.demand()

    def _talk(self) -> None:
        """Somebody says something: a fact, a tag, an event."""
        if not self._is_talking:
            return
        staying = [member for member in self.group.staying() if not member.is_paused]
        if staying:
            self.said += 1
            member, number = self._chance.pick(staying), self.said
            key = self._chance.pick(KEYS)
            match self._chance.between(0, 9):
                case 0:
                    member.retag({ORCA_TAG: "sim", "turn": str(number)})
                case 1:
                    member.tell(EventRequested(name=f"event{number % 4}", payload=b"%d" % number))
                case 2:
                    member.tell(FactRemoved(key=key))
                case 3:
                    member.tell(FactWritten(key=key, value=self._chance.randbytes(self._chance.between(1000, 5000))))
                case _:
                    member.tell(FactWritten(key=key, value=b"%d" % number))
        self.world.after(self._chance.pause_s(1.0), self._talk)

    def _report(self) -> Report:
        members = list(self.group.members.values())
        found_s = [found for by_member in self.completeness.found_s.values() for found in by_member.values()]
        return Report(
            scenario=NAME,
            seed=self.world.seed,
            digest=self.world.digest(),
            mood=self.mood,
            violations=list(self.judge.violations),
            effects=self._effects(),
            actions=self.world.actions,
            steps=sum(member.counts.steps for member in members),
            virtual_s=self.world.now,
            done=self.said,
            figures={
                "node-hours": self.accuracy.member_hours,
                "false positives": self.accuracy.false_positives,
                "of the healthy by the healthy": self.accuracy.healthy,
                "seconds to agree": self.healed_s,
                "seconds to the last detection": max(found_s, default=0.0),
            },
        )

    def _effects(self) -> dict[str, int]:
        """What each knob really did; see `members.knobs`."""
        network, done, mood = self.group.network.counts, self._nemesis.done, self.mood
        counts = [member.counts for member in self.group.members.values()]
        is_cut = mood.has("partition") or mood.has("long_partition")
        return {
            "loss": network.lost,
            "duplication": network.duplicated,
            "reordering": network.overtaken if mood.has("reordering") else 0,
            "slow_network": network.slow if mood.has("slow_network") else 0,
            "partition": network.cut if mood.has("partition") else 0,
            "one_way": network.cut_one_way if mood.has("one_way") else 0,
            "clog": network.clogged,
            "pause": sum(one.pauses for one in counts) - done["stall"],
            **done,
            "long_partition": network.cut if is_cut and mood.has("long_partition") else 0,
        }


def run(seed: int, trace: Callable[[str], None] | None = None, plan: GossipPlan | None = None) -> Report:
    """One run of this scenario."""
    return GossipChaos(seed, plan or GossipPlan(), trace).run()
