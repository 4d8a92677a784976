"""Upgrades and large bodies: bytes that the proxy must pass without keeping them."""

import random
import resource

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, open_websocket_url, serve_websocket

from node.proxy.limits import ProxyLimits
from node.proxy.routes import Target
from orca.model.ids import AllocationId
from tests.node.proxy.proxy_world import Peer, proxy_world, until

pytestmark = pytest.mark.integration

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
BLOCK = random.Random(9).randbytes(64 * 1024)


async def test_websockets_pass_in_both_directions_and_close_cleanly() -> None:
    async def echo(request: WebSocketRequest) -> None:
        socket = await request.accept(subprotocol="chat")
        try:
            while True:
                await socket.send_message(await socket.get_message())
        except ConnectionClosed:
            pass

    async with proxy_world() as world:
        server = await world.nursery.start(serve_websocket, echo, "127.0.0.1", 0, None)
        world.route(Target(allocation=AllocationId("ws"), port=80, host="127.0.0.1", host_port=server.port))
        url = f"ws://127.0.0.1:{world.port}/chat"
        async with open_websocket_url(url, subprotocols=["chat"]) as socket:
            assert socket.subprotocol == "chat"
            for message in ("hello", "x" * 300_000, b"\x00\xff" * 1000):
                await socket.send_message(message)
                assert await socket.get_message() == message
            assert world.proxy.stats().in_flight == 1
        await until(lambda: world.proxy.stats().in_flight == 0)


async def test_any_protocol_passes_with_early_bytes_and_half_closes() -> None:
    async def reverse(peer: Peer) -> None:
        await peer.head()
        await peer.send(SWITCH % b"foo/2" + b"first")
        received = await peer.rest()
        await peer.send(received[::-1])

    async with proxy_world() as world:
        upstream = await world.serve_by(reverse)
        client = await world.client()
        await client.send(UPGRADE % b"foo/2" + b"early")
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Upgrade: foo/2\r\n" in head
        await client.send(b" late")
        await client.stream.send_eof()
        assert await client.rest() == b"first" + b"early late"[::-1]
        assert b"Connection: Upgrade\r\nUpgrade: foo/2\r\n" in upstream.received


async def test_an_upgrade_that_the_workload_ignores_is_an_ordinary_request() -> None:
    async with proxy_world() as world:
        await world.serve_by()
        client = await world.client()
        for _ in range(2):
            await client.send(UPGRADE % b"websocket")
            assert (await client.answer()).endswith(b"ok")


async def test_http_2_is_not_smuggled_past_the_rules_by_an_upgrade() -> None:
    async with proxy_world() as world:
        upstream = await world.serve_by()
        client = await world.client()
        await client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n"
        )
        await client.answer()
        assert b"h2c" not in upstream.received
        assert b"settings" not in upstream.received.lower()


async def test_a_tunnel_ends_when_nothing_moves() -> None:
    async def switch(peer: Peer) -> None:
        await peer.head()
        await peer.send(SWITCH % b"foo")
        await peer.rest()

    async with proxy_world(ProxyLimits(tunnel_idle_timeout_s=0.1)) as world:
        await world.serve_by(switch)
        client = await world.client()
        await client.send(UPGRADE % b"foo")
        await client.head()
        with pytest.raises(trio.BrokenResourceError):
            await client.rest()


def memory_peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.slow
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_hundred_megabytes_pass_both_ways_in_little_memory(is_chunked: bool) -> None:
    blocks = 100 * 1024 * 1024 // len(BLOCK)
    size = blocks * len(BLOCK)
    frame = b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK) if is_chunked else BLOCK
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % size
    end = b"0\r\n\r\n" if is_chunked else b""
    counted: list[int] = []

    async def count(stream: trio.SocketStream, start: int, until: int) -> int:
        seen = start
        while seen < until:
            got = await stream.receive_some(256 * 1024)
            assert got, "the stream ended early"
            seen += len(got)
        return seen

    async def mirror(peer: Peer) -> None:
        await peer.head()
        counted.append(await count(peer.stream, len(peer.buffer), size))
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        for _ in range(blocks):
            await peer.send(frame)
        await peer.send(end)
        with trio.move_on_after(5):
            await peer.stream.receive_some()

    async with proxy_world(time_max_s=120.0) as world:
        await world.serve_by(mirror)
        client = await world.client()
        before = memory_peak_bytes()

        async def upload() -> None:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
            for _ in range(blocks):
                await client.send(frame)
            await client.send(end)

        world.nursery.start_soon(upload)
        assert b"200 OK" in await client.head()
        assert await count(client.stream, len(client.buffer), size) >= size
        assert counted[0] >= size
        assert memory_peak_bytes() - before < 16 * 1024 * 1024


async def test_a_client_that_does_not_read_holds_the_workload_back() -> None:
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(BLOCK)
            sent += len(BLOCK)

    async with proxy_world() as world:
        await world.serve_by(flood)
        client = await world.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        previous = -1
        while sent != previous or sent == 0:
            previous = sent
            await trio.sleep(0.2)
        assert sent < 32 * 1024 * 1024
