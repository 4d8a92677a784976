"""Figures in a real store: kept, read, bounded in time and in size."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from node.figures.history import FigureHistory
from node.figures.minutes import Minute, Point, Recorder
from node.figures.store import MEANS_KEPT_S, SECONDS_KEPT_S, SeriesStore
from node.figures.thresholds import OpenCase
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.views import Database
from orca.model.event import Severity

pytestmark = pytest.mark.integration
START_S = 1_700_000_040 // 60 * 60


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    with DataDirectory.open(tmp_path / "data") as directory, Environment.open(directory) as opened:
        yield opened


def minute(start_s: int, value: float = 1.0, count: int = 1) -> Minute:
    recorder = Recorder()
    for second in range(60):
        recorder.record(start_s + second, {f"x copy s {number} a": value for number in range(count)})
    found = recorder.minute()
    assert found is not None
    return found


def count(environment: Environment, database: Database) -> int:
    return environment.read(lambda view: view.count(database))


def read(store: SeriesStore, since_s: int, until_s: int, *, by_seconds: bool) -> list[Point]:
    return store.read(since_s, until_s, lambda _: True, by_seconds=by_seconds).get("x copy s 0 a", [])


def test_seconds_go_after_ten_minutes_and_means_after_seven_days(environment: Environment) -> None:
    store = SeriesStore(environment)
    for number in range(15):
        assert store.write(minute(START_S + number * 60, float(number)))
    assert count(environment, Database.SERIES_SECONDS) == SECONDS_KEPT_S // 60
    last = read(store, START_S, START_S + 900, by_seconds=True)
    assert (len(last), last[0]) == (SECONDS_KEPT_S, Point(START_S + 300, 5.0, 5.0))
    assert read(store, START_S, START_S + 900, by_seconds=False)[:2] == [
        Point(START_S, 0.0, 0.0),
        Point(START_S + 60, 1.0, 1.0),
    ]
    store.write(minute(START_S + MEANS_KEPT_S))
    kept = read(store, 0, START_S + MEANS_KEPT_S + 60, by_seconds=False)
    assert kept[0].at_s == START_S + 60


def test_all_of_it_stays_below_its_size(environment: Environment) -> None:
    bytes_max = 2 * 2**20
    store = SeriesStore(environment, bytes_max=bytes_max)
    for number in range(300):
        store.write(minute(START_S + number * 60, float(number), count=100 if number % 2 else 1))
    used = environment.read(lambda view: view.used_bytes(Database.SERIES_SECONDS, Database.SERIES_MEANS))
    assert used <= bytes_max + 2**20
    assert read(store, 0, START_S + 300 * 60, by_seconds=False)[-1] == Point(START_S + 299 * 60, 299.0, 299.0)


def test_a_store_that_is_nearly_full_gets_no_figures(environment: Environment) -> None:
    environment.limit_bytes = environment.usage().used_bytes
    assert not SeriesStore(environment).write(minute(START_S))
    assert count(environment, Database.SERIES_SECONDS) == 0


def test_seconds_of_a_clock_that_was_ahead_do_not_stay(environment: Environment) -> None:
    store = SeriesStore(environment)
    store.write(minute(START_S + 10**9))
    store.write(minute(START_S))
    assert count(environment, Database.SERIES_SECONDS) == 1


def test_what_is_open_is_kept(environment: Environment) -> None:
    store = SeriesStore(environment)
    assert store.load_open() == ()
    cases = (OpenCase(figure="x", subject="node", severity=Severity.ERROR),)
    store.keep_open(cases)
    assert SeriesStore(environment).load_open() == cases


async def test_the_minute_that_is_open_is_read_with_those_that_are_kept(environment: Environment) -> None:
    store, recorder = SeriesStore(environment), Recorder()
    await trio.to_thread.run_sync(store.write, minute(START_S, 1.0))
    for second in range(60, 71):
        recorder.record(START_S + second, {"x copy s 0 a": 3.0, "y node": 5.0})
    history = FigureHistory(recorder, store)
    now_s = START_S + 70
    step_s, found = await history.read(now_s - 15, now_s + 1, lambda _: True, now_s=now_s, points_max=100)
    assert step_s == 1
    assert [one.mean for one in found["x copy s 0 a"]] == [1.0] * 5 + [3.0] * 11
    step_s, found = await history.read(
        now_s - 3600, now_s + 1, lambda name: name.startswith("x "), now_s=now_s, points_max=240
    )
    assert step_s == 60
    assert found == {"x copy s 0 a": [Point(START_S, 1.0, 1.0), Point(START_S + 60, 3.0, 3.0)]}
    step_s, found = await history.read(now_s - 600, now_s + 1, lambda _: True, now_s=now_s, points_max=2)
    assert step_s == 300
    assert len(found["x copy s 0 a"]) <= 2
