"""What is said over time: watch, events, logs; and what happens when the client leaves."""

import contextlib
from collections.abc import AsyncGenerator

import msgspec
import pytest
import trio
import trio.testing

from node.api.sse import KEEP_ALIVE
from orca.model.event import NodeEvent
from orca.model.ids import ServiceId
from orca.model.trust import Author
from orca.model.view import DeployRequest, ScaleRequest, ServicesReply
from tests.node.api.control import WEB, FakeControl, event, spec
from tests.node.api.raw import serve_in_memory, serving

Address = tuple[str, int]


class Reader:
    """Reads an answer's head, then what its chunks hold, up to a mark."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = b""

    async def until(self, mark: bytes) -> bytes:
        with trio.fail_after(20):
            while mark not in self._received:
                piece = await self._stream.receive_some()
                assert piece, f"the stream ended: {self._received!r}"
                self._received += piece
        found, _, self._received = self._received.partition(mark)
        return found + mark

    async def sse(self) -> bytes:
        """The data of the next event; comments are skipped."""
        while b"data: " not in (block := await self.until(b"\n\n")):
            pass
        return block.partition(b"data: ")[2].rstrip()


@contextlib.asynccontextmanager
async def getting(address: Address, target: str, *fields: str) -> AsyncGenerator[Reader, None]:
    async with await trio.open_tcp_stream(*address) as stream:
        lines = [f"GET {target} HTTP/1.1", "Host: localhost", *fields, "", ""]
        await stream.send_all("\r\n".join(lines).encode())
        reader = Reader(stream)
        assert (await reader.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        yield reader


@pytest.fixture
async def control() -> FakeControl:
    made = FakeControl()
    await made.deploy(DeployRequest(specs=(spec("web"), spec("db"))), by=Author(actor="test"))
    return made


@pytest.fixture
async def address(control: FakeControl) -> AsyncGenerator[Address, None]:
    async with serving(control) as addresses:
        yield addresses.tcp[0]


@pytest.mark.integration
async def test_a_watch_tells_at_once_and_after_each_change_of_what_was_named(
    address: Address, control: FakeControl
) -> None:
    async with getting(address, "/v1/watch?service=default/web") as reader:
        first = msgspec.json.decode(await reader.sse(), type=ServicesReply)
        assert [service.id for service in first.services] == [WEB]
        await control.scale(ServiceId("default/db"), ScaleRequest(replicas=9), by=Author(actor="test"))
        await control.scale(WEB, ScaleRequest(replicas=5), by=Author(actor="test"))
        second = msgspec.json.decode(await reader.sse(), type=ServicesReply)
        assert [(service.id, service.replicas) for service in second.services] == [(WEB, 5)]


@pytest.mark.integration
async def test_many_changes_at_once_are_told_together(address: Address, control: FakeControl) -> None:
    async with getting(address, "/v1/watch?service=default/web") as reader:
        await reader.sse()
        for replicas in range(2, 500):
            await control.scale(WEB, ScaleRequest(replicas=replicas), by=Author(actor="test"))
        told = 1
        while msgspec.json.decode(await reader.sse(), type=ServicesReply).services[0].replicas != 499:
            told += 1
        assert told < 50


@pytest.mark.integration
@pytest.mark.parametrize("way", [("follow=1&", ()), ("", ("Accept: text/event-stream",))])
async def test_events_are_followed_from_after_on(
    address: Address, control: FakeControl, way: tuple[str, tuple[str, ...]]
) -> None:
    await control.publish(*(event(number) for number in range(1, 2501)))
    async with getting(address, f"/v1/events?{way[0]}after=10&limit=7", *way[1]) as reader:
        for number in range(11, 2501):
            assert msgspec.json.decode(await reader.sse(), type=NodeEvent).sequence == number
        await control.publish(event(2501))
        assert msgspec.json.decode(await reader.sse(), type=NodeEvent).sequence == 2501


@pytest.mark.integration
async def test_a_browser_goes_on_after_the_last_event_that_it_saw(address: Address, control: FakeControl) -> None:
    await control.publish(*(event(number) for number in range(1, 51)))
    async with getting(address, "/v1/events?follow=true&after=3", "Last-Event-ID: 48") as reader:
        block = await reader.until(b"\n\n")
        assert b"id: 49\nevent: event\ndata: {" in block


@pytest.mark.integration
async def test_a_follower_hears_only_of_its_service_and_misses_nothing_after_a_page_of_others(
    address: Address, control: FakeControl
) -> None:
    await control.publish(*(event(number) for number in range(1, 3001)), event(3001, WEB))
    async with getting(address, "/v1/events?follow=1&after=0&service=default/web") as reader:
        assert msgspec.json.decode(await reader.sse(), type=NodeEvent).sequence == 3001


@pytest.mark.integration
async def test_a_client_that_leaves_a_follow_stream_ends_the_log_below(address: Address, control: FakeControl) -> None:
    async with getting(address, "/v1/logs?service=default/web&follow=1") as reader:
        await reader.until(b"line 2")
        assert control.open_logs == 1
        seen = control.change_count()
    with trio.fail_after(20):
        await control.wait_change(seen)
    assert control.open_logs == 0


@pytest.mark.integration
async def test_a_request_sent_during_a_stream_is_answered_after_it(address: Address) -> None:
    """Pipelining (RFC 9112 §9.3.2): bytes that come while we watch for the end are not lost."""
    async with await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(
            b"GET /v1/logs HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n"
        )
        reader = Reader(stream)
        await reader.until(b"line 2")
        await stream.send_all(b"\r\n")
        await reader.until(b"\r\n\r\nok\n")


@pytest.mark.parametrize("target", ["/v1/watch", "/v1/events?follow=1"])
async def test_a_silent_stream_says_something_each_15_seconds(
    control: FakeControl, target: str, autojump_clock: trio.testing.MockClock
) -> None:
    """On a virtual clock, over a stream in memory."""
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_in_memory, control, server)
        await client.send_all(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        while received.count(KEEP_ALIVE) < 3:
            received += await client.receive_some()
        assert 45 <= trio.current_time() < 47
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("target", ["/v1/watch?service=default/web", "/v1/events?follow=1&service=default/web"])
async def test_a_stream_of_one_service_is_not_silenced_by_what_happens_to_others(
    control: FakeControl, target: str, autojump_clock: trio.testing.MockClock
) -> None:
    """A client takes 45 s without a byte for a dead node, however busy the node is with something else."""
    client, server = trio.testing.memory_stream_pair()

    async def be_busy() -> None:
        for number in range(1, 1000):
            await control.publish(event(number))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_in_memory, control, server)
        nursery.start_soon(be_busy)
        await client.send_all(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        while received.count(KEEP_ALIVE) < 3:
            with trio.fail_after(20):
                received += await client.receive_some()
        assert 45 <= trio.current_time() < 49
        nursery.cancel_scope.cancel()
