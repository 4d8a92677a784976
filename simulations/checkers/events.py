"""A user event is delivered once to everybody who was there all the time, if anybody who stays has it.

But for one thing, which is Serf's own: who was restarted takes no event of a Lamport time before its restart, for it
may have had that one. A speaker whose clock is behind, because it was cut off, may say something of such a time later.
"""

from typing import Any, Final

from gossip.serf import UserEventReceived
from simulations.checkers.group import GroupChecker
from simulations.members.group import Group
from simulations.members.member import Member

EXCHANGES: Final = 8
"""Turns of anti-entropy until the last member has met somebody who knows."""
_Event = tuple[int, str, bytes]
_Life = tuple[str, int]


class Events(GroupChecker):
    """Knows who heard what in which life."""

    name = "events"

    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self.said_at: dict[_Event, float] = {}
        self._heard: dict[_Life, dict[_Event, None]] = {}
        self._since: dict[_Life, float] = {}

    def heard(self, member: Member, news: Any) -> None:
        """Note it; nothing may come twice in one life."""
        life, now = (member.node, member.life), self.group.world.now
        self._since.setdefault(life, now)
        if not isinstance(news, UserEventReceived):
            return
        event = (news.ltime, news.name, news.payload)
        self.said_at.setdefault(event, now)
        heard = self._heard.setdefault(life, {})
        if event in heard:
            self.fail(f"{member.node} heard {news.name} of time {news.ltime} twice in its life {member.life}")
        heard[event] = None

    def missing(self) -> str:
        """Who has not heard what it is owed; empty when nobody."""
        minimum = {(one.node, one.life): one.machine.serf.event_ltime_min for one in self.group.staying()}
        known = {event for life in minimum for event in self._heard.get(life, ())}
        for event in sorted(known, key=lambda event: (self.said_at[event], event)):
            for life, earliest in minimum.items():
                is_owed = self._since[life] < self.said_at[event] and event[0] >= earliest
                if is_owed and event not in self._heard.get(life, ()):
                    return f"{life[0]} never heard {event[1]} of time {event[0]}, said at {self.said_at[event]:.1f} s"
        return ""

    def demand(self) -> None:
        """Within some turns of anti-entropy all have heard all."""
        limit_s = EXCHANGES * self.group.config.swim.push_pull_interval_s
        self.group.run(limit_s, lambda: not self.missing())
        if found := self.missing():
            self.fail(found)
