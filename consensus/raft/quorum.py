"""Majorities: who has won, and what a majority has."""

import enum
from collections.abc import Iterable, Sequence
from typing import TypeVar

from orca.model.ids import NodeId

N = TypeVar("N", int, float)


def quorum_size(voters: int) -> int:
    """More than half: any two quorums share a voter (§3.6)."""
    return voters // 2 + 1


def reached_by_quorum(values: Sequence[N]) -> N:
    """The highest value that a quorum has reached, given one value a voter (§3.5)."""
    return sorted(values)[(len(values) - 1) // 2]


class Verdict(enum.Enum):
    """How a vote stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


class VoteTally:
    """Who said what in one election; only voters count, and each once."""

    def __init__(self, voters: Iterable[NodeId]) -> None:
        self._votes: dict[NodeId, bool | None] = dict.fromkeys(voters)

    def record(self, voter: NodeId, is_granted: bool) -> None:
        """A first answer counts; a second one, or a stranger's, does not."""
        if voter in self._votes and self._votes[voter] is None:
            self._votes[voter] = is_granted

    @property
    def verdict(self) -> Verdict:
        """WON with a quorum of grants, LOST when there can be none any more."""
        votes = list(self._votes.values())
        needed = quorum_size(len(votes))
        if votes.count(True) >= needed:
            return Verdict.WON
        return Verdict.LOST if len(votes) - votes.count(False) < needed else Verdict.PENDING

    def granted(self) -> list[NodeId]:
        """Who voted for it."""
        return [voter for voter, vote in self._votes.items() if vote]
