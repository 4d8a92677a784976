"""The living are not buried."""

from typing import Any

from gossip.swim import ChangeKind, MemberChanged
from simulations.checkers.completeness import detection_bound_s
from simulations.checkers.group import GroupChecker
from simulations.members.group import Group
from simulations.members.member import Member


class Accuracy(GroupChecker):
    """Counts who was taken for dead and lives.

    `false_positives`: by anybody. `healthy`: of them those about a member in full health, by a member in full
    health (the paper's FP-): those whose last trouble is longer ago than the longest suspicion and its travels. With
    `is_strict` none of the latter may be.
    """

    name = "accuracy"

    def __init__(self, group: Group, *, is_strict: bool) -> None:
        super().__init__(group)
        self.false_positives = 0
        self.healthy = 0
        self.member_hours = 0.0
        self._is_strict = is_strict

    def heard(self, member: Member, news: Any) -> None:
        """Somebody found somebody dead: that must be true."""
        if not isinstance(news, MemberChanged) or news.kind is not ChangeKind.FAILED:
            return
        subject = self.group.members[news.member.node]
        if not subject.is_up or subject.is_leaving:
            return
        self.false_positives += 1
        self.group.world.note(f"{member.node} buries {subject.node}, which lives")
        recent_s = detection_bound_s(self.group.config.swim, len(self.group.members))
        if member.is_well(recent_s) and subject.is_well(recent_s):
            self.healthy += 1
            if self._is_strict:
                self.fail(f"{member.node} declared {subject.node} dead; both were up and in full health")

    def look(self) -> None:
        """Another second of everybody who is up."""
        self.member_hours += len(self.group.up()) / 3600
