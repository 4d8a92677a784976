"""HTTP/1.1 in both roles: limits, deadlines, keep-alive, and whatever a client may send."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca.errors import PeerProtocolError
from orca.http import HttpClient, HttpLimits, Reply, Request, Response, StreamResponse, Upgrade, serve_http
from orca.http.server import Handler

LIMITS = HttpLimits(head_bytes_max=4096, head_timeout_s=10, idle_timeout_s=75, body_timeout_s=30)


async def echo(request: Request) -> Response:
    body = await request.read(1_000_000)
    return Response(headers=(("x-path", request.path),), body=body)


class Wire:
    """A client's end of a connection in memory."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def send(self, wire: bytes) -> None:
        await self.stream.send_all(wire)

    async def until(self, mark: bytes) -> bytes:
        received = b""
        while mark not in received:
            piece = await self.stream.receive_some()
            assert piece, f"the connection ended after {received!r}"
            received += piece
        return received

    async def rest(self) -> bytes:
        received = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while piece := await self.stream.receive_some():
                received += piece
        return received


@contextlib.asynccontextmanager
async def connected(handler: Handler = echo, limits: HttpLimits = LIMITS) -> AsyncGenerator[Wire, None]:
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_http, server, handler, limits=limits, peer="test"))
        yield Wire(client)
        nursery.cancel_scope.cancel()


