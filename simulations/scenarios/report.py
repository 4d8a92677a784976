"""What a run came to."""

from typing import Any

import msgspec

from simulations.faults import Mood
from simulations.judge import Violation


class Report(msgspec.Struct, kw_only=True):
    """The result of one seed; `digest` is the same for the same seed, always. `figures` are what it measured."""

    scenario: str
    seed: int
    digest: str
    mood: Mood
    violations: list[Any]
    effects: dict[str, int]
    actions: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    done: int = 0
    unknown: int = 0
    failed: int = 0
    figures: dict[str, float] = {}

    @property
    def is_good(self) -> bool:
        """Whether nobody found anything."""
        return not self.violations

    @property
    def found_by(self) -> list[str]:
        """The checkers that found something, in the order in which they did."""
        names: dict[str, None] = {}
        for violation in self.violations:
            assert isinstance(violation, Violation)
            names[violation.checker] = None
        return list(names)

    def __str__(self) -> str:
        head = f"{self.scenario} seed {self.seed}: {'ok' if self.is_good else 'FAILED'}, {self.done} operations done, "
        head += f"{self.unknown} unknown, {self.failed} failed, {self.steps} steps in {self.virtual_s:.0f} virtual s"
        return f"{head} [{self.mood}] {self.digest[:12]}"
