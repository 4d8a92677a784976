"""Who brings the faults of a mood about in a group of members, at random times, until it is told to stop."""

from collections.abc import Callable
from typing import Final

from gossip.messages import Address
from simulations.faults import Mood
from simulations.members.group import Group
from simulations.members.member import Member
from simulations.network import Conditions

MEMBERS_MAX: Final = 24
RESTART_S: Final = 12.0
"""Mean time until a crashed member is back: some are taken for dead by then, and some are not."""


class Nemesis:
    """Chaos; `done` counts what it did that no other part counts."""

    def __init__(self, group: Group, mood: Mood) -> None:
        self.done = dict.fromkeys(("crash", "leave", "join", "stall", "slow_member", "long_partition"), 0)
        self._group = group
        self._world = group.world
        self._mood = mood
        self._chance = group.world.chance("nemesis")
        self._is_over = False

    def start(self) -> None:
        """Set the conditions, and begin."""
        mood, conditions = self._mood, self._group.network.conditions
        conditions.loss, conditions.duplication = mood["loss"], mood["duplication"]
        conditions.reordering = mood["reordering"]
        if mood.has("slow_network"):
            conditions.delay_s_mean = mood["slow_network"]
        actions: dict[str, Callable[[], None]] = {
            "partition": self._partition,
            "one_way": self._one_way,
            "clog": self._clog,
            "crash": self._crash,
            "leave": self._leave,
            "join": self._join,
            "pause": self._pause,
            "stall": self._stall,
        }
        for knob, action in actions.items():
            if mood.has(knob):
                self._repeat(mood[knob], action)
        if mood.has("slow_member"):
            self._slow_down()
        if mood.has("long_partition"):
            self.done["long_partition"] += 1
            self._cut_for(self._split(), mood["long_partition"])

    def stop(self) -> None:
        """Heal everything; start what is down."""
        self._is_over = True
        self._group.network.heal()
        self._group.network.conditions = Conditions()
        for member in self._group.members.values():
            member.recover()
            if not member.is_up:
                self._start(member)

    def _repeat(self, mean_s: float, action: Callable[[], None]) -> None:
        def again() -> None:
            if not self._is_over:
                action()
                self._world.after(self._chance.pause_s(mean_s), again)

        self._world.after(self._chance.pause_s(mean_s), again)

    def _pick(self) -> Member | None:
        up = self._group.staying()
        return self._chance.pick(up) if up else None

    def _pick_spare(self) -> Member | None:
        """One that may go: two stay at least, so that somebody is there to find it."""
        up = self._group.staying()
        return self._chance.pick(up) if len(up) > 2 else None

    def _start(self, member: Member) -> None:
        """With a join when it kept nothing, or by chance: whoever kept its peers looks for them by itself."""
        others = [other.address for other in self._group.staying() if other is not member]
        if others and (member.has_forgotten or self._chance.happens(0.5)):
            member.start((self._chance.pick(others),))
        else:
            member.start()

    def _split(self) -> list[tuple[Address, Address]]:
        """The ways between two sides, often one member and the rest."""
        members = list(self._group.members.values())
        side = [member for member in members if self._chance.happens(0.5)]
        if self._chance.happens(0.3) or len(side) in (0, len(members)):
            side = [self._chance.pick(members)]
        inside = dict.fromkeys(member.address for member in side)
        return [way for a in inside for b in self._group.by_address if b not in inside for way in ((a, b), (b, a))]

    def _partition(self) -> None:
        self._cut_for(self._split(), self._chance.uniform(1, 25))

    def _one_way(self) -> None:
        """One member is not heard any more, or hears nothing, by one or all others."""
        victim = self._pick()
        others = [address for address in self._group.by_address if victim is not None and address != victim.address]
        if victim is None or not others:
            return
        if self._chance.happens(0.5):
            others = [self._chance.pick(others)]
        is_deaf = self._chance.happens(0.5)
        ways = [(one, victim.address) if is_deaf else (victim.address, one) for one in others]
        self._cut_for(ways, self._chance.uniform(1, 20))

    def _cut_for(self, ways: list[tuple[Address, Address]], pause_s: float) -> None:
        self._world.note(f"cut for {pause_s:.2f} s: {' '.join(f'{a.host}>{b.host}' for a, b in ways)}")
        self._group.cut(ways)
        self._trouble(ways)

        def mend() -> None:
            self._group.mend(ways)
            self._trouble(ways)

        self._world.after(pause_s, mend)

    def _trouble(self, ways: list[tuple[Address, Address]]) -> None:
        for address in {end: None for way in ways for end in way}:
            self._group.by_address[address].troubled_at = self._world.now

    def _clog(self) -> None:
        addresses = list(self._group.by_address)
        sender, to = self._chance.pick(addresses), self._chance.pick(addresses)
        if sender != to:
            self._group.network.clog(sender, to, self._world.now + self._chance.uniform(0.5, 10))

    def _crash(self) -> None:
        victim = self._pick_spare()
        if victim is not None:
            self.done["crash"] += 1
            victim.crash()
            self._return_later(victim)

    def _leave(self) -> None:
        victim = self._pick_spare()
        if victim is not None:
            self.done["leave"] += 1
            victim.leave()
            self._return_later(victim)

    def _return_later(self, member: Member) -> None:
        def come_back() -> None:
            if self._is_over:
                return
            if member.is_up:  # still leaving
                self._world.after(5.0, come_back)
            else:
                self._start(member)

        self._world.after(self._chance.pause_s(RESTART_S), come_back)

    def _join(self) -> None:
        seed = self._pick()
        if seed is not None and len(self._group.members) < MEMBERS_MAX:
            self.done["join"] += 1
            self._group.add().start((seed.address,))

    def _pause(self) -> None:
        """Often longer than a probe, sometimes longer than a suspicion."""
        victim = self._pick()
        if victim is not None:
            victim.pause(0.3 * (60 / 0.3) ** self._chance.random())

    def _stall(self) -> None:
        """Too short to be buried for it; a member that stands still already is left alone."""
        victim = self._pick()
        if victim is not None and not victim.is_paused:
            self.done["stall"] += 1
            victim.pause(self._chance.uniform(0.2, 1.2))

    def _slow_down(self) -> None:
        """A quarter of the members, at least one."""
        members = list(self._group.members.values())
        for _ in range(max(1, len(members) // 4)):
            slow = self._chance.pick(members)
            slow.slow_s = self._mood["slow_member"]
            self.done["slow_member"] += 1
