"""Figures by seconds and by minutes: what is noted, packed, read back and thinned."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.figures.minutes import (
    SERIES_MAX,
    Minute,
    Point,
    Recorder,
    means_of,
    pack_means,
    pack_seconds,
    points_of_seconds,
    step_for,
    thinned,
    unpack,
)


def noted(recorder: Recorder, values: dict[int, float], name: str = "a node") -> list[Minute]:
    found = (recorder.record(at_s, {name: value}) for at_s, value in values.items())
    return [one for one in found if one is not None]


def test_a_minute_is_given_when_the_next_begins_and_can_be_read_before() -> None:
    recorder = Recorder()
    assert recorder.minute() is None
    assert noted(recorder, {120: 1.0, 121: 3.0, 179: 5.0}) == []
    open_minute = recorder.minute()
    assert open_minute is not None
    assert points_of_seconds(120, open_minute.series["a node"]) == [
        Point(120, 1.0, 1.0), Point(121, 3.0, 3.0), Point(179, 5.0, 5.0)
    ]  # fmt: skip
    (over,) = noted(recorder, {180: 7.0})
    assert over.start_s == 120
    assert means_of(over) == {"a node": (3.0, 5.0)}


def test_a_clock_that_jumps_begins_another_minute_whichever_way() -> None:
    recorder = Recorder()
    over = noted(recorder, {600: 1.0, 60: 2.0, 100_000: 3.0})
    assert [one.start_s for one in over] == [600, 60]


def test_there_is_room_for_so_many_series_and_what_finds_none_is_counted() -> None:
    recorder = Recorder()
    recorder.record(0, {f"a {number}": 1.0 for number in range(SERIES_MAX)})
    recorder.record(1, {"b node": 1.0, "a 7": 2.0})
    minute = recorder.minute()
    assert minute is not None
    assert len(minute.series) == SERIES_MAX
    assert recorder.dropped == 1
    assert minute.series["a 7"][1] == 2.0


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20),
        st.dictionaries(st.integers(0, 59), st.floats(-(2.0**60), 2.0**60, width=32), min_size=1, max_size=5),
        max_size=8,
    )
)
def test_what_is_packed_is_read_back(series: dict[str, dict[int, float]]) -> None:
    recorder = Recorder()
    for second in range(60):
        recorder.record(second, {name: values[second] for name, values in series.items() if second in values})
    minute = recorder.minute() or Minute(0, {})
    found = unpack(pack_seconds(minute), lambda _: True)
    assert {name: points_of_seconds(0, one) for name, one in found.items()} == {
        name: [Point(at, values[at], values[at]) for at in sorted(values)] for name, values in series.items()
    }
    means = unpack(pack_means(means_of(minute)), lambda name: name in series)
    assert means.keys() == series.keys()
    for name, values in series.items():
        assert means[name][1] == max(values.values())
        assert math.isclose(means[name][0], math.fsum(values.values()) / len(values), rel_tol=1e-5, abs_tol=1e13)


@pytest.mark.parametrize("record", [b"", b"nonsense", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_what_cannot_be_read_is_nothing(record: bytes) -> None:
    assert unpack(record, lambda _: True) == {}


def test_a_record_that_was_cut_gives_what_is_whole() -> None:
    rng = random.Random(1)
    packed = bytearray(pack_means({"a": (1.0, 2.0)}))
    for _ in range(200):
        broken = bytes(rng.choice(packed) if rng.random() < 0.1 else one for one in packed)
        for values in unpack(broken, lambda _: True).values():
            assert len(values) == len(values[:])


def test_many_points_become_few_with_their_peaks() -> None:
    points = [Point(at, float(at), float(at)) for at in range(100, 160)]
    few = thinned(points, 20)
    assert [one.at_s for one in few] == [100, 120, 140]
    assert few[0] == Point(100, 109.5, 119.0)
    assert thinned(points, 1) == points
    assert thinned([], 5) == []


def test_the_step_is_the_finest_with_which_the_points_are_few_enough() -> None:
    assert step_for(600, 600, 1) == 1
    assert step_for(600, 20, 1) == 30
    assert step_for(3600, 240, 60) == 60
    assert step_for(7 * 86_400, 240, 60) == 42 * 60
