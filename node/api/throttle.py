"""How often an address may fail to prove who it is. Pure; its memory is bounded."""

from ipaddress import IPv6Address, ip_address
from typing import Final

from orca.model.units import Instant

BURST: Final = 10
"""So many wrong tokens from one address are answered as such: a person who mistypes never sees more than that."""
REFILL_PER_S: Final = 0.5
BURST_IN_ALL: Final = 200
REFILL_IN_ALL_PER_S: Final = 20.0
ADDRESSES_MAX: Final = 4096
_PREFIX_BITS: Final = 64


class _Bucket:
    """Allows `burst` at once and `per_s` in the long run."""

    __slots__ = ("at", "level")

    def __init__(self, burst: float, now: Instant) -> None:
        self.level = burst
        self.at = now

    def take(self, burst: float, per_s: float, now: Instant) -> bool:
        self.level = min(burst, self.level + (now - self.at) * per_s)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


class FailureLimiter:
    """Counts failures by address, and in all.

    It never stands in the way of a right token: those are looked up in microseconds and 256
    random bits cannot be guessed, so locking an address out would help nobody but who wants
    to lock out others behind the same address. What it bounds is what failures cost: who is
    over the limit gets a short answer and loses the connection, and nothing is logged.
    """

    def __init__(self, now: Instant, *, addresses_max: int = ADDRESSES_MAX) -> None:
        self._addresses_max = addresses_max
        self._buckets: dict[str, _Bucket] = {}
        self._all = _Bucket(BURST_IN_ALL, now)

    def __len__(self) -> int:
        return len(self._buckets)

    def fail(self, address: str, now: Instant) -> bool:
        """Note a failure of `address`; False when there were too many."""
        key = _network(address)
        bucket = self._buckets.pop(key, None) or _Bucket(BURST, now)
        self._buckets[key] = bucket  # the newest stand at the end
        if len(self._buckets) > self._addresses_max:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(BURST, REFILL_PER_S, now) and self._all.take(BURST_IN_ALL, REFILL_IN_ALL_PER_S, now)


def _network(address: str) -> str:
    """One host's addresses are one: an IPv6 host has 2^64 of them."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return f"{int(found) >> (128 - _PREFIX_BITS):x}/{_PREFIX_BITS}"
    return str(found)
