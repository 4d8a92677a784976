"""From counters of answers to figures of services. Pure."""

from collections import deque
from collections.abc import Mapping
from typing import Final

from node.proxy.latency import BOUNDS_S, ServiceTraffic
from orca.model.ids import ServiceId

WINDOW_S: Final = 60
STEP_S: Final = 5
"""Shares and percentiles are of the last `WINDOW_S`, in steps of this."""
ANSWERS_MIN: Final = 20
"""Of fewer answers in the window nobody can say what is usual."""
_STEPS: Final = WINDOW_S // STEP_S
_PERCENTILE: Final = 0.95

Counts = tuple[int, int, tuple[int, ...]]
"""Answers, those of 5xx among them, and how many by how long they took."""


class TrafficFigures:
    """Rates by the second, shares by the minute, of every service that was asked."""

    def __init__(self) -> None:
        self._last: dict[ServiceId, int] = {}
        self._steps: deque[dict[ServiceId, Counts]] = deque(maxlen=_STEPS)

    def rates(self, now: Mapping[ServiceId, ServiceTraffic]) -> dict[ServiceId, float]:
        """Answers since the second before, of those services that were known then."""
        found = {}
        last: dict[ServiceId, int] = {}
        for service, traffic in now.items():
            total = last[service] = sum(traffic.answers) + traffic.failed
            before = self._last.get(service)
            if before is not None and total >= before:
                found[service] = float(total - before)
        self._last = last
        return found

    def shares(self, now: Mapping[ServiceId, ServiceTraffic]) -> dict[ServiceId, tuple[float, float]]:
        """Share of errors, and the bound that 95 % of answers stayed below, in the window. For every `STEP_S`."""
        counts = {service: _counts(traffic) for service, traffic in now.items()}
        oldest = self._steps[0] if self._steps else {}
        self._steps.append(counts)
        found = {}
        for service, (answers, errors, buckets) in counts.items():
            before = oldest.get(service)
            if before is None or answers < before[0]:
                before = (0, 0, (0,) * len(buckets)) if len(self._steps) > 1 else (answers, errors, buckets)
            total = answers - before[0]
            if total >= ANSWERS_MIN:
                taken = [late - early for late, early in zip(buckets, before[2], strict=True)]
                found[service] = ((errors - before[1]) / total, _percentile(taken, sum(taken)))
        return found


def _counts(traffic: ServiceTraffic) -> Counts:
    total = sum(traffic.answers) + traffic.failed
    return total, traffic.answers[5] + traffic.failed, tuple(traffic.buckets)


def _percentile(buckets: list[int], total: int) -> float:
    seen = 0
    for bound_s, count in zip(BOUNDS_S, buckets, strict=False):
        seen += count
        if seen >= total * _PERCENTILE:
            return bound_s
    return 2 * BOUNDS_S[-1]
