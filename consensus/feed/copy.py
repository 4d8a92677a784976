"""A node's own copy of the log as readers of the feed see it, and whether it needs a feed itself."""

from collections.abc import Callable
from typing import Final

from consensus.raft import RaftMachine
from consensus.storage import Entry, Snapshot
from orca.model.ids import LogIndex, Term
from orca.model.units import Instant

UNLED_S: Final = 5.0
"""A member of the group that hears of no leader for so long follows like everybody else."""
LOOK_S: Final = 1.0
"""A node that is fed looks no sooner again whether it still is."""


class Copy:
    """A `Source`. `applied` gives the last entry that the node's state contains; `raft` the machine of now."""

    def __init__(self, raft: Callable[[], RaftMachine], applied: Callable[[], LogIndex]) -> None:
        self._raft = raft
        self._applied = applied

    @property
    def epoch(self) -> int:
        """Which life of the group it belongs to."""
        return self._raft().epoch

    @property
    def commit_index(self) -> LogIndex:
        """What was handed out to be applied is on disk; what was only heard to be committed need not be."""
        return self._applied()

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of entry `index`, if it is there."""
        return self._raft().term_of(index)

    def committed(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """Entries `first` to `last`, both included."""
        return self._raft().committed(first, last)

    def snapshot(self) -> Snapshot | None:
        """The newest snapshot."""
        return self._raft().snapshot


def is_fed(raft: RaftMachine, now: Instant) -> bool:
    """Whether the leader sends this node the log."""
    if raft.is_leader:
        return True
    if raft.node not in raft.membership.members or raft.leader_contact_at is None:
        return False
    return now - raft.leader_contact_at < UNLED_S


def fed_for_s(raft: RaftMachine, now: Instant) -> float:
    """So long at least a node that is fed takes itself for fed, unless the group changes."""
    if raft.is_leader or raft.leader_contact_at is None:
        return UNLED_S
    return max(LOOK_S, raft.leader_contact_at + UNLED_S - now)
