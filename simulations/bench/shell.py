"""From a key press to the completions that it brings: `python -m simulations.bench.shell`.

The completer is asked as the prompt asks it, with the names of 1,000 services and their 3,000 copies known. What a
terminal takes to draw comes on top; the limit is the same Python's time for looking at all names once.
"""

import statistics
import time
from typing import Final

from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from orca.cli.shell import complete
from orca.repl.known import Known
from orca.repl.prompt import LineCompleter
from orca.repl.session import Commands, Session
from simulations.bench.report import Line, show

SERVICES: Final = 1_000
COPIES: Final = 3
ROUNDS: Final = 20
GOAL_MS: Final = 50.0
TYPED: Final = (
    "s",
    "sc",
    "scale",
    "scale ",
    "logs service-9",
    "logs service-99",
    "exec service-500.",
    "ps --",
    "watch ps ser",
)


def _session() -> Session:
    names = tuple(f"service-{number}" for number in range(SERVICES))
    copies = tuple(f"{name}.{slot}" for name in names for slot in range(1, COPIES + 1))
    known = Known(node="n1", services=names, copies=copies, nodes=("n1", "n2"))
    commands = Commands(
        run=lambda _: 0, ask=lambda _: known, tell=lambda _: 1, names=(), repeatable=frozenset(), help_of=lambda _: ""
    )
    session = Session(commands, "http://127.0.0.1:1")
    session.look()
    return session


def main() -> list[Line]:
    """The median and the 95th percentile over what is typed, and over again."""
    session = _session()
    completer = LineCompleter(session, complete)
    times: list[float] = []
    for _ in range(ROUNDS):
        for text in TYPED:
            began = time.perf_counter()
            found = list(completer.get_completions(Document(text), CompleteEvent()))
            times.append((time.perf_counter() - began) * 1000)
            assert found, text
    known = session.prober.last_good
    looks: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        sorted(name for name in (*known.services, *known.copies) if name.startswith("service-9"))
        looks.append((time.perf_counter() - began) * 1000)
    limit = statistics.median(looks)
    cuts = statistics.quantiles(times, n=20)
    return [
        Line(bench="shell", what="completion, p50", unit="ms", result=statistics.median(times), limit=limit,
             limit_name="looking at all names"),
        Line(bench="shell", what="completion, p95", unit="ms", result=cuts[-1], goal=GOAL_MS, is_goal_of_ratio=False),
    ]  # fmt: skip


if __name__ == "__main__":
    show(main())
