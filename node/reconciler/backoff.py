"""How long a copy that died waits before its next try."""

from orca.config import ReconcilerConfig
from orca.sources import Rng

_JITTER = 0.1
_DOUBLINGS_MAX = 30


def backoff_s(tries: int, config: ReconcilerConfig, rng: Rng) -> float:
    """Seconds before try number `tries` + 1 after `tries` deaths in a row.

    The first death costs nothing, so that a healthy service is back at once; then
    `backoff_first_s`, doubled each time up to `backoff_max_s`, with 10 % of chance so that
    copies that died together do not start together for ever.
    """
    if tries <= 1:
        return 0.0
    plain = config.backoff_first_s * float(2 ** min(tries - 2, _DOUBLINGS_MAX))
    return min(plain, config.backoff_max_s) * rng.uniform(1 - _JITTER, 1 + _JITTER)
