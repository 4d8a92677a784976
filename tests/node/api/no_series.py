"""A store of figures in which there are none."""

from collections.abc import Callable

from node.figures.minutes import Point
from node.figures.store import SeriesStore


class NoSeries(SeriesStore):
    """Keeps nothing: what is read was noted in this minute."""

    def __init__(self) -> None:
        pass

    def read(
        self, since_s: int, until_s: int, wanted: Callable[[str], bool], *, by_seconds: bool
    ) -> dict[str, list[Point]]:
        return {}
