"""The fast lane: a connection that is warm is served by callbacks, and whatever is not plain leaves it unharmed.

The first request of a route takes the long way, since nothing is connected yet; so each test warms up with one.
"""

import errno
import hashlib
import random

import msgspec
import pytest
import trio

from node.proxy.limits import ProxyLimits
from orca.model.ids import SpecRevision
from tests.node.proxy.proxy_world import OK, Handler, Peer, World, length_of, proxy_world, until
from tests.node.proxy.test_server import CLOSING_GET, GET

pytestmark = pytest.mark.integration

BIG = random.Random(3).randbytes(3_000_001)


def after_warming_up(answer: Handler) -> Handler:
    """A workload that answers its first request plainly, and leaves the others to `answer`."""

    async def handler(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK)
        while True:
            await answer(peer)

    return handler


async def warm(world: World) -> Peer:
    client = await world.client()
    await client.send(GET)
    assert (await client.answer()).endswith(b"ok")
    await until(lambda: world.proxy.stats().upstream_idle == 1)
    return client


async def test_a_long_body_arrives_byte_for_byte() -> None:
    async def big(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG)

    async with proxy_world() as world:
        upstream = await world.serve_by(after_warming_up(big))
        client = await warm(world)
        for _ in range(3):
            await client.send(GET)
            head = await client.head()
            body = await client.exactly(length_of(head))
            assert hashlib.sha256(body).digest() == hashlib.sha256(BIG).digest()
        assert len(upstream.connections) == 1


async def test_a_long_body_is_copied_when_there_are_no_files_left_for_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "too many open files")

    async def big(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG)

    monkeypatch.setattr("node.proxy.pipes.os.pipe2", refuse)
    async with proxy_world() as world:
        await world.serve_by(after_warming_up(big))
        client = await warm(world)
        await client.send(GET)
        assert await client.exactly(length_of(await client.head())) == BIG


async def test_chunks_are_decoded_strictly_and_arrive_whole() -> None:
    async def chunked(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhel")
        await trio.sleep(0.01)
        await peer.send(b"lo\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n")

    async with proxy_world() as world:
        upstream = await world.serve_by(after_warming_up(chunked))
        client = await warm(world)
        for _ in range(2):
            await client.send(GET)
            assert b"Transfer-Encoding: chunked\r\n" in await client.head()
            assert b"hel" in await client.until(b"0\r\n\r\n")
        assert len(upstream.connections) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, b"HTTP/1.1 103 "),
        (b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 502 "),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", b"HTTP/1.1 502 "),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"HTTP/1.1 200 OK\r\n"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"HTTP/1.1 200 OK\r\n"),
    ],
)
async def test_an_answer_that_is_not_plain_is_finished_the_long_way(answer: bytes, expected: bytes) -> None:
    async def odd(peer: Peer) -> None:
        if await peer.head():
            await peer.send(answer)
        await peer.stream.aclose()

    async with proxy_world() as world:
        upstream = await world.serve_by(after_warming_up(odd))
        client = await warm(world)
        await client.send(GET)
        assert (await client.until(b"\r\n")).startswith(expected[:-2])
        assert upstream.received.count(b"GET / HTTP/1.1") == 2, "a request that was answered is not sent again"
        assert world.proxy.stats().requests == 2


async def test_a_post_whose_kept_connection_dies_is_not_sent_again() -> None:
    async def dying(peer: Peer) -> None:
        await peer.head()
        await peer.stream.aclose()

    async with proxy_world() as world:
        upstream = await world.serve_by(after_warming_up(dying))
        client = await warm(world)
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert (await client.head()).startswith(b"HTTP/1.1 502 ")
        assert upstream.received.count(b"POST") == 1


async def test_bytes_behind_an_answer_are_nobodys_answer() -> None:
    async def talkative(peer: Peer) -> None:
        if await peer.head():
            await peer.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")

    async with proxy_world() as world:
        await world.serve_by(after_warming_up(talkative))
        client = await warm(world)
        for _ in range(3):
            await client.send(GET)
            assert b"poison" not in await client.answer()


