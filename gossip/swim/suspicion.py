"""How long a suspect has to refute (Lifeguard, LHA-Suspicion). Pure arithmetic and one record."""

import math

import msgspec

from orca.model.units import Instant


def suspicion_min_s(multiplier: float, members: int, probe_interval_s: float) -> float:
    """The least wait: multiplier x max(1, log10 n) x interval, in whole milliseconds."""
    scale = max(1.0, math.log10(max(1.0, members)))
    return math.floor(multiplier * scale * probe_interval_s * 1000) / 1000


def suspicion_timeout_s(confirmations: int, expected: int, minimum_s: float, maximum_s: float) -> float:
    """Seconds a suspect has, counted from the first accusation.

    Falls from `maximum_s` to `minimum_s` as independent confirmations arrive. With
    `expected == 0` the group is too small to confirm anything and the answer is `minimum_s`.
    """
    if expected < 1:
        return minimum_s
    share = math.log(confirmations + 1.0) / math.log(expected + 1.0)
    raw_s = maximum_s - share * (maximum_s - minimum_s)
    return max(minimum_s, math.floor(1000 * raw_s) / 1000)


class Suspicion(msgspec.Struct):
    """A running suspicion: who accused, and what that means for its end. The first accuser confirms nothing."""

    incarnation: int
    started_at: Instant
    expected: int
    minimum_s: float
    maximum_s: float
    accusers: list[str]

    def confirm(self, accuser: str) -> bool:
        """Take in another accuser; False when that is nothing new."""
        if len(self.accusers) - 1 >= self.expected or accuser in self.accusers:
            return False
        self.accusers.append(accuser)
        return True

    @property
    def ends_at(self) -> Instant:
        """When the suspect is declared dead."""
        confirmations = len(self.accusers) - 1
        wait_s = suspicion_timeout_s(confirmations, self.expected, self.minimum_s, self.maximum_s)
        return Instant(self.started_at + wait_s)
