"""From counters to rates and shares."""

from node.figures.traffic import ANSWERS_MIN, STEP_S, WINDOW_S, TrafficFigures
from node.proxy.latency import ServiceTraffic
from orca.model.ids import ServiceId

WEB = ServiceId("default/web")


def answer(traffic: ServiceTraffic, count: int, status: int = 200, seconds: float = 0.004) -> None:
    for _ in range(count):
        traffic.add(status, seconds)


def test_rates_are_of_the_second_before_and_a_service_that_begins_anew_has_none_at_first() -> None:
    figures, traffic = TrafficFigures(), ServiceTraffic()
    answer(traffic, 5)
    assert figures.rates({WEB: traffic}) == {}
    answer(traffic, 3)
    assert figures.rates({WEB: traffic}) == {WEB: 3.0}
    assert figures.rates({WEB: ServiceTraffic()}) == {}
    assert figures.rates({}) == {}


def test_shares_are_of_the_window_and_few_answers_have_none() -> None:
    figures, traffic = TrafficFigures(), ServiceTraffic()
    answer(traffic, 1000, 500)
    assert figures.shares({WEB: traffic}) == {}, "what was before is not of the window"
    answer(traffic, ANSWERS_MIN - 1)
    assert figures.shares({WEB: traffic}) == {}
    answer(traffic, 1, 503)
    assert figures.shares({WEB: traffic}) == {WEB: (1 / ANSWERS_MIN, 0.005)}
    for _ in range(WINDOW_S // STEP_S):
        figures.shares({WEB: traffic})
    assert figures.shares({WEB: traffic}) == {}, "the window has passed"


def test_what_the_proxy_answers_in_a_services_place_is_an_error_of_it() -> None:
    figures, traffic = TrafficFigures(), ServiceTraffic()
    figures.shares({WEB: traffic})
    figures.rates({WEB: traffic})
    answer(traffic, 30)
    traffic.failed += 10
    assert figures.shares({WEB: traffic}) == {WEB: (0.25, 0.005)}
    assert figures.rates({WEB: traffic}) == {WEB: 40.0}


def test_the_percentile_is_the_bound_that_most_stayed_below() -> None:
    figures, traffic = TrafficFigures(), ServiceTraffic()
    figures.shares({WEB: traffic})
    answer(traffic, 94, seconds=0.002)
    answer(traffic, 6, seconds=3.0)
    assert figures.shares({WEB: traffic})[WEB][1] == 5.0
    answer(traffic, 100, seconds=0.002)
    assert figures.shares({WEB: traffic})[WEB][1] == 0.0025
    answer(traffic, 100, seconds=60.0)
    assert figures.shares({WEB: traffic})[WEB][1] > 10.0
