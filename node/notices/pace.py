"""When a channel may be sent the next message. Pure."""

from typing import Final

from orca.model.units import Instant
from orca.sources import Rng

INTERVAL_S: Final = 10.0
"""From one message of a channel to the next; what comes meanwhile goes together."""
RETRY_S: Final = 5.0
RETRY_S_MAX: Final = 300.0


class Pace:
    """Of one channel. The first message goes at once."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._not_before = Instant(0.0)
        self.failures = 0
        """In a row."""

    def wait_s(self, now: Instant) -> float:
        """Seconds until the next message may go."""
        return max(0.0, self._not_before - now)

    def sent(self, now: Instant) -> None:
        """One was taken."""
        self.failures = 0
        self._not_before = Instant(now + INTERVAL_S)

    def failed(self, now: Instant) -> None:
        """One was not, as far as we know."""
        pause_s = min(RETRY_S_MAX, RETRY_S * 2.0 ** min(self.failures, 10))
        self.failures += 1
        self._not_before = Instant(now + pause_s * (0.5 + self._rng.random() / 2))
