"""Figures by seconds, a minute at a time, and their means. Pure."""

import math
import zlib
from array import array
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

SERIES_MAX: Final = 20_000
"""Of one node; what is new beyond that is not noted."""
MINUTE_S: Final = 60
_EMPTY: Final = array("f", [math.nan] * MINUTE_S)
_LEVEL: Final = 1


class Point(msgspec.Struct, frozen=True, gc=False):
    """From `at_s` on, for as long as its series' step."""

    at_s: int
    mean: float
    peak: float


class Minute(msgspec.Struct, frozen=True):
    """All series in the minute from `start_s` on: 60 values each, not-a-number where nothing was noted."""

    start_s: int
    series: dict[str, "array[float]"]


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """Values of many series: `width` float32 of each, in the order of their names."""

    names: list[str]
    width: int
    values: bytes


class Recorder:
    """The minute that is being noted."""

    def __init__(self) -> None:
        self._start_s: int | None = None
        self._series: dict[str, array[float]] = {}
        self.dropped = 0
        """Values that found no room."""

    def record(self, at_s: int, values: Mapping[str, float]) -> Minute | None:
        """Note `values` for the second `at_s`; the minute before, when this begins another.

        A clock that is set back begins another minute, too: what was noted for that before is written over.
        """
        start_s = at_s - at_s % MINUTE_S
        over = None
        if start_s != self._start_s:
            over = self.minute()
            self._start_s, self._series = start_s, {}
        series, second = self._series, at_s - start_s
        for name, value in values.items():
            known = series.get(name)
            if known is None:
                if len(series) >= SERIES_MAX:
                    self.dropped += 1
                    continue
                known = series[name] = _EMPTY[:]
            known[second] = value
        return over

    def minute(self) -> Minute | None:
        """As far as it has come, to read at once; None when nothing was noted."""
        return None if self._start_s is None or not self._series else Minute(self._start_s, self._series)


def means_of(minute: Minute) -> dict[str, tuple[float, float]]:
    """Mean and peak of each series that has a value."""
    found = {}
    for name, values in minute.series.items():
        known = [one for one in values if one == one]  # noqa: PLR0124 - not-a-number is none
        if known:
            found[name] = (math.fsum(known) / len(known), max(known))
    return found


def pack_seconds(minute: Minute) -> bytes:
    """For the store."""
    return _packed(list(minute.series), MINUTE_S, b"".join(one.tobytes() for one in minute.series.values()))


def pack_means(means: Mapping[str, tuple[float, float]]) -> bytes:
    """For the store."""
    flat = array("f", (value for pair in means.values() for value in pair))
    return _packed(list(means), 2, flat.tobytes())


def _packed(names: list[str], width: int, values: bytes) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(Packed(names, width, values)), _LEVEL)


def unpack(record: bytes, wanted: Callable[[str], bool]) -> "dict[str, array[float]]":
    """The values of the series that are `wanted`; nothing of a record that cannot be read."""
    try:
        packed = msgspec.msgpack.decode(zlib.decompress(record), type=Packed)
    except (zlib.error, msgspec.MsgspecError):
        return {}
    size = packed.width * _EMPTY.itemsize
    found = {}
    for number, name in enumerate(packed.names):
        piece = packed.values[number * size : (number + 1) * size]
        if wanted(name) and len(piece) == size:
            found[name] = array("f", piece)
    return found


def points_of_seconds(start_s: int, values: "array[float]") -> list[Point]:
    """One point for each second that was noted."""
    return [Point(start_s + at, one, one) for at, one in enumerate(values) if one == one]  # noqa: PLR0124


def thinned(points: list[Point], step_s: int) -> list[Point]:
    """One point for each `step_s`: the mean of means, and the highest peak."""
    found: list[Point] = []
    at_s, means, peak = -1, [0.0][:0], -math.inf
    for one in points:
        start_s = one.at_s - one.at_s % step_s
        if start_s != at_s and means:
            found.append(Point(at_s, math.fsum(means) / len(means), peak))
            means, peak = [], -math.inf
        at_s, peak = start_s, max(peak, one.peak)
        means.append(one.mean)
    if means:
        found.append(Point(at_s, math.fsum(means) / len(means), peak))
    return found


def step_for(span_s: int, points_max: int, finest_s: int) -> int:
    """A step with which `span_s` has at most `points_max` points: whole multiples of `finest_s`."""
    return max(finest_s, math.ceil(span_s / points_max / finest_s) * finest_s)
