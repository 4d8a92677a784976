"""Vivaldi with Serf's additions (WIRE §6.7; Dabek et al. 2004)."""

import math
import random

import pytest

from gossip.messages import CoordinatePayload
from gossip.serf.coordinates import (
    DIMENSIONS,
    ERROR_MAX,
    HEIGHT_MIN_S,
    ORIGIN,
    Coordinates,
    distance_s,
    is_usable,
    raw_distance_s,
)


def at(*vector: float, error: float = 0.1, adjustment: float = 0.0, height: float = HEIGHT_MIN_S) -> CoordinatePayload:
    padded = vector + (0.0,) * (DIMENSIONS - len(vector))
    return CoordinatePayload(vector=padded, error=error, adjustment=adjustment, height=height)


def test_distance_is_the_geometry_the_heights_and_the_adjustments() -> None:
    one, other = at(0.03, height=0.001, adjustment=0.002), at(0.0, 0.04, height=0.002, adjustment=-0.001)
    assert raw_distance_s(one, other) == pytest.approx(0.053)
    assert distance_s(one, other) == pytest.approx(0.054)


def test_adjustments_that_would_make_a_distance_negative_are_left_out() -> None:
    assert distance_s(at(0.01, adjustment=-1.0), at(0.0)) == pytest.approx(0.01 + 2 * HEIGHT_MIN_S)


def test_one_far_peer_pushes_us_away_by_a_quarter_of_the_miss() -> None:
    coordinates = Coordinates(random.Random(1))
    assert coordinates.update("far", at(0.0, error=0.0), 0.1)
    # All error is ours: force = 0.25 * (0.1 - 2 heights).
    assert math.hypot(*coordinates.own.vector) == pytest.approx(0.25 * (0.1 - 2e-5), rel=1e-3)
    assert coordinates.own.error == pytest.approx(min(ERROR_MAX, 0.25 * (0.1 - 2e-5) / 0.1 + 0.75 * ERROR_MAX))


def test_one_outlier_is_filtered_by_the_median_of_three() -> None:
    steady, spiked = Coordinates(random.Random(1)), Coordinates(random.Random(1))
    for coordinates in (steady, spiked):
        for _ in range(20):
            coordinates.update("peer", at(0.0), 0.01)
    steady.update("peer", at(0.0), 0.01)
    spiked.update("peer", at(0.0), 9.0)
    assert spiked.own == steady.own


@pytest.mark.parametrize(
    "coordinate",
    [
        at(math.nan),
        at(math.inf),
        at(1e200),
        at(0.0, error=-1.0),
        at(0.0, error=math.nan),
        at(0.0, height=-1.0),
        at(0.0, adjustment=math.inf),
        CoordinatePayload(vector=(0.0,) * 3, error=1.0, adjustment=0.0, height=0.0),
        CoordinatePayload(vector=(), error=1.0, adjustment=0.0, height=0.0),
    ],
)
def test_a_coordinate_that_is_none_moves_nobody(coordinate: CoordinatePayload) -> None:
    coordinates = Coordinates(random.Random(1))
    assert not coordinates.update("peer", coordinate, 0.01)
    assert coordinates.own == ORIGIN
    assert coordinates.peer("peer") is None


@pytest.mark.parametrize("rtt_s", [-0.001, 10.001, math.nan, math.inf])
def test_a_round_trip_that_is_none_moves_nobody(rtt_s: float) -> None:
    coordinates = Coordinates(random.Random(1))
    assert not coordinates.update("peer", ORIGIN, rtt_s)
    assert coordinates.own == ORIGIN


def test_peers_at_the_edge_of_what_is_allowed_leave_us_usable() -> None:
    coordinates = Coordinates(random.Random(1))
    for _ in range(50):
        coordinates.update("peer", at(*([1e6] * DIMENSIONS), error=1e6, adjustment=1e6, height=1e6), 10.0)
        coordinates.update("twin", coordinates.own, 0.0)
        assert is_usable(coordinates.own)


def test_a_grid_of_nodes_learns_its_distances() -> None:
    """Nine nodes on a grid of 10 ms; the mean error of the estimates falls below a tenth."""
    rng = random.Random(7)
    places = {f"n{x}{y}": (x * 0.01, y * 0.01) for x in range(3) for y in range(3)}
    nodes = {name: Coordinates(random.Random(rng.random())) for name in places}

    def truth(one: str, other: str) -> float:
        return 0.001 + math.dist(places[one], places[other])

    for _ in range(300):
        for name, coordinates in nodes.items():
            peer = rng.choice([other for other in places if other != name])
            coordinates.update(peer, nodes[peer].own, truth(name, peer))
    pairs = [(one, other) for one in places for other in places if one < other]
    misses = [abs(distance_s(nodes[a].own, nodes[b].own) - truth(a, b)) / truth(a, b) for a, b in pairs]
    assert sum(misses) / len(misses) < 0.1


def test_a_member_that_is_gone_is_forgotten() -> None:
    coordinates = Coordinates(random.Random(1))
    coordinates.update("peer", at(0.0), 0.01)
    coordinates.forget("peer")
    assert coordinates.peer("peer") is None
