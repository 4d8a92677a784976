"""The four safety properties of Raft that can be seen from outside its rules (thesis, figure 3.2)."""

from collections.abc import Sequence
from typing import NamedTuple

from consensus.storage import Entry
from orca.model.ids import LogIndex, NodeId, Term
from simulations.judge import Checker, TermAt


class ElectionSafety(Checker):
    """At most one node leads a term."""

    name = "election safety"

    def __init__(self) -> None:
        super().__init__()
        self.leaders: dict[Term, NodeId] = {}

    def leads(self, node: NodeId, term: Term, snapshot_index: LogIndex, term_at: TermAt) -> None:
        """Compare with who led that term before."""
        first = self.leaders.setdefault(term, node)
        if first != node:
            self.fail(f"{first} and {node} both lead term {term}")


class _Link(NamedTuple):
    prev_term: Term | None
    payload: bytes


class LogMatching(Checker):
    """Two logs with an entry of the same index and term are equal up to there.

    By induction it is enough that an entry of one index and term has one content and one term before it, everywhere.
    """

    name = "log matching"

    def __init__(self) -> None:
        super().__init__()
        self._links: dict[tuple[LogIndex, Term], _Link] = {}

    def stored(self, node: NodeId, prev_term: Term | None, entries: Sequence[Entry]) -> None:
        """Compare each entry with the first one seen at its place."""
        for entry in entries:
            link = _Link(prev_term, entry.payload)
            first = self._links.setdefault((entry.index, entry.term), link)
            if first.payload != link.payload:
                self.fail(f"entry {entry.index} of term {entry.term} of {node} has another content elsewhere")
            if first.prev_term is None:
                self._links[(entry.index, entry.term)] = link
            elif link.prev_term is not None and first.prev_term != link.prev_term:
                self.fail(
                    f"entry {entry.index} of term {entry.term} follows one of term {link.prev_term} at {node}, "
                    f"and one of term {first.prev_term} elsewhere"
                )
            prev_term = entry.term


class _Commit(NamedTuple):
    entry_term: Term
    term: Term


class LeaderCompleteness(Checker):
    """What was committed in a term is in the log of every leader of a later term."""

    name = "leader completeness"

    def __init__(self) -> None:
        super().__init__()
        self._committed: dict[LogIndex, _Commit] = {}

    def applied(self, node: NodeId, term: Term, entry: Entry, digest: int) -> None:
        """Who applies first, says in which term it was committed."""
        self._committed.setdefault(entry.index, _Commit(entry.term, term))

    def leads(self, node: NodeId, term: Term, snapshot_index: LogIndex, term_at: TermAt) -> None:
        """Look for every committed entry in the log of a new leader."""
        for index, commit in self._committed.items():
            if index <= snapshot_index or commit.term >= term:
                continue
            if term_at(index) != commit.entry_term:
                self.fail(
                    f"entry {index} of term {commit.entry_term}, committed in term {commit.term}, is missing "
                    f"in the log of {node}, which leads term {term}: that has term {term_at(index)} there"
                )
                return


class StateMachineSafety(Checker):
    """All nodes apply the same entries in the same order, each once, and come to the same state."""

    name = "state machine safety"

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[LogIndex, Entry] = {}
        self._digests: dict[LogIndex, int] = {LogIndex(0): 0}
        self._reached: dict[NodeId, LogIndex] = {}

    def started(self, node: NodeId, applied: LogIndex, digest: int) -> None:
        """A life begins where its snapshot ends."""
        self._reached[node] = applied
        self._compare(node, applied, digest)

    def applied(self, node: NodeId, term: Term, entry: Entry, digest: int) -> None:
        """The next entry, equal to everybody's."""
        reached = self._reached.get(node, LogIndex(0))
        if entry.index != reached + 1:
            self.fail(f"{node} applied entry {entry.index} after {reached}")
        self._reached[node] = entry.index
        first = self._entries.setdefault(entry.index, entry)
        if (first.term, first.payload) != (entry.term, entry.payload):
            self.fail(
                f"{node} applied another entry {entry.index}, of term {entry.term}, "
                f"than the one of term {first.term} that was applied first"
            )
        self._compare(node, entry.index, digest)

    def restored(self, node: NodeId, index: LogIndex, digest: int) -> None:
        """A snapshot never takes a state back, and is what the entries would have made."""
        reached = self._reached.get(node, LogIndex(0))
        if index <= reached:
            self.fail(f"{node} went back from entry {reached} to a snapshot up to {index}")
        self._reached[node] = index
        self._compare(node, index, digest)

    def _compare(self, node: NodeId, index: LogIndex, digest: int) -> None:
        first = self._digests.setdefault(index, digest)
        if first != digest:
            self.fail(f"after entry {index} the state of {node} is {digest:08x}, and {first:08x} elsewhere")
