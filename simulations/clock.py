"""The clock of one simulated computer: it runs a little too fast or too slow, and starts anywhere."""

from orca.model.units import Instant


class DriftingClock:
    """Local seconds against the world's: `local = start + rate * (world - since)`."""

    def __init__(self) -> None:
        self.rate = 1.0
        self._since = 0.0
        self._start = 0.0

    def set(self, now: float, *, rate: float, start: float | None = None) -> None:
        """From `now` on it runs at `rate`; after a restart of the computer it begins at `start`."""
        self._start = self.local(now) if start is None else start
        self._since, self.rate = now, rate

    def local(self, now: float) -> Instant:
        """What it shows when the world has `now`."""
        return Instant(self._start + self.rate * (now - self._since))

    def world(self, local: float) -> float:
        """When the world has what this clock calls `local`."""
        return self._since + (local - self._start) / self.rate