async def test_an_answer_that_breaks_off_resets_the_client() -> None:
    async def broken(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        await peer.stream.aclose()

    async with proxy_world() as world:
        await world.serve_by(after_warming_up(broken))
        client = await warm(world)
        await client.send(GET)
        with pytest.raises(trio.BrokenResourceError):
            await client.rest()
        assert world.proxy.stats().broken == 1


async def test_504_and_a_drain_reach_requests_in_the_lane() -> None:
    async def silent(peer: Peer) -> None:
        await peer.head()
        await trio.sleep_forever()

    async with proxy_world(ProxyLimits(response_timeout_s=0.1)) as world:
        await world.serve_by(after_warming_up(silent))
        client = await warm(world)
        await client.send(GET)
        assert (await client.head()).startswith(b"HTTP/1.1 504 ")
    async with proxy_world() as world:
        upstream = await world.serve_by(after_warming_up(silent))
        client = await warm(world)
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        await until(lambda: b"POST" in upstream.received)
        world.route()
        assert await world.proxy.drain(upstream.name, 0.05) == 1
        assert (await client.head()).startswith(b"HTTP/1.1 502 ")
        assert world.proxy.stats().in_flight == 0


async def test_a_client_that_resets_while_it_waits_gives_the_target_free() -> None:
    gone = trio.Event()

    async def silent(peer: Peer) -> None:
        await peer.head()
        try:
            await peer.rest()
        finally:
            gone.set()

    async with proxy_world() as world:
        await world.serve_by(after_warming_up(silent))
        client = await warm(world)
        await client.send(GET)
        await until(lambda: world.proxy.stats().in_flight == 1)
        client.reset()
        await gone.wait()
        assert world.proxy.stats().in_flight == 0


async def test_plain_and_odd_requests_may_be_pipelined_in_any_order() -> None:
    async def echo_path(peer: Peer) -> None:
        while head := await peer.head():
            path = head.split(b" ")[1]
            await peer.exactly(length_of(head))
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    odd = b"GET /%d HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"
    plain = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    post = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    async with proxy_world() as world:
        await world.serve_by(echo_path)
        client = await world.client()
        kinds = (plain, plain, odd, post, plain, odd, odd, post, post, plain)
        await client.send(b"".join(kind % number for number, kind in enumerate(kinds)) + CLOSING_GET)
        answers = await client.rest()
        positions = [answers.index(b"\r\n\r\n/%d" % number) for number in range(len(kinds))]
        assert positions == sorted(positions)
        assert answers.endswith(b"\r\n\r\n/")
        assert world.proxy.stats().requests == len(kinds) + 1


async def test_any_hundred_requests_are_shared_out_exactly_as_the_weights_say() -> None:
    """Whichever way each goes: new connections, kept ones, and tables that are swapped meanwhile."""
    async with proxy_world() as world:
        old, new = await world.upstream(name="old"), await world.upstream(name="new")
        targets = (
            msgspec.structs.replace(old.target, revision=SpecRevision(1)),
            msgspec.structs.replace(new.target, revision=SpecRevision(2)),
        )
        clients = [await world.client() for _ in range(4)]
        taken: list[int] = []
        for number in range(130):
            if number % 7 == 0:
                world.route(*targets, weights={SpecRevision(1): 93, SpecRevision(2): 7})
            before = new.received.count(b"GET")
            client = clients[number % 4]
            await client.send(GET if number % 3 else GET.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\n\r\n"))
            assert (await client.answer()).endswith(b"ok")
            taken.append(new.received.count(b"GET") - before)
        assert all(sum(taken[start : start + 100]) == 7 for start in range(31)), taken


async def test_a_client_that_ends_its_half_with_its_request_is_answered_and_then_closed() -> None:
    async with proxy_world() as world:
        await world.serve_by()
        client = await warm(world)
        await client.send(GET)
        await client.stream.send_eof()
        with trio.fail_after(5):
            assert (await client.rest()).endswith(b"ok")
        await until(lambda: world.proxy.stats().connections == 0)
