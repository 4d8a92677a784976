"""What checkers are told, and what they say."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from consensus.storage import Entry
from orca.model.ids import LogIndex, NodeId, Term
from simulations.world import World

TermAt = Callable[[LogIndex], Term | None]


class Violation(NamedTuple):
    """Something that may not be."""

    checker: str
    at_s: float
    detail: str

    def __str__(self) -> str:
        return f"{self.checker} at {self.at_s:.3f} s: {self.detail}"


class Checker:
    """Gets told what happens and calls `fail`; it overrides what it wants to hear of."""

    name = ""

    def __init__(self) -> None:
        self._fail: Callable[[str, str], None] | None = None

    def belongs_to(self, fail: Callable[[str, str], None]) -> None:
        """Where to report."""
        self._fail = fail

    def fail(self, detail: str) -> None:
        """Report a violation."""
        assert self._fail is not None, f"{self.name} has no judge"
        self._fail(self.name, detail)

    def started(self, node: NodeId, applied: LogIndex, digest: int) -> None:
        """A life of `node` begins, with the state after entry `applied`."""

    def stored(self, node: NodeId, prev_term: Term | None, entries: Sequence[Entry]) -> None:
        """`entries` are in the durable log of `node`, after one of `prev_term` (None: not known)."""

    def leads(self, node: NodeId, term: Term, snapshot_index: LogIndex, term_at: TermAt) -> None:
        """`node` leads `term`, with this log; told once, at the start."""

    def applied(self, node: NodeId, term: Term, entry: Entry, digest: int) -> None:
        """`node`, which is in `term`, applied `entry`; its state has `digest` then."""

    def restored(self, node: NodeId, index: LogIndex, digest: int) -> None:
        """The state of `node` was replaced by a snapshot up to `index`."""

    def sent(self, node: NodeId, to: NodeId, message: Any) -> None:
        """`node` sent `message`, of whatever type its engine has."""


class Judge(Checker):
    """Tells all checkers, and keeps what they find."""

    name = "judge"

    def __init__(self, world: World, checkers: Iterable[Checker]) -> None:
        super().__init__()
        self._world = world
        self.checkers = tuple(checkers)
        self.violations: list[Violation] = []
        for checker in self.checkers:
            checker.belongs_to(self.report)

    def report(self, checker: str, detail: str) -> None:
        """Keep a violation."""
        self._world.note(f"VIOLATION {checker}: {detail}")
        self.violations.append(Violation(checker, self._world.now, detail))

    def started(self, node: NodeId, applied: LogIndex, digest: int) -> None:
        """Tell all."""
        for checker in self.checkers:
            checker.started(node, applied, digest)

    def stored(self, node: NodeId, prev_term: Term | None, entries: Sequence[Entry]) -> None:
        """Tell all."""
        for checker in self.checkers:
            checker.stored(node, prev_term, entries)

    def leads(self, node: NodeId, term: Term, snapshot_index: LogIndex, term_at: TermAt) -> None:
        """Tell all."""
        for checker in self.checkers:
            checker.leads(node, term, snapshot_index, term_at)

    def applied(self, node: NodeId, term: Term, entry: Entry, digest: int) -> None:
        """Tell all."""
        for checker in self.checkers:
            checker.applied(node, term, entry, digest)

    def restored(self, node: NodeId, index: LogIndex, digest: int) -> None:
        """Tell all."""
        for checker in self.checkers:
            checker.restored(node, index, digest)

    def sent(self, node: NodeId, to: NodeId, message: Any) -> None:
        """Tell all."""
        for checker in self.checkers:
            checker.sent(node, to, message)
