"""How often somebody may do something: a bucket of tokens that refills with time."""

from orca.model.units import Instant


class TokenBucket:
    """`burst` tokens at the start, `per_s` more each second, never more than `burst`."""

    def __init__(self, per_s: float, burst: float, now: Instant) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, count: int, now: Instant) -> bool:
        """Take `count` tokens; False, and nothing is taken, when there are fewer."""
        elapsed_s = max(0.0, now - self._filled_at)
        self._tokens = min(self._burst, self._tokens + elapsed_s * self._per_s)
        self._filled_at = now
        if self._tokens < count:
            return False
        self._tokens -= count
        return True
