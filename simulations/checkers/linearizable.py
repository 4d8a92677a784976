"""Is a history linearizable? The search of Wing and Gong, with the memory of Lowe.

Wing, Gong: *Testing and Verifying Concurrent Objects* (1993). Lowe: *Testing for Linearizability* (2017):
the search remembers which sets of operations led to which value, and never looks at a pair twice.
Registers are independent, so each key is judged alone (Herlihy, Wing 1990: linearizability is local).

An operation whose outcome nobody knows may take effect at any time after its call, or never. One of those
whose word nobody ever saw, and no swap expected, can be left out: whatever an answered operation says, it would say
without it too (every answer to a write shows the whole value after it). That keeps the search small.
"""

from typing import Final

import msgspec

from simulations.history import Ending, History, Record
from simulations.registers import Kind, Outcome, carry_out

NAME: Final = "linearizability"
STEPS_MAX: Final = 2_000_000
"""Steps of the search a key; a history that needs more is reported as not judged, never as good."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one key. `longest` are the operations of the longest order that fits, when none fits whole."""

    key: str
    is_linearizable: bool
    is_judged: bool = True
    longest: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.is_judged:
            return f"{self.key}: too many orders to try"
        if self.is_linearizable:
            return f"{self.key}: linearizable"
        return (
            f"{self.key}: no order explains it. Fits: {'; '.join(self.longest[-4:])}. Not: {'; '.join(self.left[:4])}"
        )


def judge_history(history: History) -> list[Verdict]:
    """The verdicts on all keys, in order of the key."""
    return [judge_key(key, records) for key, records in sorted(history.by_key().items())]


def judge_key(key: str, records: list[Record], steps_max: int = STEPS_MAX) -> Verdict:
    """Whether the operations on one register can be put in an order that explains all answers."""
    return _Search(key, _relevant(records), steps_max).run()


def _relevant(records: list[Record]) -> list[Record]:
    """Without what did not happen, what said nothing, and what left no trace."""
    seen: set[str] = set()
    for record in records:
        if record.outcome is not None:
            seen.update(record.outcome.value.split())
        seen.update(record.operation.expected.split())
    kept = []
    for record in records:
        if record.ending is Ending.FAILED:
            continue
        if record.outcome is None and (record.operation.kind is Kind.READ or record.operation.word not in seen):
            continue
        kept.append(record)
    return kept


class _Node:
    """A call or a return in a doubly linked list of both, in order of time."""

    __slots__ = ("after", "before", "match", "number", "record")

    def __init__(self, record: Record | None, number: int) -> None:
        self.record = record
        self.number = number
        self.match: _Node | None = None  # a call's return
        self.before: _Node | None = None
        self.after: _Node | None = None


class _Search:
    """One key. Lift an operation out of the list when it is put next in the order; put it back when that fails."""

    def __init__(self, key: str, records: list[Record], steps_max: int) -> None:
        self._key = key
        self._records = records
        self._steps_left = steps_max
        self._head = _Node(None, -1)
        self._build()

    def _build(self) -> None:
        moments: list[tuple[float, _Node]] = []
        for number, record in enumerate(self._records):
            call, end = _Node(record, number), _Node(None, number)
            call.match = end
            is_known = record.outcome is not None and record.returned is not None
            returned = float(record.returned or 0) if is_known else float("inf")
            moments += [(float(record.called), call), (returned, end)]
        last = self._head
        for _, node in sorted(moments, key=lambda moment: moment[0]):
            last.after, node.before = node, last
            last = node

    def run(self) -> Verdict:
        """Search; the state is (operations in the order so far, value)."""
        value, taken = "", 0
        tried: set[tuple[int, str]] = {(0, "")}
        order: list[tuple[_Node, str]] = []
        longest: list[int] = []
        needed = sum(record.outcome is not None for record in self._records)
        known = 0
        node = self._head.after
        while node is not None and known < needed:
            self._steps_left -= 1
            if self._steps_left < 0:
                return Verdict(key=self._key, is_linearizable=False, is_judged=False)
            if node.record is not None:
                outcome = carry_out(value, node.record.operation)
                after = (taken | 1 << node.number, outcome.value)
                if _explains(outcome, node.record.outcome) and after not in tried:
                    tried.add(after)
                    order.append((node, value))
                    taken, value = after
                    known += node.record.outcome is not None
                    self._lift(node)
                    if len(order) > len(longest):
                        longest = [one.number for one, _ in order]
                    node = self._head.after
                else:
                    node = node.after
                continue
            # A return: whatever comes next in the order, its operation has to come before it. Go back.
            if not order:
                return self._refuted(longest)
            node, value = order.pop()
            taken &= ~(1 << node.number)
            known -= node.record is not None and node.record.outcome is not None
            self._put_back(node)
            node = node.after
        return Verdict(key=self._key, is_linearizable=True)

    def _refuted(self, longest: list[int]) -> Verdict:
        left = [number for number in range(len(self._records)) if number not in longest]
        return Verdict(
            key=self._key,
            is_linearizable=False,
            longest=tuple(str(self._records[number]) for number in longest),
            left=tuple(str(self._records[number]) for number in left),
        )

    @staticmethod
    def _lift(call: _Node) -> None:
        for node in (call, call.match):
            assert node is not None
            assert node.before is not None
            node.before.after = node.after
            if node.after is not None:
                node.after.before = node.before

    @staticmethod
    def _put_back(call: _Node) -> None:
        for node in (call.match, call):
            assert node is not None
            assert node.before is not None
            node.before.after = node
            if node.after is not None:
                node.after.before = node


def _explains(outcome: Outcome, told: Outcome | None) -> bool:
    """Whether the client could have been told that; what nobody was told can have been anything."""
    return told is None or outcome == told
