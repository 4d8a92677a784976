"""What judges of a gossip cluster are told."""

from collections.abc import Iterable, Sequence
from typing import Any

from simulations.judge import Checker, Judge
from simulations.members.group import Group
from simulations.members.member import Member


class GroupChecker(Checker):
    """A judge of a group of members."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.group = group

    def heard(self, member: Member, news: Any) -> None:
        """`member` told its node `news`."""

    def look(self) -> None:
        """A second has gone by."""


class GroupJudge(Judge):
    """Tells all checkers of a group, and keeps what they find."""

    def __init__(self, group: Group, checkers: Sequence[GroupChecker], others: Iterable[Checker] = ()) -> None:
        super().__init__(group.world, [*checkers, *others])
        self._group_checkers = tuple(checkers)
        self._world = group.world
        group.listeners.append(self._heard)
        self._world.after(1.0, self._look)

    def _heard(self, member: Member, news: Any) -> None:
        for checker in self._group_checkers:
            checker.heard(member, news)

    def _look(self) -> None:
        for checker in self._group_checkers:
            checker.look()
        self._world.after(1.0, self._look)
