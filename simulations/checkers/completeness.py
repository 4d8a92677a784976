"""Every crash is found by every living member, in time (SWIM §3, strong completeness within a bound)."""

import math
from typing import Any, Final

from gossip.swim import ChangeKind, MemberChanged, MemberState, SwimConfig
from gossip.swim.suspicion import suspicion_min_s
from gossip.transmit_queue import transmit_limit
from simulations.checkers.group import GroupChecker
from simulations.members.group import Group
from simulations.members.member import Member

TURNS: Final = 16
"""Probe turns until somebody probes the dead: with n - 1 who do that each turn, e^-16 is the chance of none."""


def detection_bound_s(config: SwimConfig, members: int) -> float:
    """Seconds from a crash to its last detection when nothing else is wrong.

    A probe begins within `TURNS` intervals, or two rounds of the list if that is less; it takes one interval;
    the suspicion takes its longest, since nobody has to confirm it; then the news travels.
    """
    turns = min(TURNS, 2 * (members - 1))
    probe_s = (turns + 1) * config.probe_interval_s
    suspicion_s = suspicion_min_s(config.suspicion_multiplier, members, config.probe_interval_s)
    if members - 2 >= config.confirmations_max > 0:
        suspicion_s *= config.suspicion_max_multiplier
    rounds = math.ceil(transmit_limit(config.retransmit_multiplier, members) / config.gossip_nodes)
    return probe_s + suspicion_s + 2 * rounds * config.gossip_interval_s


class Completeness(GroupChecker):
    """Judges the crashes that it is asked to; `found_s` holds how long each member took for each."""

    name = "completeness"

    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self.found_s: dict[str, dict[str, float]] = {}
        self._watched: dict[str, float] = {}

    def watch(self, victim: Member) -> None:
        """From now on its crash, which has just happened, is to be found."""
        self._watched[victim.node] = self.group.world.now
        self.found_s[victim.node] = {}

    def heard(self, member: Member, news: Any) -> None:
        """Somebody found somebody dead."""
        if isinstance(news, MemberChanged) and news.kind is ChangeKind.FAILED and news.member.node in self._watched:
            crashed_at = self._watched[news.member.node]
            self.found_s[news.member.node].setdefault(member.node, self.group.world.now - crashed_at)

    def demand(self) -> None:
        """All who live must know of all crashes that are watched."""
        for node, crashed_at in self._watched.items():
            for member in self.group.staying():
                view = member.machine.swim.member(node)
                if view is not None and view.state in (MemberState.ALIVE, MemberState.SUSPECT):
                    late_s = self.group.world.now - crashed_at
                    self.fail(f"{node} crashed {late_s:.1f} s ago, and {member.node} has it for {view.state.value}")
                    return
        self._watched.clear()