async def test_one_connection_serves_many_requests() -> None:
    async with connected() as wire:
        for number in range(20):
            await wire.send(b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" % number)
            answer = await wire.until(b"hi")
            assert b"x-path: /%d\r\n" % number in answer


async def test_the_parts_of_a_request_are_decoded_each_for_itself() -> None:
    seen: list[Request] = []

    async def look(request: Request) -> Response:
        seen.append(request)
        return Response()

    async with connected(look) as wire:
        await wire.send(b"GET /a%2Fb/c%20d?x=1&x=%C3%A9+z&y= HTTP/1.1\r\nHost: x\r\n\r\n")
        await wire.until(b"\r\n\r\n")
        await wire.send(b"GET http://host:1/abs?q=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        await wire.until(b"\r\n\r\n")
    assert seen[0].segments == ("a/b", "c d")
    assert seen[0].query == (("x", "1"), ("x", "é z"), ("y", ""))
    assert (seen[1].segments, seen[1].query) == (("abs",), (("q", "1"),))


async def test_an_idle_connection_is_closed_without_a_word(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as wire:
        assert await wire.rest() == b""
        assert trio.current_time() == pytest.approx(75, abs=1)


async def test_a_head_that_comes_byte_by_byte_is_ended_with_408(autojump_clock: trio.testing.MockClock) -> None:
    async def drip(wire: Wire) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            for byte in b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100:
                await wire.send(bytes([byte]))
                await trio.sleep(1)

    async with connected() as wire, trio.open_nursery() as nursery:
        nursery.start_soon(drip, wire)
        assert b"HTTP/1.1 408 " in await wire.rest()
        assert trio.current_time() < 15
        nursery.cancel_scope.cancel()


async def test_a_body_that_stops_coming_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhal")
        answer = await wire.rest()
        assert b"HTTP/1.1 400 " in answer
        assert b"for 30 s after 3 bytes" in answer


async def test_a_body_that_breaks_off_is_told_to_its_reader() -> None:
    async with connected() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhal")
        assert isinstance(wire.stream, trio.StapledStream)
        await wire.stream.send_eof()
        assert b"broke off after 3 bytes" in await wire.rest()


async def test_a_reader_that_takes_nothing_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    ended = trio.Event()

    @contextlib.asynccontextmanager
    async def endless() -> AsyncGenerator[AsyncIterator[bytes], None]:
        async def pieces() -> AsyncGenerator[bytes, None]:
            while True:
                yield b"x" * 65536

        async with contextlib.aclosing(pieces()) as made:
            try:
                yield made
            finally:
                ended.set()

    async def stream(request: Request) -> Reply:
        return StreamResponse(content=endless())

    client, server = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_http, server, stream, limits=LIMITS))
        await client.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with trio.fail_after(60):
            await ended.wait()
    del client


@pytest.mark.parametrize(
    ("wire_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 5000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000, 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
async def test_what_is_no_proper_request_is_answered_and_ended(wire_bytes: bytes, status: int) -> None:
    async with connected() as wire:
        await wire.send(wire_bytes)
        assert b"HTTP/1.1 %d " % status in await wire.until(b"}}")


async def test_the_body_of_a_refused_request_does_not_become_the_next_request() -> None:
    async def refuse(request: Request) -> Response:
        return Response(status=403, body=request.target.encode())

    hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    async with connected(refuse) as wire:
        await wire.send(b"POST /open HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden)
        assert b"/open" in await wire.until(b"/open")
        await wire.send(b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await wire.rest()
        assert b"/next" in answer
        assert b"/hidden" not in answer


async def test_the_client_is_asked_for_the_body_only_when_somebody_reads_it() -> None:
    async with connected() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await wire.send(b"hi")
        assert b"HTTP/1.1 200" in await wire.until(b"hi")

    async def refuse(request: Request) -> Response:
        request.chunks(1)
        raise AssertionError("the declared length is above the limit")

    async with connected(refuse) as wire:
        await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        answer = await wire.until(b"}}")
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer


async def test_an_old_client_gets_its_answer_and_the_end() -> None:
    async with connected() as wire:
        await wire.send(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
        assert (await wire.rest()).endswith(b"hi")


async def test_an_upgrade_gets_the_request_and_all_that_followed_it() -> None:
    got: list[bytes] = []

    async def take(stream: trio.abc.Stream) -> None:
        while piece := await stream.receive_some(7):
            got.append(bytes(piece))
        await stream.send_all(b"bye")

    async def upgrade(request: Request) -> Reply:
        return Upgrade(run=take)

    head = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    async with connected(upgrade) as wire:
        await wire.send(head + b"early ")
        await wire.send(b"late")
        assert isinstance(wire.stream, trio.StapledStream)
        await wire.stream.send_eof()
        assert await wire.rest() == b"bye"
    assert b"".join(got) == head + b"early late"


async def test_a_failure_in_the_middle_of_a_stream_cuts_the_answer_short() -> None:
    """The missing last chunk tells the client that this is not all (RFC 9112 §8)."""

    @contextlib.asynccontextmanager
    async def failing() -> AsyncGenerator[AsyncIterator[bytes], None]:
        async def pieces() -> AsyncGenerator[bytes, None]:
            yield b"one"
            raise KeyError("bug")

        async with contextlib.aclosing(pieces()) as made:
            yield made

    async def stream(request: Request) -> Reply:
        return StreamResponse(content=failing())

    async with connected(stream) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await wire.rest()
        assert b"3\r\none\r\n" in answer
        assert not answer.endswith(b"0\r\n\r\n")


LINES = b"""GET / HTTP/1.1|POST /a HTTP/1.1|HEAD / HTTP/1.0|Host: x||Content-Length: 5|Transfer-Encoding: chunked
5|hello|0|Expect: 100-continue|Connection: close|Upgrade: websocket|%ff|\x00"""
PARTS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"\r\n\r\n", b"hello", b"\xff" * 50, *(line + b"\r\n" for line in LINES.replace(b"\n", b"|").split(b"|"))]
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PARTS, max_size=12))
def test_whatever_bytes_come_the_connection_ends_and_nothing_is_raised(parts: list[bytes]) -> None:
    async def story() -> bytes:
        received = b""
        client, server = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(serve_http, server, echo, limits=LIMITS))
            for part in parts:
                with contextlib.suppress(trio.BrokenResourceError):
                    await client.send_all(part)
            with contextlib.suppress(trio.BrokenResourceError):
                await client.send_eof()
            with contextlib.suppress(trio.BrokenResourceError):
                while piece := await client.receive_some():
                    received += piece
        return received

    answer = trio.run(story, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not answer or answer.startswith(b"HTTP/1.1 ")


# The client


class Server:
    """Serves connections in memory and counts them."""

    def __init__(self, nursery: trio.Nursery, serve: Callable[[trio.abc.Stream], object]) -> None:
        self._nursery = nursery
        self._serve = serve
        self.connections = 0

    async def connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        client, server = trio.testing.memory_stream_pair()
        self.connections += 1
        self._nursery.start_soon(self._serve, server)  # type: ignore[arg-type]
        return client


@contextlib.asynccontextmanager
async def client_of(serve: Callable[[trio.abc.Stream], object]) -> AsyncGenerator[tuple[HttpClient, Server], None]:
    async with trio.open_nursery() as nursery:
        server = Server(nursery, serve)
        client = HttpClient(server.connect, host="x")
        yield client, server
        await client.aclose()
        nursery.cancel_scope.cancel()


async def test_a_client_keeps_its_connection_for_the_next_request() -> None:
    async with client_of(partial(serve_http, handler=echo, limits=LIMITS)) as (client, server):
        for number in range(5):
            reply = await client.request("POST", f"/{number}", body=b"hi")
            assert (reply.status, reply.body, reply.header("x-path")) == (200, b"hi", f"/{number}")
        assert server.connections == 1


async def test_a_kept_connection_that_has_ended_is_replaced_without_a_word(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client_of(partial(serve_http, handler=echo, limits=LIMITS)) as (client, server):
        await client.request("GET", "/")
        await trio.sleep(100)
        assert (await client.request("GET", "/")).status == 200
        assert server.connections == 2


async def test_a_change_on_a_connection_that_breaks_is_not_repeated_by_itself() -> None:
    async def once(stream: trio.abc.Stream) -> None:
        served = 0

        async def count(request: Request) -> Response:
            nonlocal served
            served += 1
            if served == 2:
                await trio.aclose_forcefully(stream)
            return await echo(request)

        await serve_http(stream, count)

    async with client_of(once) as (client, server):
        await client.request("GET", "/")
        with pytest.raises(trio.BrokenResourceError):
            await client.request("POST", "/", body=b"change")
        assert server.connections == 1
        await client.request("GET", "/")
        assert (await client.request("GET", "/")).status == 200
        assert server.connections == 3


async def test_an_answer_that_is_too_long_or_too_slow_or_no_http_is_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def big(request: Request) -> Response:
        return Response(body=b"x" * 1000)

    async with client_of(partial(serve_http, handler=big)) as (client, _):
        with pytest.raises(PeerProtocolError, match="more than 999 bytes"):
            await client.request("GET", "/", body_bytes_max=999)

    async def mute(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    async with client_of(mute) as (client, _):
        with pytest.raises(trio.TooSlowError):
            await client.request("GET", "/", timeout_s=3)

    async def other(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"220 mail ready\r\n")
        await trio.sleep_forever()

    async with client_of(other) as (client, _):
        with pytest.raises(PeerProtocolError, match="220 mail"):
            await client.request("GET", "/")


async def test_a_broken_answer_is_told_from_a_whole_one() -> None:
    async def half(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal")
        await stream.aclose()

    async with client_of(half) as (client, _):
        with pytest.raises(trio.BrokenResourceError):
            await client.request("GET", "/")


async def test_an_early_refusal_of_a_long_body_is_read() -> None:
    async def refuse(request: Request) -> Response:
        request.chunks(10)
        return Response()

    class Long(AsyncIterator[bytes]):
        left = 100

        async def __anext__(self) -> bytes:
            await trio.lowlevel.checkpoint()
            self.left -= 1
            if not self.left:
                raise StopAsyncIteration
            return b"x" * 1000

    async def read(request: Request) -> Response:
        await request.read(10)
        return Response()

    async with client_of(partial(serve_http, handler=read)) as (client, _):
        assert (await client.request("POST", "/", body=Long())).status == 413
    async with client_of(partial(serve_http, handler=refuse)) as (client, _):
        assert (await client.request("POST", "/", body=b"x" * 100)).status == 413
