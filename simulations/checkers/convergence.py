"""Whatever happened, once everything is repaired all agree again: who lives, which tags they have, what they say."""

from typing import Final

from simulations.checkers.group import GroupChecker

HEALED_WITHIN_S: Final = 60.0
"""After a repair, however long things were broken."""


class Convergence(GroupChecker):
    """Asked by the scenario when everything is repaired."""

    name = "convergence"

    def demand(self, what: str, within_s: float = HEALED_WITHIN_S) -> bool:
        """Let time go by until all agree; False, and a violation, when they do not in time."""
        began = self.group.world.now
        while self.group.disagreement():
            if self.group.world.now - began >= within_s:
                self.fail(f"{within_s:g} s after {what}: {self.group.disagreement()}")
                return False
            self.group.run(0.5)
        return True
