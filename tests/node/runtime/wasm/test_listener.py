"""The listener when more is asked of it than it may do at once."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from node.runtime.wasm.calls import Call, Outcome, Pool, Ticker
from node.runtime.wasm.listener import Limits, Listener
from node.runtime.wasm.sink import Sink
from node.runtime.wasm.wagi import Request, Response, parse_response

pytestmark = pytest.mark.integration

OUTPUT = b"content-type: text/plain\n\ndone"


class Gate:
    """A handler whose runs all wait until the gate opens, whatever their deadlines say."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.running = threading.Semaphore(0)

    def run(self, request: Request, call: Call, sink: Sink) -> Outcome:
        self.running.release()
        assert self.opened.wait(30), "the test never opened the gate"
        sink.write(OUTPUT)
        return Outcome(exit_code=0)

    def read_head(self, sink: Sink, output: bytes, *, is_whole: bool) -> tuple[Response, bytes] | None:
        return parse_response(output, is_whole=is_whole)


class Asked:
    """One request on a connection of its own, and its answer once `finish` was called."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def finish(self) -> bytes:
        """The answer up to its end, which is the connection's."""
        received = b""
        async with self.stream:
            while piece := await self.stream.receive_some(65536):
                received += piece
        return received


@asynccontextmanager
async def listening(gate: Gate, limits: Limits) -> AsyncIterator[tuple[Listener, int]]:
    listener = Listener(gate, Pool("test-gate", 4), Ticker(lambda: None), lambda _text: None, limits)
    port = await listener.bind("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        try:
            with trio.fail_after(30):
                yield listener, port
        finally:
            gate.opened.set()
        nursery.cancel_scope.cancel()


async def ask(port: int) -> Asked:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(b"GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n")
    return Asked(stream)


async def until_in_flight(listener: Listener, count: int) -> None:
    while listener.in_flight != count:  # noqa: ASYNC110 - nothing announces it
        await trio.sleep(0.01)


async def test_request_beyond_those_that_may_wait_is_refused_at_once_and_the_others_are_answered() -> None:
    gate = Gate()
    async with listening(gate, Limits(runs_max=1, waiting_max=2)) as (listener, port):
        kept = []
        for count in (1, 2, 3):  # one runs, two wait
            kept.append(await ask(port))
            await until_in_flight(listener, count)
        answer = await (await ask(port)).finish()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"too many requests wait" in answer
        assert b"connection: close" in answer.lower()
        assert await trio.to_thread.run_sync(gate.running.acquire, True, 10.0)
        assert not gate.running.acquire(blocking=False), "a second run was begun"
        gate.opened.set()
        for asked in kept:
            answer = await asked.finish()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"\r\n\r\ndone")
        await until_in_flight(listener, 0)
        assert (await (await ask(port)).finish()).startswith(b"HTTP/1.1 200 ")


async def test_request_that_waits_longer_than_a_run_may_take_is_refused() -> None:
    gate = Gate()
    limits = Limits(request_timeout_s=0.2, runs_max=1)
    async with listening(gate, limits) as (listener, port):
        first = await ask(port)
        await until_in_flight(listener, 1)
        answer = await (await ask(port)).finish()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"no run of this instance became free in time" in answer
        assert (await first.finish()).startswith(b"HTTP/1.1 504 "), "the run itself is given up later"


async def test_waiting_client_that_leaves_gives_its_place_to_another() -> None:
    gate = Gate()
    async with listening(gate, Limits(runs_max=1, waiting_max=1)) as (listener, port):
        first = await ask(port)
        await until_in_flight(listener, 1)
        with trio.move_on_after(0.05):
            await (await ask(port)).finish()  # leaves while it waits
        gate.opened.set()
        assert (await first.finish()).startswith(b"HTTP/1.1 200 ")
        assert (await (await ask(port)).finish()).startswith(b"HTTP/1.1 200 ")
        await until_in_flight(listener, 0)
