"""What was noted, to be read: the store and the minute that is still open, as one."""

from collections.abc import Callable
from typing import Final

import trio

from node.figures.minutes import MINUTE_S, Minute, Point, Recorder, means_of, points_of_seconds, step_for, thinned
from node.figures.store import SECONDS_KEPT_S, SeriesStore

POINTS_MAX: Final = 2_000


class FigureHistory:
    """Reads for the API."""

    def __init__(self, recorder: Recorder, store: SeriesStore) -> None:
        self._recorder = recorder
        self._store = store

    async def read(
        self, since_s: int, until_s: int, wanted: Callable[[str], bool], *, now_s: int, points_max: int
    ) -> tuple[int, dict[str, list[Point]]]:
        """The step in seconds, and at most `points_max` points of each series from `since_s` to before `until_s`."""
        by_seconds = now_s - since_s <= SECONDS_KEPT_S
        step_s = step_for(max(1, until_s - since_s - 1), points_max, 1 if by_seconds else MINUTE_S)
        is_open = self._recorder.minute()
        chosen = None
        if is_open is not None:
            chosen = Minute(is_open.start_s, {name: one[:] for name, one in is_open.series.items() if wanted(name)})

        def read() -> dict[str, list[Point]]:
            found = self._store.read(since_s, until_s, wanted, by_seconds=by_seconds)
            if chosen is not None:
                _add(found, chosen, by_seconds=by_seconds)
            # A minute's mean counts for all of it: its point stands at its beginning.
            first = since_s if by_seconds else since_s - MINUTE_S + 1
            return {
                name: thinned([one for one in points if first <= one.at_s < until_s], step_s)
                for name, points in found.items()
            }

        return step_s, await trio.to_thread.run_sync(read)


def _add(found: dict[str, list[Point]], minute: Minute, *, by_seconds: bool) -> None:
    if by_seconds:
        for name, values in minute.series.items():
            found.setdefault(name, []).extend(points_of_seconds(minute.start_s, values))
    else:
        for name, (mean, peak) in means_of(minute).items():
            found.setdefault(name, []).append(Point(minute.start_s, mean, peak))
