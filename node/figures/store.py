"""Figures in the store: seconds of the last ten minutes, means of the last seven days, and what is open."""

from array import array
from collections.abc import Callable
from typing import Final

import msgspec

from node.figures.minutes import (
    MINUTE_S,
    Minute,
    Point,
    means_of,
    pack_means,
    pack_seconds,
    points_of_seconds,
    unpack,
)
from node.figures.thresholds import OpenCase
from node.store.environment import Environment
from node.store.views import Database, ReadView, WriteView

SECONDS_KEPT_S: Final = 600
MEANS_KEPT_S: Final = 7 * 86_400
SERIES_BYTES_MAX: Final = 64 * 2**20
STORE_SHARE_MAX: Final = 0.75
"""Of the store in use, whoever uses it: from there on no figures are written."""
_CUT_AT_ONCE: Final = 60
_OPEN: Final = b"figures/open"
_cases = msgspec.msgpack.Decoder(tuple[OpenCase, ...])


class SeriesStore:
    """On one store. Its methods block: they are for threads."""

    def __init__(self, environment: Environment, *, bytes_max: int = SERIES_BYTES_MAX) -> None:
        self._environment = environment
        self._bytes_max = bytes_max

    def write(self, minute: Minute) -> bool:
        """Keep a minute that is over, and drop what is too old; False when the store has no room for figures.

        Raises StoreFullError, StoreStalledError.
        """
        usage = self._environment.usage()
        if usage.used_bytes >= usage.limit_bytes * STORE_SHARE_MAX:
            return False
        key, seconds, means = _key(minute.start_s), pack_seconds(minute), pack_means(means_of(minute))

        def change(view: WriteView) -> None:
            view.put(Database.SERIES_SECONDS, key, seconds)
            view.put(Database.SERIES_MEANS, key, means)
            view.delete_range(Database.SERIES_SECONDS, stop=_key(minute.start_s + MINUTE_S - SECONDS_KEPT_S))
            view.delete_range(Database.SERIES_MEANS, stop=_key(minute.start_s + MINUTE_S - MEANS_KEPT_S))
            view.delete_range(
                Database.SERIES_SECONDS, start=_key(minute.start_s + MINUTE_S)
            )  # of a clock that was ahead
            if view.used_bytes(Database.SERIES_SECONDS, Database.SERIES_MEANS) > self._bytes_max:
                _cut(view)

        self._environment.write_blocking(change)
        return True

    def read(
        self, since_s: int, until_s: int, wanted: Callable[[str], bool], *, by_seconds: bool
    ) -> dict[str, list[Point]]:
        """What is kept of the series that are `wanted`, oldest first."""
        database = Database.SERIES_SECONDS if by_seconds else Database.SERIES_MEANS

        def read(view: ReadView) -> list[tuple[bytes, bytes]]:
            return list(view.scan(database, _key(since_s - since_s % MINUTE_S), _key(until_s)))

        found: dict[str, list[Point]] = {}
        for key, record in self._environment.read(read):
            start_s = int.from_bytes(key, "big")
            for name, values in unpack(record, wanted).items():
                found.setdefault(name, []).extend(_points(start_s, values, by_seconds=by_seconds))
        return found

    def load_open(self) -> tuple[OpenCase, ...]:
        """What was told before this start and is not over; nothing when that cannot be read."""
        record = self._environment.read(lambda view: view.get(Database.LOCAL, _OPEN))
        try:
            return () if record is None else _cases.decode(record)
        except msgspec.MsgspecError:
            return ()

    def keep_open(self, cases: tuple[OpenCase, ...]) -> None:
        """Remember it. Raises StoreFullError."""
        record = msgspec.msgpack.encode(cases)
        self._environment.write_blocking(lambda view: view.put(Database.LOCAL, _OPEN, record))


def _points(start_s: int, values: "array[float]", *, by_seconds: bool) -> list[Point]:
    if by_seconds:
        return points_of_seconds(start_s, values)
    return [Point(start_s, values[0], values[1])]


def _cut(view: WriteView) -> None:
    """Drop the oldest hour: far more than a minute brings."""
    for _ in range(_CUT_AT_ONCE):
        oldest = view.first_key(Database.SERIES_MEANS)
        if oldest is None:
            return
        view.delete(Database.SERIES_MEANS, oldest)


def _key(start_s: int) -> bytes:
    return max(0, start_s).to_bytes(8, "big")
