"""How much of anything a peer may have. Pure."""

from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

from orca.model.units import Instant


class TokenBucket:
    """So many a second, and a few more at once."""

    def __init__(self, rate_per_s: float, burst: float, now: Instant) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: Instant) -> bool:
        """Whether one more is fine."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def is_full(self, now: Instant) -> bool:
        """Whether nobody has taken anything for long enough to be forgotten."""
        self._fill(now)
        return self._tokens >= self._burst

    def _fill(self, now: Instant) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled_at) * self._rate_per_s)
        self._filled_at = now


ADDRESSES_MAX: Final = 4096


class AddressRates:
    """A bucket for each address that comes; the one that came least recently is forgotten when there are too many."""

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, address: str, now: Instant) -> bool:
        """Whether one more from `address` is fine."""
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = TokenBucket(self._rate_per_s, self._burst, now)
            if len(self._buckets) > ADDRESSES_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(address)
        return bucket.take(now)

    def __len__(self) -> int:
        return len(self._buckets)


T = TypeVar("T")


class WaitingRoom(Generic[T]):
    """Those that have not proved anything yet: bounded, and nobody can fill it for the others.

    When it is full, who came first of the address that has most in it has to go. An honest peer stays for the
    few milliseconds of a handshake, so those that only hold a place are the ones that lose it.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._by_address: dict[str, deque[T]] = {}
        self._count = 0

    def enter(self, address: str, guest: T) -> T | None:
        """Let `guest` in; whoever has to go for it."""
        evicted = None
        if self._count >= self._places:
            longest = max(self._by_address, key=lambda one: len(self._by_address[one]) + (one == address))
            evicted = self._by_address[longest][0]
            self.leave(longest, evicted)
        self._by_address.setdefault(address, deque()).append(guest)
        self._count += 1
        return evicted

    def leave(self, address: str, guest: T) -> None:
        """`guest` is no more in it; nothing happens when it was put out before."""
        waiting = self._by_address.get(address)
        if waiting is None or guest not in waiting:
            return
        waiting.remove(guest)
        self._count -= 1
        if not waiting:
            del self._by_address[address]

    def __len__(self) -> int:
        return self._count
