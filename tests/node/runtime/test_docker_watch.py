"""When an engine counts as hung: on virtual time, over streams in memory."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from node.runtime.docker.connection import Engine, engine_address
from node.runtime.docker.reading import EngineEvent, Listed
from node.runtime.docker.watch import EngineLostError, EngineWatch

DETECTION_S = 5.0
"""What is promised between the last word of an engine and its loss."""

EVENT = b'{"Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{"orca.allocation":"a1"}}}\n'


class MemoryEngine(Engine):
    """Answers at once, or after `answer_s`, until the moment `hangs_at`; says an event every `event_s`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(engine_address("unix:///memory"))
        self.hangs_at = float("inf")
        self.answer_s = 0.0
        self.event_s = float("inf")
        self.last_word_at = 0.0
        self._nursery = nursery

    async def _connect(self) -> trio.abc.HalfCloseableStream:
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: trio.abc.HalfCloseableStream) -> None:
        try:
            path = (await stream.receive_some(65536)).split(b" ")[1].partition(b"?")[0]
            if path == b"/events":
                await self._say(stream, b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    await trio.sleep(self.event_s)
                    await self._say(stream, EVENT)
            if path == b"/_ping":
                await trio.sleep(self.answer_s)
            body = b"[]" if path == b"/containers/json" else b"OK"
            await self._say(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + body)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # whoever asked has given up

    async def _say(self, stream: trio.abc.HalfCloseableStream, words: bytes) -> None:
        if trio.current_time() >= self.hangs_at:
            await trio.sleep_forever()
        self.last_word_at = trio.current_time()
        await stream.send_all(words)


@asynccontextmanager
async def following() -> AsyncGenerator[
    tuple[MemoryEngine, Callable[[], Awaitable[EngineLostError]], list[EngineEvent]]
]:
    """An engine, a function that follows it until it is lost, and the events so far."""
    events: list[EngineEvent] = []

    def synced(_: tuple[Listed, ...]) -> None:
        pass

    async def handle(event: EngineEvent) -> None:
        events.append(event)

    async with trio.open_nursery() as nursery:
        engine = MemoryEngine(nursery)

        async def follow() -> EngineLostError:
            with pytest.raises(EngineLostError) as caught:
                await EngineWatch(engine, []).follow(synced, handle)
            return caught.value

        yield engine, follow, events
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("hangs_at", [0.001, 1.0, 1.999, 2.0, 2.001, 3.5, 4.0, 100.3])
async def test_a_hung_engine_is_found_out_within_five_seconds(
    autojump_clock: trio.testing.MockClock, hangs_at: float
) -> None:
    async with following() as (engine, follow, _):
        engine.hangs_at = trio.current_time() + hangs_at
        lost = await follow()
        assert lost.is_hung
        assert trio.current_time() - engine.last_word_at <= DETECTION_S
        assert trio.current_time() >= engine.hangs_at


async def test_an_engine_that_was_busy_with_events_is_found_out_in_the_same_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with following() as (engine, follow, events):
        engine.event_s = 0.3
        engine.hangs_at = trio.current_time() + 30.0
        assert (await follow()).is_hung
        assert len(events) == 99
        assert trio.current_time() - engine.last_word_at <= DETECTION_S


async def test_an_engine_too_busy_for_a_ping_is_alive_while_it_tells_events(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with following() as (engine, follow, events):
        engine.answer_s, engine.event_s = 60.0, 2.2
        engine.hangs_at = trio.current_time() + 600.0
        assert (await follow()).is_hung
        assert len(events) == 272
        assert trio.current_time() >= engine.hangs_at - engine.event_s


async def test_an_engine_that_takes_two_seconds_for_a_ping_is_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    async with following() as (engine, follow, _):
        engine.answer_s = 2.0
        with trio.move_on_after(3600.0) as hour:
            await follow()
        assert hour.cancelled_caught
