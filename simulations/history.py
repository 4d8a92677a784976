"""What clients asked for, when, and what they were told."""

import enum
from collections.abc import Iterator

from simulations.registers import Kind, Operation, Outcome


class Ending(enum.Enum):
    """How an operation ended for the client that asked for it."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    """It certainly did not happen."""
    UNKNOWN = "unknown"
    """It may have happened, or may yet."""


class Record:
    """One operation, from its call to its answer.

    `called` and `returned` are moments of the world: smaller is earlier. `outcome` is there for DONE only.
    """

    __slots__ = ("called", "client", "ending", "operation", "outcome", "returned")

    def __init__(self, client: str, operation: Operation, called: int) -> None:
        self.client = client
        self.operation = operation
        self.called = called
        self.returned: int | None = None
        self.outcome: Outcome | None = None
        self.ending = Ending.OPEN

    def end(self, ending: Ending, returned: int, outcome: Outcome | None = None) -> None:
        """The client knows what it will ever know."""
        assert self.ending is Ending.OPEN, f"{self.operation.request} ended twice"
        self.ending, self.returned, self.outcome = ending, returned, outcome

    def __str__(self) -> str:
        operation, outcome = self.operation, self.outcome
        asked = " ".join(filter(None, (operation.kind.value, operation.key, operation.word)))
        if operation.kind is Kind.SWAP:
            asked += f" for {operation.expected!r}"
        told = self.ending.value if outcome is None else f"{outcome.value!r}{'' if outcome.is_done else ' (not done)'}"
        return f"[{self.called}, {self.returned}] {operation.request}: {asked} -> {told}"


class History:
    """All operations of a run, in the order of their calls."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, record: Record) -> None:
        """A client asks for something."""
        self.records.append(record)

    def by_key(self) -> dict[str, list[Record]]:
        """The operations on each register; registers do not know of each other."""
        keys: dict[str, list[Record]] = {}
        for record in self.records:
            keys.setdefault(record.operation.key, []).append(record)
        return keys

    def acknowledged(self) -> Iterator[Record]:
        """Writes that a client was told were carried out."""
        for record in self.records:
            if record.ending is Ending.DONE and record.operation.kind is not Kind.READ:
                yield record

    def count(self, ending: Ending) -> int:
        """How many operations ended so."""
        return sum(record.ending is ending for record in self.records)
