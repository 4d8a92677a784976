"""What is counted of each service's answers."""

from node.proxy.latency import BOUNDS_S, Latencies
from orca.model.ids import ServiceId

WEB, API = ServiceId("default/web"), ServiceId("default/api")


def test_an_answer_counts_in_its_class_and_in_the_first_bound_that_it_kept() -> None:
    counted = Latencies()
    for status, seconds in ((200, 0.005), (204, 0.0051), (503, 60.0)):
        counted.add(WEB, status, seconds)
    web = counted.all()[WEB]
    assert web.answers == [0, 0, 2, 0, 0, 1]
    assert web.buckets[BOUNDS_S.index(0.005)] == 1
    assert web.buckets[BOUNDS_S.index(0.01)] == 1
    assert web.buckets[-1] == 1
    assert web.seconds == 0.005 + 0.0051 + 60.0


def test_a_service_without_a_route_is_forgotten() -> None:
    counted = Latencies()
    counted.add(WEB, 200, 0.1)
    counted.add(API, 200, 0.1)
    counted.keep_only(frozenset({API}))
    assert list(counted.all()) == [API]
