"""Who knows how much of what is committed to be: the store of this node, and its peers. Pure."""

import math
from typing import Final

from consensus.raft import Message, RaftMachine
from consensus.raft.messages import AppendEntries, Heartbeat
from orca.model.ids import LogIndex, NodeId
from orca.model.units import Instant

SAVE_S: Final = 0.25
WORD_S: Final = 0.001
"""A follower applies what is committed so much later when nothing else is sent to it meanwhile."""
UNLED_START_S: Final = 5.0
"""So long a node that is not its own quorum waits for a leader before it goes by what it last knew."""


def knows_enough(raft: RaftMachine, now: Instant, give_up_at: float) -> bool:
    """Whether the state of a node that starts is one to act on.

    A voter that is its own quorum has committed its log. Any other has heard from a leader and applied
    what that had committed, or there is none and it goes by what it knows (its workloads have to run).
    """
    if raft.is_leader:
        return True
    if raft.membership.voters == (raft.node,):
        return False
    if raft.leader is not None and raft.commit_index:
        return True
    return now >= give_up_at


class KnownCommits:
    """Decides when the commit index is worth a write of its own.

    Each write takes it along, but the last write of a burst comes before its own commit. Who
    restarts while there is no leader has only what was written to go by.
    """

    def __init__(self, saved: LogIndex, now: Instant) -> None:
        self._saved = saved
        self._saved_at = now

    def save(self, index: LogIndex | None, now: Instant) -> None:
        """A write took `index` along; None: it knew of none."""
        self._saved, self._saved_at = index or LogIndex(0), now

    def due_at(self, index: LogIndex) -> float:
        """When `index` is to be written by itself; never, when it was."""
        return self._saved_at + SAVE_S if index > self._saved else math.inf


class CommitWords:
    """Messages that only tell a peer what is committed, kept for a moment.

    Whoever waits for a change on this node is answered first, and often proposes the next one, whose append tells
    the same: under load hardly any such message is sent.
    """

    def __init__(self) -> None:
        self._words: dict[NodeId, Heartbeat] = {}
        self._due_at = math.inf

    @property
    def due_at(self) -> float:
        """When the words are to be sent; never, when there are none."""
        return self._due_at

    def takes(self, to: NodeId, message: Message, now: Instant) -> bool:
        """Whether `message` is such a word, and kept. Any other that tells `to` as much takes its word's place."""
        if isinstance(message, Heartbeat) and not message.round:
            self._words[to] = message
            self._due_at = min(self._due_at, now + WORD_S)
            return True
        word = self._words.get(to)
        if word is not None and isinstance(message, AppendEntries | Heartbeat):
            if message.commit_index >= word.commit_index:
                del self._words[to]
            if not self._words:
                self._due_at = math.inf
        return False

    def take(self) -> dict[NodeId, Heartbeat]:
        """All words that are kept; none is afterwards."""
        words, self._words, self._due_at = self._words, {}, math.inf
        return words
