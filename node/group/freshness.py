"""How old this node's knowledge of what is committed may be. Pure."""

from orca.model.units import Instant


class Freshness:
    """Remembers the best word on it: somebody knew everything up to `age_s` before `heard_at`."""

    def __init__(self, now: Instant) -> None:
        self._current_at = now
        self.has_heard = False
        """Whether anybody has said so since this node started."""

    def heard(self, now: Instant, age_s: float = 0.0) -> None:
        """A source that knew everything `age_s` ago said that we have what it has."""
        self._current_at = max(self._current_at, Instant(now - age_s))
        self.has_heard = True

    def age_s(self, now: Instant) -> float:
        """Seconds since this node surely knew everything."""
        return max(0.0, now - self._current_at)
