"""Many seeds one after the other: what they found, and whether every fault that was drawn had an effect."""

from collections.abc import Callable, Iterable

from simulations.faults import Bites
from simulations.scenarios.report import Report

BITES_FROM: int = 40
"""So many runs at least, before a fault without effect is a failure: rare ones need their chance."""


class Batch:
    """The sum of many runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.steps = 0
        self.done = 0
        self.virtual_s = 0.0
        self.failures: list[Report] = []
        self.bites = Bites()
        self.figures: dict[str, float] = {}

    def add(self, report: Report) -> None:
        """Count one run in."""
        self.runs += 1
        self.steps += report.steps
        self.done += report.done
        self.virtual_s += report.virtual_s
        self.bites.add(report.mood, report.effects)
        for name, amount in report.figures.items():
            self.figures[name] = self.figures.get(name, 0) + amount
        if not report.is_good:
            self.failures.append(report)

    @property
    def toothless(self) -> list[str]:
        """Faults that were drawn, often enough to say so, and never had an effect."""
        return self.bites.toothless() if self.runs >= BITES_FROM and not self.failures else []

    @property
    def is_good(self) -> bool:
        """Whether nothing was found, and everything was tried."""
        return not self.failures and not self.toothless


def run_batch(
    run: Callable[[int], Report],
    seeds: Iterable[int],
    *,
    failures_max: int = 3,
    tell: Callable[[Report], None] = lambda _: None,
) -> Batch:
    """Run the seeds in order, until so many have failed."""
    batch = Batch()
    for seed in seeds:
        report = run(seed)
        batch.add(report)
        tell(report)
        if len(batch.failures) >= failures_max:
            break
    return batch
