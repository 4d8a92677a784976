"""A group under watch: some members stall again and again, others crash; who is buried, how soon, at what cost.

The anomaly is the one of the Lifeguard paper (§V): a member handles nothing for a while, then works for a while, and
so on. All that stall do so together, which is the hardest for their peers.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from gossip.machine import config_of
from gossip.swim import ChangeKind, MemberChanged, SwimConfig
from simulations.members.group import ORCA_TAGS, Group
from simulations.members.member import Member
from simulations.network import Conditions
from simulations.world import World

FORM_S: Final = 15.0


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One run: `members`, of whom `stalling` do nothing for `stall_s` and work for `work_s`, in turns.

    Every `crash_every_s` one that does not stall crashes for good, `crashes` times. The run goes on for `rest_s` then.
    `notices_stalls` False: a loop is not told that it stood still, as in memberlist. `loss`: chance a packet.
    `has_facts` False: members speak Serf only. `blocks_messages`: only messages stall and timers go on, as in the
    paper; else the whole process stands still.
    """

    swim: SwimConfig
    members: int = 32
    stalling: int = 0
    stall_s: float = 0.0
    work_s: float = 1.0
    crashes: int = 3
    crash_every_s: float = 30.0
    rest_s: float = 30.0
    loss: float = 0.0
    notices_stalls: bool = True
    has_facts: bool = True
    blocks_messages: bool = False


class Outcome(msgspec.Struct, kw_only=True):
    """What was seen, over one run or many.

    `false_positives`: a member was declared dead and lives, counted once for each that believed it.
    `healthy`: of them those about a member that does not stall, believed by one that does not (FP-).
    `first_s`, `last_s`: from each crash to the first and to the last of the living that do not stall. `missed`: crashes
    that not all of them knew in the end.
    """

    false_positives: int = 0
    healthy: int = 0
    first_s: list[float] = []
    last_s: list[float] = []
    missed: int = 0
    packets: int = 0
    bytes: int = 0
    member_s: float = 0.0

    def add(self, other: "Outcome") -> None:
        """Sum up."""
        self.false_positives += other.false_positives
        self.healthy += other.healthy
        self.first_s = [*self.first_s, *other.first_s]
        self.last_s = [*self.last_s, *other.last_s]
        self.missed += other.missed
        self.packets += other.packets
        self.bytes += other.bytes
        self.member_s += other.member_s

    @property
    def packets_per_s(self) -> float:
        """Of one member."""
        return self.packets / self.member_s

    @property
    def bytes_per_s(self) -> float:
        """Of one member, streams included."""
        return self.bytes / self.member_s

    @property
    def false_positives_per_hour(self) -> float:
        """Of one member's time."""
        return self.false_positives * 3600 / self.member_s


class Experiment:
    """One run of a setting."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self._setting = setting
        self._world = World(seed)
        self._group = Group(
            self._world,
            config_of(setting.swim),
            conditions=Conditions(delay_s_mean=0.0005),
            notices_stalls=setting.notices_stalls,
        )
        self._group.listeners.append(self._heard)
        self._stalling: dict[str, Member] = {}
        self._crashed_at: dict[str, float] = {}
        self._found: dict[str, dict[str, float]] = {}
        self._outcome = Outcome()

    def run(self) -> Outcome:
        """Form a group, bring the faults about, and count."""
        setting, group = self._setting, self._group
        members = group.form(setting.members, ORCA_TAGS if setting.has_facts else {})
        group.run(FORM_S)
        disagreement = group.disagreement()
        assert not disagreement, f"the group did not form in {FORM_S:g} s: {disagreement}"
        group.network.conditions.loss = setting.loss
        before = self._sums()
        began = self._world.now
        self._stalling = {member.node: member for member in members[: setting.stalling]}
        if self._stalling:
            self._stall()
        for victim in reversed(members[len(members) - setting.crashes :]):
            group.run(setting.crash_every_s)
            victim.crash()
            self._crashed_at[victim.node] = self._world.now
            self._found[victim.node] = {}
        group.run(setting.rest_s)
        packets, size = self._sums()
        outcome = self._outcome
        outcome.packets, outcome.bytes = packets - before[0], size - before[1]
        outcome.member_s = setting.members * (self._world.now - began)
        self._count_detections()
        return outcome

    def _stall(self) -> None:
        """All at once, again and again."""
        for member in self._stalling.values():
            if self._setting.blocks_messages:
                member.block(self._setting.stall_s)
            else:
                member.pause(self._setting.stall_s)
        self._world.after(self._setting.stall_s + self._setting.work_s, self._stall)

    def _heard(self, member: Member, news: Any) -> None:
        if not isinstance(news, MemberChanged) or news.kind is not ChangeKind.FAILED:
            return
        subject = self._group.members[news.member.node]
        if subject.is_up:
            self._outcome.false_positives += 1
            self._outcome.healthy += member.node not in self._stalling and subject.node not in self._stalling
        elif member.node not in self._stalling:
            took_s = self._world.now - self._crashed_at[subject.node]
            self._found[subject.node].setdefault(member.node, took_s)

    def _count_detections(self) -> None:
        watching = [member.node for member in self._group.up() if member.node not in self._stalling]
        for node, found in self._found.items():
            times = [found[watcher] for watcher in watching if watcher in found]
            if len(times) < len(watching):
                self._outcome.missed += 1
            if times:
                self._outcome.first_s.append(min([*found.values()]))
                self._outcome.last_s.append(max(times))
            self._world.note(f"{node} was found dead by {len(times)}")

    def _sums(self) -> tuple[int, int]:
        members = self._group.members.values()
        streamed = self._group.streams.bytes_sent
        packets = sum(member.counts.packets for member in members)
        return packets, sum(member.counts.packet_bytes + streamed.get(member.address, 0) for member in members)


def repeat(setting: Setting, seeds: Iterable[int]) -> Outcome:
    """The same with each of the seeds, summed up."""
    total = Outcome()
    for seed in seeds:
        total.add(Experiment(setting, seed).run())
    return total


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below `share` of all; nan without any."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
