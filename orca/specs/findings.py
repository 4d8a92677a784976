"""What is wrong with a file, collected so that a person sees all of it at once."""

from collections.abc import Iterable
from typing import Final

import msgspec

from orca.errors import InvalidSpecError, Problem

PROBLEMS_MAX: Final = 200
"""More findings than this help nobody and would let a hostile file grow the answer."""

_SHOWN_MAX: Final = 60


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with a spec: `path` names the field (`routes[0].port`).

    `is_about_ports` says that it compares with the service's ports, and means nothing
    when those could not be read.
    """

    path: str
    message: str
    allowed: str = ""
    is_about_ports: bool = False


def shown(value: object) -> str:
    """`value` as it appears in a message: quoted, and cut when it is long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value[: _SHOWN_MAX + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN_MAX + 2 else text[:_SHOWN_MAX] + "…"


class Findings:
    """The problems and the harmless leftovers of one file, in the order they were met."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.ignored: list[Problem] = []
        self.dropped = 0

    def refuse(self, line: int, key: str, message: str, allowed: str = "") -> None:
        """Record something that makes the file unusable."""
        found = Problem(message=message, file=self.file, line=line, key=key, allowed=allowed)
        if found in self.problems:
            return
        if len(self.problems) >= PROBLEMS_MAX:
            self.dropped += 1
            return
        self.problems.append(found)

    def ignore(self, line: int, key: str, message: str) -> None:
        """Record something that has no effect and does no harm."""
        found = Problem(message=message, file=self.file, line=line, key=key)
        if len(self.ignored) < PROBLEMS_MAX and found not in self.ignored:
            self.ignored.append(found)


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """`problems` sorted by file and line; the order within a line is kept."""
    return tuple(sorted(problems, key=lambda problem: (problem.file, problem.line)))


def to_error(findings: Iterable[Findings]) -> InvalidSpecError:
    """The one error that carries every problem of `findings`."""
    every = list(findings)
    problems = in_order(problem for one in every for problem in one.problems)
    dropped = sum(one.dropped for one in every)
    if dropped:
        problems += (Problem(message=f"{dropped} more problems are not shown", file=problems[-1].file),)
    files = sorted({problem.file for problem in problems if problem.file})
    count = len(problems)
    where = ", ".join(files[:3]) + (" and others" if len(files) > 3 else "")
    what = "problem" if count == 1 else "problems"
    return InvalidSpecError(
        f"{count} {what} in {where or 'the input'}; nothing was deployed. First: {problems[0]}",
        problems=problems,
    )
