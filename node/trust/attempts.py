"""How many wrong tokens are looked at: so many for each address, and in all. Pure; its memory is bounded."""

from ipaddress import IPv4Address, ip_address
from typing import Final

import msgspec

from orca.model.units import Instant

ADDRESS_BURST: Final = 10.0
ADDRESS_PER_S: Final = 1 / 6
"""Ten a minute from one address: people mistype, and nobody finds 128 bits so."""
TOTAL_BURST: Final = 200.0
TOTAL_PER_S: Final = 20.0
ADDRESSES_MAX: Final = 1_024


class _Bucket(msgspec.Struct, gc=False):
    """What is left of a budget, and when that was true."""

    left: float
    at: Instant


class Attempts:
    """The budget of failures. Successes cost nothing.

    An IPv6 address counts as its /64, which one person has whole. When more addresses fail than are
    remembered, the one that failed longest ago is forgotten; the budget of all goes on counting. Who has not failed is
    looked at in any case, so that a flood of wrong tokens from elsewhere keeps nobody out.
    """

    def __init__(self) -> None:
        self._addresses: dict[str, _Bucket] = {}
        self._total = _Bucket(TOTAL_BURST, Instant(0.0))
        self.failures = 0
        """Since the start."""
        self.refused = 0
        """That were not even looked at."""

    def wait_s(self, address: str, now: Instant) -> float:
        """How long nothing from `address` is looked at; 0 when it may try."""
        bucket = self._addresses.get(_group(address))
        if bucket is None:
            return 0.0
        own = _wait(bucket, now, ADDRESS_BURST, ADDRESS_PER_S)
        waited = max(own, _wait(self._total, now, TOTAL_BURST, TOTAL_PER_S))
        self.refused += waited > 0
        return waited

    def failed(self, address: str, now: Instant) -> None:
        """A wrong token came from `address`."""
        self.failures += 1
        group = _group(address)
        bucket = self._addresses.pop(group, None) or _Bucket(ADDRESS_BURST, now)
        _take(bucket, now, ADDRESS_BURST, ADDRESS_PER_S)
        _take(self._total, now, TOTAL_BURST, TOTAL_PER_S)
        if len(self._addresses) >= ADDRESSES_MAX:
            del self._addresses[next(iter(self._addresses))]
        self._addresses[group] = bucket

    def __len__(self) -> int:
        return len(self._addresses)


def _refill(bucket: _Bucket, now: Instant, burst: float, per_s: float) -> None:
    bucket.left = min(burst, bucket.left + max(0.0, now - bucket.at) * per_s)
    bucket.at = now


def _wait(bucket: _Bucket, now: Instant, burst: float, per_s: float) -> float:
    _refill(bucket, now, burst, per_s)
    return 0.0 if bucket.left >= 1.0 else (1.0 - bucket.left) / per_s


def _take(bucket: _Bucket, now: Instant, burst: float, per_s: float) -> None:
    _refill(bucket, now, burst, per_s)
    bucket.left = max(0.0, bucket.left - 1.0)


def _group(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return (int(parsed) >> 64).to_bytes(8, "big").hex()
