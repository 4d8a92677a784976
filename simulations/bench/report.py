"""What a measurement came to, and the table of many."""

import os
import sys
from collections.abc import Iterable
from typing import Final

import msgspec

_COLUMNS: Final = ("bench", "what", "result", "limit", "ratio", "goal", "verdict")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One result beside the limit taken in the same run.

    `goal` is the largest value that is good, of the ratio or of the result itself.
    """

    bench: str
    what: str
    unit: str
    result: float
    limit: float | None = None
    limit_name: str = ""
    goal: float | None = None
    is_goal_of_ratio: bool = True

    @property
    def ratio(self) -> float | None:
        """Result over limit."""
        return self.result / self.limit if self.limit else None

    @property
    def verdict(self) -> str:
        """Whether the goal was met; empty without one."""
        value = self.ratio if self.is_goal_of_ratio else self.result
        if self.goal is None or value is None:
            return ""
        return "met" if value <= self.goal else "MISSED"

    def cells(self) -> tuple[str, ...]:
        """Its columns as text."""
        goal = "" if self.goal is None else f"{'ratio' if self.is_goal_of_ratio else self.unit} <= {self.goal:g}"
        limit = "" if self.limit is None else f"{self.limit:.4g} {self.unit} {self.limit_name}".rstrip()
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return (self.bench, self.what, f"{self.result:.4g} {self.unit}", limit, ratio, goal, self.verdict)


def show(lines: Iterable[Line]) -> None:
    """Print the table and how busy the computer is."""
    rows = [_COLUMNS, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("load average " + " ".join(f"{load:.2f}" for load in os.getloadavg()) + f", {os.cpu_count()} cores")


def say(text: str) -> None:
    """Tell a person what is going on, beside the results."""
    print(text, file=sys.stderr, flush=True)
