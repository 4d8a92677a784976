"""How gossip scales: the sampled model against whole members where those can be afforded, and 10,000 members then.

The measure is the epidemic limit: log n to the base of the fanout, in rounds of gossip. A change has to reach
everybody within twice that.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gossip.machine import config_of
from gossip.serf import StatusChange, StatusChanged
from gossip.swim import ChangeKind, MemberChanged, SwimConfig
from simulations.members.epidemic import Detection, Spread
from simulations.members.experiment import percentile
from simulations.members.group import Group
from simulations.members.member import Member
from simulations.network import Conditions
from simulations.world import World

SETTLE_S: Final = 30.0
QUIET_S: Final = 5.0
LARGE: Final = 10_000
TOLERANCE: Final = 0.25
"""The medians of the two models may differ by so much, and by two rounds of gossip."""


class Times(msgspec.Struct, kw_only=True):
    """Seconds until the last member has a change, and until the first and the last have found a crash."""

    spread_s: list[float] = []
    first_s: list[float] = []
    last_s: list[float] = []


def limit_s(swim: SwimConfig, members: int) -> float:
    """The epidemic limit."""
    return math.log(members, swim.gossip_nodes) * swim.gossip_interval_s


class Whole:
    """Whole members: one group, some changes of tags and some crashes in it, one after the other."""

    def __init__(self, swim: SwimConfig, members: int, seed: int) -> None:
        self._swim = swim
        self._world = World(seed)
        self._group = Group(self._world, config_of(swim), conditions=Conditions(delay_s_mean=0.0005))
        self._group.listeners.append(self._heard)
        self._count = members
        self._began = 0.0
        self._subject = ""
        self._seen: dict[str, float] = {}

    def run(self, changes: int, crashes: int) -> Times:
        """Members come a few at a time, so that they need not all talk to the first."""
        times, group = Times(), self._group
        members = group.form(1, {})
        while len(members) < self._count:
            members += group.form(min(len(members), 32, self._count - len(members)), {})
            group.run(2.0)
        group.run(SETTLE_S)
        for number in range(changes):
            self._begin(members[number])
            members[number].retag({"turn": str(number)})
            group.run(QUIET_S)
            times.spread_s.append(self._last(self._count - 1))
        for victim in members[changes : changes + crashes]:
            self._begin(victim)
            victim.crash()
            group.run(SETTLE_S)
            others = len(group.up())
            times.first_s.append(min(self._seen.values(), default=math.inf))
            times.last_s.append(self._last(others))
        return times

    def _begin(self, subject: Member) -> None:
        self._began, self._subject, self._seen = self._world.now, subject.node, {}

    def _last(self, expected: int) -> float:
        return max(self._seen.values()) if len(self._seen) >= expected else math.inf

    def _heard(self, member: Member, news: Any) -> None:
        match news:
            case StatusChanged(change=StatusChange.UPDATED, members=members):
                nodes = [changed.node for changed in members]
            case MemberChanged(kind=ChangeKind.FAILED, member=view):
                nodes = [view.node]
            case _:
                return
        if self._subject in nodes and member.node != self._subject:
            self._seen.setdefault(member.node, self._world.now - self._began)


def sample(swim: SwimConfig, members: int, seeds: Sequence[int], *, detections: bool = True) -> Times:
    """The sampled model, once a seed."""
    times = Times()
    for seed in seeds:
        world = World(seed)
        times.spread_s.append(Spread(members, swim, world.chance("spread")).run())
        if detections:
            detection = Detection(members - 1, swim, world.chance("detection"))
            times.last_s.append(detection.run())
            times.first_s.append(detection.first_s)
    return times


def differences(swim: SwimConfig, whole: Times, sampled: Times) -> list[str]:
    """Where the medians of the two models are further apart than they may be."""
    found = []
    for name in ("spread_s", "first_s", "last_s"):
        one, other = percentile(getattr(whole, name), 0.5), percentile(getattr(sampled, name), 0.5)
        if not abs(one - other) <= TOLERANCE * one + 2 * swim.gossip_interval_s:
            found.append(f"{name}: whole members take {one:.2f}, the model {other:.2f}")
    return found


def print_table(
    say: Callable[[str], None], profiles: dict[str, SwimConfig], exact: int, large: int = LARGE, seeds: int = 10
) -> int:
    """Two lines a profile for `exact` members, one for `large`; 1 when the models differ or the limit is broken."""
    head = f"{'':<6}{'members':>8} {'model':<8}{'limit':>6}{'change p50':>11}{'max':>6}"
    say(head + f"{'first p50':>11}{'last p50':>10}{'max':>6}")
    broken = []
    for name, swim in profiles.items():
        sampled = sample(swim, exact, range(3 * seeds))
        far = sample(swim, large, range(seeds))
        say(line_of(name, large, "sampled", swim, far))
        say(line_of(name, exact, "sampled", swim, sampled))
        whole = Whole(swim, exact, 1).run(changes=7, crashes=3)
        say(line_of(name, exact, "whole", swim, whole))
        broken += [f"{name}: {difference}" for difference in differences(swim, whole, sampled)]
        if max(far.spread_s) > 2 * limit_s(swim, large):
            broken.append(f"{name}: {large} members take {max(far.spread_s):.2f} s for a change, above twice the limit")
    for line in broken:
        say(line)
    return 1 if broken else 0


def line_of(name: str, members: int, model: str, swim: SwimConfig, times: Times) -> str:
    """Of the table."""
    line = f"{name:<6}{members:>8} {model:<8}{limit_s(swim, members):>6.2f}{percentile(times.spread_s, 0.5):>11.2f}"
    line += f"{max(times.spread_s):>6.2f}{percentile(times.first_s, 0.5):>11.1f}"
    return line + f"{percentile(times.last_s, 0.5):>10.1f}{max(times.last_s):>6.1f}"
