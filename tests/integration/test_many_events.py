"""Ten thousand events of real workloads: followed, resumed and paged, by a node that does not grow."""

import json
import threading
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.integration.event_stream import EventStream, following
from tests.integration.node import Node, pause, running_node, until
from tests.integration.services import HELLO_WAT, module

EVENTS = 10_000
COPIES = 50
WARM_EVENTS = 2_000
GROWTH_BYTES_MAX = 16 * 2**20
"""What 8,000 further events and three readers, one of them stuck, may add to the node: 2 KiB an event (0.5 seen)."""


@pytest.fixture(scope="module")
def busy_node() -> Iterator[Node]:
    with running_node(needs_docker=False) as node:
        node.file("hello.wat", HELLO_WAT)
        node.cli("deploy", node.file("service.toml", module())).good()
        yield node


def newest(node: Node) -> int:
    return int(node.get("/v1/events?limit=1").json()["last_sequence"])


def make_events(node: Node, up_to: int) -> int:
    """Start and stop copies until there are `up_to` events; the number of the newest."""
    while newest(node) < up_to:
        assert node.post("/v1/services/default/hello/scale", {"replicas": COPIES}).status == 200
        node.wait_ready("default/hello", COPIES)
        assert node.post("/v1/services/default/hello/scale", {"replicas": 0}).status == 200
        until(lambda: not node.copies("default/hello"), "no copy is left")
    return settled(node)


def settled(node: Node) -> int:
    """The number of the newest event once no more come."""

    def look() -> int:
        before = newest(node)
        pause(0.25)
        return before if newest(node) == before else 0

    return until(look, "no more events come")


class Reading(threading.Thread):
    """Follows from the first event to the one that `is_last` names, beside the test."""

    def __init__(self, node: Node, is_last: Callable[[int], bool]) -> None:
        super().__init__()
        self.sequences: list[int] = []
        self._is_last = is_last
        self._stream = EventStream(node, "after=0")

    def run(self) -> None:
        with self._stream:
            for event in self._stream.events():
                self.sequences.append(event["sequence"])
                if self._is_last(event["sequence"]):
                    return


def test_ten_thousand_events_are_followed_resumed_and_paged(busy_node: Node) -> None:
    node = busy_node
    process = psutil.Process(node.pid)
    last = 0
    reading = Reading(node, lambda sequence: 0 < last <= sequence)
    with following(node, "-n", "1") as follower, EventStream(node, "after=0"):  # the latter is never read
        reading.start()
        make_events(node, WARM_EVENTS)
        warm_bytes = process.memory_info().rss
        make_events(node, EVENTS)
        node.post("/v1/services/default/hello/scale", {"replicas": 1})
        node.wait_ready("default/hello")
        last = settled(node)
        node.post("/v1/services/default/hello/restart")  # wakes a reader that had seen the last one already
        follower.wait_for(last)
        assert follower.interrupt() == 130
    reading.join(30)
    assert not reading.is_alive(), f"the stream stands at {reading.sequences[-1:]}"
    assert last >= EVENTS
    assert reading.sequences[:last] == list(range(1, last + 1))
    printed = follower.sequences()
    assert printed == list(range(printed[0], printed[-1] + 1)), "`orca events -f` lost or repeated an event"
    assert printed[0] < WARM_EVENTS
    assert printed[-1] >= last
    assert process.memory_info().rss - warm_bytes < GROWTH_BYTES_MAX


def test_stream_that_broke_is_resumed_without_loss_or_repetition(busy_node: Node) -> None:
    last = make_events(busy_node, EVENTS)
    seen: list[int] = []
    with EventStream(busy_node, "after=0") as stream:
        seen += [one["sequence"] for one in stream.take(lambda one: one["sequence"] == last // 3)]
    with EventStream(busy_node, f"after={seen[-1]}") as stream:
        seen += [one["sequence"] for one in stream.take(lambda one: one["sequence"] == last // 3 * 2)]
    # As a browser does it: the address is still that of the first time.
    with EventStream(busy_node, "after=0", {"last-event-id": str(seen[-1])}) as stream:
        seen += [one["sequence"] for one in stream.take(lambda one: one["sequence"] == last)]
    assert seen == list(range(1, last + 1))


def test_follower_of_one_service_goes_on_where_it_was(busy_node: Node) -> None:
    last = make_events(busy_node, EVENTS)
    with EventStream(busy_node, f"after={last}&service=default/hello") as stream:
        busy_node.post("/v1/services/default/hello/scale", {"replicas": 2})
        taken = stream.take(lambda one: one["kind"] == "rollout.completed")
    assert {one["service"] for one in taken} == {"default/hello"}
    assert all(one["sequence"] > last for one in taken)


def test_command_line_shows_as_many_events_as_it_is_asked_for(busy_node: Node) -> None:
    last = make_events(busy_node, EVENTS)
    for limit in (1, 1000, 1001, EVENTS):
        found = busy_node.cli("--json", "events", "-n", str(limit)).good().json()
        assert [one["sequence"] for one in found["events"]] == list(range(last - limit + 1, last + 1))
        assert found["last_sequence"] == last
    of_service = busy_node.cli("--json", "events", "hello", "-n", "2500").good().json()["events"]
    assert len(of_service) == 2500
    assert {one["service"] for one in of_service} == {"default/hello"}
    assert [one["sequence"] for one in of_service] == sorted({one["sequence"] for one in of_service})
    assert len(busy_node.cli("events", "-n", str(EVENTS)).good().out.splitlines()) == EVENTS
    assert busy_node.cli("--json", "events", "-n", "10001").code == 2


def test_every_page_of_the_history_is_whole(busy_node: Node) -> None:
    last = make_events(busy_node, EVENTS)
    forward: list[int] = []
    while page := busy_node.get(f"/v1/events?after={forward[-1] if forward else 0}&limit=997").json()["events"]:
        forward += [one["sequence"] for one in page]
    back: list[int] = []
    while page := busy_node.get(f"/v1/events?before={back[0] if back else last + 1}&limit=997").json()["events"]:
        back = [one["sequence"] for one in page] + back
    assert forward == back == list(range(1, last + 1))
    assert busy_node.get("/v1/events?after=999999999999999999999999999").json()["events"] == []
    refused = busy_node.get("/v1/events?follow=1&before=5")
    assert refused.status == 400
    assert json.loads(refused.body)["error"]["code"] == "invalid_request"
