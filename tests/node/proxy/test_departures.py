"""Clients that leave while their request waits: the target is let go of at once, and nobody else is."""

import pytest
import trio

from node.proxy.wires import RESET_LOOK_S, WATCH_AFTER_S
from tests.node.proxy.proxy_world import OK, Peer, World, length_of, proxy_world, until

pytestmark = pytest.mark.integration
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PROMPT_S = WATCH_AFTER_S + RESET_LOOK_S + 3.0
"""Far below the 60 s for which an answer is waited for; a busy computer has its share of it."""


async def silent(peer: Peer) -> None:
    """Takes a request and never answers; ends when the proxy does."""
    await peer.exactly(length_of(await peer.head()))
    await peer.rest()


async def assert_let_go(world: World) -> None:
    """The target's connection ends and nothing is in flight, promptly."""
    with trio.fail_after(PROMPT_S):
        await until(lambda: world.proxy.stats().in_flight == 0)
        await until(lambda: world.proxy.stats().connections == 0)
    assert world.proxy.stats().upstream_idle == 0
    assert world.proxy.stats().bugs == 0


@pytest.mark.parametrize("waited_s", [0.0, 2 * WATCH_AFTER_S])
async def test_reset_while_the_answer_is_waited_for_frees_the_target(waited_s: float) -> None:
    async with proxy_world() as world:
        upstream = await world.serve_by(silent)
        client = await world.client()
        await client.send(GET)
        await until(lambda: upstream.received.endswith(b"\r\n\r\n"))
        await trio.sleep(waited_s)
        assert world.proxy.stats().in_flight == 1
        client.reset()
        await assert_let_go(world)
        with trio.fail_after(PROMPT_S):
            await until(lambda: upstream.connections[0].stream.socket.fileno() == -1)


async def test_reset_is_noticed_behind_bytes_of_a_next_request() -> None:
    async with proxy_world() as world:
        upstream = await world.serve_by(silent)
        client = await world.client()
        await client.send(GET + GET)
        await until(lambda: upstream.received.endswith(b"\r\n\r\n"))
        await trio.sleep(2 * WATCH_AFTER_S)
        client.reset()
        await assert_let_go(world)


@pytest.mark.parametrize("framing", [b"Content-Length: 300000", b"Transfer-Encoding: chunked"])
async def test_reset_after_a_long_body_frees_the_target(framing: bytes) -> None:
    is_chunked = b"chunked" in framing
    ended = trio.Event()

    async def swallow(peer: Peer) -> None:
        await peer.head()
        await (peer.until(b"0\r\n\r\n") if is_chunked else peer.exactly(300_000))
        ended.set()
        await peer.rest()

    async with proxy_world() as world:
        await world.serve_by(swallow)
        client = await world.client()
        body = b"x" * 300_000
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        await client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body)
        await ended.wait()
        await trio.sleep(2 * WATCH_AFTER_S)
        client.reset()
        await assert_let_go(world)


async def test_reset_in_a_pause_of_the_answer_frees_the_target() -> None:
    async def pausing(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n")
        await peer.rest()

    async with proxy_world() as world:
        await world.serve_by(pausing)
        client = await world.client()
        await client.send(GET)
        await client.until(b"data\r\n")
        await trio.sleep(2 * WATCH_AFTER_S)
        client.reset()
        await assert_let_go(world)


async def test_client_that_only_ends_its_half_gets_a_late_answer() -> None:
    async def late(peer: Peer) -> None:
        await peer.head()
        await trio.sleep(2 * WATCH_AFTER_S + RESET_LOOK_S)
        await peer.send(OK)

    async with proxy_world() as world:
        await world.serve_by(late)
        client = await world.client()
        await client.send(GET)
        await client.stream.send_eof()
        assert (await client.rest()).endswith(b"ok")


async def test_late_answers_and_the_requests_behind_them_lose_nothing() -> None:
    """What the client sends while its answer is waited for is its next request, whole."""

    async def late(peer: Peer) -> None:
        while head := await peer.head():
            await peer.exactly(length_of(head))
            await trio.sleep(2 * WATCH_AFTER_S)
            await peer.send(OK)

    async with proxy_world() as world:
        upstream = await world.serve_by(late)
        client = await world.client()
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        await client.send(GET)
        await trio.sleep(1.5 * WATCH_AFTER_S)
        await client.send(post + GET)
        for _ in range(3):
            assert (await client.answer()).endswith(b"ok")
        assert len(upstream.connections) == 1
        assert upstream.received.count(b"HTTP/1.1\r\n") == 3
        assert upstream.received.count(b"hello") == 1
