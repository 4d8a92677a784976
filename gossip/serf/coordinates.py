"""Network coordinates: how far two members are from each other without their having met.

Vivaldi (Dabek et al., SIGCOMM 2004) with a height and with Serf's three additions: a median
over the last few round trips of a peer (Ledlie et al., *Network Coordinates in the Wild*,
NSDI 2007, as are the next two), an adjustment that absorbs what no geometry explains, and a
weak gravity against drift of the whole cloud. All numbers are seconds.

A peer's coordinate is used only when it has our number of dimensions and every number in it
is finite, not negative where that makes no sense, and below `MAGNITUDE_MAX_S`, so that no
peer can push us out of what floats can hold.
"""

import math
from collections import deque
from typing import Final

from gossip.messages import CoordinatePayload
from orca.sources import Rng

DIMENSIONS: Final = 8
ERROR_MAX: Final = 1.5
ERROR_GAIN: Final = 0.25
FORCE_GAIN: Final = 0.25
ADJUSTMENT_WINDOW: Final = 20
FILTER_WINDOW: Final = 3
HEIGHT_MIN_S: Final = 1e-5
GRAVITY_RHO: Final = 150.0
RTT_MAX_S: Final = 10.0
MAGNITUDE_MAX_S: Final = 1e6
_NEAR_ZERO: Final = 1e-6

ORIGIN: Final = CoordinatePayload(
    vector=(0.0,) * DIMENSIONS,
    error=ERROR_MAX,
    adjustment=0.0,
    height=HEIGHT_MIN_S,
)
"""Where everybody starts."""


def is_usable(coordinate: CoordinatePayload) -> bool:
    """Whether a coordinate may move us: right dimensions, finite, within bounds."""
    numbers = (*coordinate.vector, coordinate.error, coordinate.adjustment, coordinate.height)
    return (
        len(coordinate.vector) == DIMENSIONS
        and all(math.isfinite(number) and abs(number) <= MAGNITUDE_MAX_S for number in numbers)
        and coordinate.error >= 0
        and coordinate.height >= 0
    )


def raw_distance_s(one: CoordinatePayload, other: CoordinatePayload) -> float:
    """Distance of the two points plus both heights, without the adjustments."""
    return math.dist(one.vector, other.vector) + one.height + other.height


def distance_s(one: CoordinatePayload, other: CoordinatePayload) -> float:
    """The round trip between two members as their coordinates estimate it."""
    raw = raw_distance_s(one, other)
    adjusted = raw + one.adjustment + other.adjustment
    return adjusted if adjusted > 0 else raw


class Coordinates:
    """Our own coordinate, moved by every measured round trip, and the last one of each peer."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._own = ORIGIN
        self._peers: dict[str, CoordinatePayload] = {}
        self._recent_s: dict[str, deque[float]] = {}
        self._residuals: deque[float] = deque([0.0] * ADJUSTMENT_WINDOW, maxlen=ADJUSTMENT_WINDOW)
        self.reset_count = 0

    @property
    def own(self) -> CoordinatePayload:
        """Where we are."""
        return self._own

    def peer(self, node: str) -> CoordinatePayload | None:
        """Where `node` said it was when we last measured it."""
        return self._peers.get(node)

    def update(self, node: str, coordinate: CoordinatePayload, rtt_s: float) -> bool:
        """Move ourselves after a round trip of `rtt_s` to `node`; False when either is not usable."""
        if not is_usable(coordinate) or not 0.0 <= rtt_s <= RTT_MAX_S:
            return False
        self._peers[node] = coordinate
        typical_s = self._filtered(node, rtt_s)
        self._attract(coordinate, typical_s)
        self._adjust(coordinate, typical_s)
        pull = -((distance_s(ORIGIN, self._own) / GRAVITY_RHO) ** 2)
        self._own = self._pushed(pull, ORIGIN)
        if not is_usable(self._own):
            self.reset_count += 1
            self._own = ORIGIN
        return True

    def forget(self, node: str) -> None:
        """Keep nothing of a member that is gone."""
        self._peers.pop(node, None)
        self._recent_s.pop(node, None)

    def _filtered(self, node: str, rtt_s: float) -> float:
        recent = self._recent_s.setdefault(node, deque(maxlen=FILTER_WINDOW))
        recent.append(rtt_s)
        return sorted(recent)[len(recent) // 2]

    def _attract(self, other: CoordinatePayload, rtt_s: float) -> None:
        """One step of Vivaldi: a spring of rest length `rtt_s`, stiffer when the other is surer than we."""
        expected_s = distance_s(self._own, other)
        measured_s = max(rtt_s, _NEAR_ZERO)
        confidence = self._own.error / max(self._own.error + other.error, _NEAR_ZERO)
        miss = abs(expected_s - measured_s) / measured_s
        gain = ERROR_GAIN * confidence
        error = min(ERROR_MAX, gain * miss + (1.0 - gain) * self._own.error)
        self._own = self._with(error=error)
        self._own = self._pushed(FORCE_GAIN * confidence * (measured_s - expected_s), other)

    def _adjust(self, other: CoordinatePayload, rtt_s: float) -> None:
        self._residuals.append(rtt_s - raw_distance_s(self._own, other))
        self._own = self._with(adjustment=math.fsum(self._residuals) / (2.0 * ADJUSTMENT_WINDOW))

    def _pushed(self, force: float, other: CoordinatePayload) -> CoordinatePayload:
        """Our coordinate after `force` seconds away from `other` (towards it when negative)."""
        own = self._own
        away = [mine - theirs for mine, theirs in zip(own.vector, other.vector, strict=True)]
        length = math.hypot(*away)
        height = own.height
        if length > _NEAR_ZERO:
            direction = [part / length for part in away]
            height = max(HEIGHT_MIN_S, height + (height + other.height) * force / length)
        else:  # on the same spot: any direction will do, as long as not everybody takes the same
            direction = self._random_direction()
        vector = tuple(mine + part * force for mine, part in zip(own.vector, direction, strict=True))
        return CoordinatePayload(vector=vector, error=own.error, adjustment=own.adjustment, height=height)

    def _random_direction(self) -> list[float]:
        drawn = [self._rng.random() - 0.5 for _ in range(DIMENSIONS)]
        length = math.hypot(*drawn)
        if length <= _NEAR_ZERO:
            return [1.0] + [0.0] * (DIMENSIONS - 1)
        return [part / length for part in drawn]

    def _with(self, *, error: float | None = None, adjustment: float | None = None) -> CoordinatePayload:
        own = self._own
        return CoordinatePayload(
            vector=own.vector,
            error=own.error if error is None else error,
            adjustment=own.adjustment if adjustment is None else adjustment,
            height=own.height,
        )
