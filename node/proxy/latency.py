"""How often and how quickly each service was answered: pure."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

import msgspec

from orca.model.ids import ServiceId

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ServiceTraffic(msgspec.Struct, kw_only=True):
    """Answers of one service since the start, by status class and by how long their heads took.

    `buckets[n]` counts those that took at most `BOUNDS_S[n]` and longer than the bound before; the last one counts
    the rest. `failed` counts what the proxy answered in its place, because no copy was ready or none answered.
    """

    answers: list[int] = msgspec.field(default_factory=lambda: [0] * 6)
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    seconds: float = 0.0
    failed: int = 0

    def add(self, status: int, seconds: float) -> None:
        """One more answer."""
        self.answers[status // 100] += 1
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds += seconds


class Latencies:
    """The traffic of each service that was asked, for as long as there is a route to it."""

    def __init__(self) -> None:
        self._services: dict[ServiceId, ServiceTraffic] = {}

    def add(self, service: ServiceId, status: int, seconds: float) -> None:
        """`service` has answered with `status`, whose head came after so many seconds."""
        found = self._services.get(service)
        if found is None:
            found = self._services[service] = ServiceTraffic()
        found.add(status, seconds)

    def fail(self, service: ServiceId) -> None:
        """The proxy had to answer for `service`."""
        self._services.setdefault(service, ServiceTraffic()).failed += 1

    def keep_only(self, services: frozenset[ServiceId]) -> None:
        """Forget all others."""
        for service in [one for one in self._services if one not in services]:
            del self._services[service]

    def all(self) -> Mapping[ServiceId, ServiceTraffic]:
        """To look at."""
        return self._services
