"""The proxy between raw clients and raw workloads: forwarding, framing, faults, drains."""

import pytest
import trio

from node.proxy.limits import ProxyLimits
from node.proxy.routes import Target
from orca.model.ids import AllocationId
from orca.model.spec import RouteSpec
from tests.node.proxy.proxy_world import OK, Handler, Peer, length_of, proxy_world, until

pytestmark = pytest.mark.integration

GET = b"GET / HTTP/1.1\r\nHost: a.org\r\n\r\n"
CLOSING_GET = b"GET / HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n"


def saying(payload: bytes) -> Handler:
    """A workload that answers any request with `payload` and closes."""

    async def handler(peer: Peer) -> None:
        head = await peer.head()
        await peer.exactly(length_of(head))
        await peer.send(payload)

    return handler


def refused_target(name: str = "alloc-dead") -> Target:
    return Target(allocation=AllocationId(name), port=80, host="127.0.0.1", host_port=1)


async def test_one_connection_carries_many_requests_on_both_sides() -> None:
    async with proxy_world() as world:
        upstream = await world.serve_by()
        client = await world.client()
        for _ in range(5):
            await client.send(GET)
            assert (await client.answer()).endswith(b"ok")
        assert len(upstream.connections) == 1
        await until(lambda: world.proxy.stats().upstream_idle == 1)
        stats = world.proxy.stats()
        assert (stats.requests, stats.responses[2], stats.connections_total) == (5, 5, 1)


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def echo_path(peer: Peer) -> None:
        while head := await peer.head():
            path = head.split(b" ")[1]
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async with proxy_world() as world:
        await world.serve_by(echo_path)
        client = await world.client()
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20)))
        for number in range(20):
            assert (await client.answer()).endswith(b"\r\n\r\n/%d" % number)


async def test_hop_by_hop_fields_stay_behind_and_forwarded_ones_are_replaced() -> None:
    async with proxy_world() as world:
        upstream = await world.serve_by()
        await world.ask(
            b"GET / HTTP/1.1\r\nHost: A.org:81\r\nConnection: close, X-Secret-Hop\r\nX-Secret-Hop: 1\r\n"
            b"Keep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\nProxy: evil\r\nProxy-Connection: close\r\n"
            b"X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.7\r\nForwarded: for=6.6.6.8\r\nX-Real-IP: 6.6.6.9\r\n"
            b"X-Forwarded-Proto: https\r\nX-Request-Id: abc-1\r\nX-Kept: yes\r\n\r\n"
        )
        head = upstream.received
        assert b"6.6.6." not in head
        for name in (b"secret", b"keep-alive", b"te:", b"proxy", b"connection"):
            assert b"\r\n" + name not in head.lower()
        assert b"\r\nHost: A.org:81\r\n" in head
        assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in head
        assert b"\r\nX-Forwarded-Proto: http\r\n" in head
        assert b"\r\nX-Forwarded-Host: A.org:81\r\n" in head
        assert b"\r\nX-Request-Id: abc-1\r\n" in head
        assert b"\r\nX-Kept: yes\r\n" in head


async def test_a_trusted_load_balancer_in_front_is_believed() -> None:
    async with proxy_world(trusted_networks=("127.0.0.0/8",)) as world:
        upstream = await world.serve_by()
        await world.ask(CLOSING_GET[:-2] + b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n\r\n")
        assert b"\r\nX-Forwarded-For: 9.9.9.9, 127.0.0.1\r\n" in upstream.received
        assert b"\r\nX-Forwarded-Proto: https\r\n" in upstream.received


async def test_a_strange_request_id_is_replaced_and_answers_carry_one() -> None:
    async with proxy_world() as world:
        upstream = await world.serve_by()
        answer = await world.ask(CLOSING_GET[:-2] + b"X-Request-Id: <script>\r\n\r\n")
        assert b"<script>" not in upstream.received
        made = upstream.received.split(b"X-Request-Id: ")[1].partition(b"\r\n")[0]
        assert len(made) == 16
        assert b"X-Request-Id: " + made in answer


async def test_response_hop_by_hop_fields_stay_behind() -> None:
    async with proxy_world() as world:
        await world.serve_by(
            saying(
                b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n"
                b"Content-Length: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nok"
            )
        )
        client = await world.client()
        await client.send(GET)
        answer = await client.answer()
        assert b"x-hop" not in answer.lower()
        assert b"upgrade" not in answer.lower()
        assert b"connection" not in answer.lower()
        assert answer.index(b"Set-Cookie: a") < answer.index(b"Set-Cookie: b")


async def test_strip_path_reaches_the_workload_without_the_prefix() -> None:
    async with proxy_world() as world:
        upstream = await world.upstream()
        world.route(upstream.target, routes=[RouteSpec(path="/api", strip_path=True)])
        await world.ask(b"GET /api/x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert upstream.received.startswith(b"GET /x?y HTTP/1.1\r\n")
        assert b"\r\nX-Forwarded-Prefix: /api\r\n" in upstream.received


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", b"Content-Length: 500\r\n"),
    ],
)
async def test_answers_without_a_body_leave_the_connection_usable(answer: bytes, expected: bytes) -> None:
    async def handler(peer: Peer) -> None:
        while await peer.head():
            await peer.send(answer)

    async with proxy_world() as world:
        upstream = await world.serve_by(handler)
        client = await world.client()
        for _ in range(2):
            await client.send(GET)
            assert expected in await client.head()
        assert len(upstream.connections) == 1
        assert client.buffer == b""


async def test_head_keeps_the_length_and_carries_no_body() -> None:
    async def handler(peer: Peer) -> None:
        while await peer.head():
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")

    async with proxy_world() as world:
        await world.serve_by(handler)
        client = await world.client()
        for _ in range(2):
            await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"Content-Length: 12345\r\n" in await client.head()
        assert client.buffer == b""


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello world",
        b"HTTP/1.0 200 OK\r\n\r\nhello world",
    ],
)
async def test_a_body_of_unknown_length_becomes_chunked_or_ends_with_a_1_0_connection(answer: bytes) -> None:
    async with proxy_world() as world:
        await world.serve_by(saying(answer))
        new = await world.ask(CLOSING_GET)
        assert b"Transfer-Encoding: chunked\r\n" in new
        assert new.endswith(b"0\r\n\r\n")
        old = await world.ask(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert old.endswith(b"\r\n\r\nhello world")
        assert b"chunked" not in old


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_that_breaks_off_is_never_ended_cleanly(answer: bytes, version: bytes) -> None:
    async with proxy_world() as world:
        await world.serve_by(saying(answer))
        client = await world.client()
        await client.send(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
        with pytest.raises(trio.BrokenResourceError):
            await client.rest()
        assert b"0\r\n\r\n" not in client.received
        assert world.proxy.stats().broken == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00\r\n\r\n",
        b"HTTP/1.1 99 Odd\r\n\r\n",
        b"HTTP/1.1 600 Odd\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000 + b"\r\n\r\n",
        b"",
    ],
)
async def test_a_workload_that_answers_no_http_gives_502(answer: bytes) -> None:
    async with proxy_world() as world:
        await world.serve_by(saying(answer))
        client = await world.client()
        await client.send(GET)
        page = await client.until(b"502 Bad Gateway\r\n")
        assert page.endswith(b"502 Bad Gateway\r\n")


async def test_no_route_and_nobody_ready_have_their_own_pages_and_keep_the_connection() -> None:
    async with proxy_world() as world:
        world.route(routes=[RouteSpec(domain="a.org")])
        client = await world.client()
        await client.send(GET)
        nobody = await client.answer()
        assert nobody.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in nobody
        await client.send(b"GET / HTTP/1.1\r\nHost: b.org\r\nAccept: text/html,*/*\r\n\r\n")
        unknown = await client.answer()
        assert unknown.startswith(b"HTTP/1.1 404 ")
        assert b"Content-Type: text/html" in unknown
        await client.send(b"HEAD / HTTP/1.1\r\nHost: b.org\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 404 ")
        await trio.testing.wait_all_tasks_blocked()
        assert client.buffer == b""
        assert b"127.0.0.1" not in client.received


async def test_a_refused_connect_goes_to_the_next_target_even_for_a_post() -> None:
    async with proxy_world() as world:
        upstream = await world.upstream()
        world.route(refused_target("alloc-b"), refused_target("alloc-c"), upstream.target)
        for _ in range(10):
            answer = await world.ask(
                b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
            )
            assert answer.startswith(b"HTTP/1.1 200 ")
        assert upstream.received.count(b"hello") == 10


async def test_502_when_every_target_refuses() -> None:
    async with proxy_world() as world:
        world.route(refused_target("alloc-b"), refused_target("alloc-c"))
        answer = await world.ask(CLOSING_GET)
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert world.proxy.stats().upstream_errors == 2


def dying_second_time(first: bytes = OK) -> Handler:
    """Answers the first request of a connection, and hangs up on reading the second."""

    async def handler(peer: Peer) -> None:
        await peer.head()
        await peer.send(first)
        await peer.head()

    return handler


async def test_a_kept_connection_that_dies_silently_is_tried_again_for_a_get_only() -> None:
    async with proxy_world() as world:
        upstream = await world.serve_by(dying_second_time())
        client = await world.client()
        for _ in range(3):
            await client.send(GET)
            assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        assert len(upstream.connections) == 3
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        assert (await client.answer()).startswith(b"HTTP/1.1 502 ")
        assert upstream.received.count(b"POST") == 1


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_used() -> None:
    async with proxy_world() as world:
        upstream = await world.serve_by(saying(OK))
        client = await world.client()
        await client.send(GET)
        await client.answer()
        await trio.sleep(0.05)
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        assert len(upstream.connections) == 2


async def test_a_body_on_a_get_is_not_followed_by_another_request() -> None:
    """A workload that ignores it would take it for the next request."""
    async with proxy_world() as world:
        upstream = await world.serve_by()
        client = await world.client()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            await client.answer()
        assert len(upstream.connections) == 2


async def test_expect_continue_is_the_workloads_decision() -> None:
    async def handler(peer: Peer) -> None:
        head = await peer.head()
        if b"/refuse" in head:
            await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await peer.rest()
        else:
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await peer.exactly(5)
            await peer.send(OK)

    expecting = b"POST %b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    async with proxy_world() as world:
        await world.serve_by(handler)
        client = await world.client()
        await client.send(expecting % b"/take")
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        await client.send(expecting % b"/refuse")
        refusal = await client.rest()
        assert refusal.startswith(b"HTTP/1.1 413 ")
        assert b"Connection: close\r\n" in refusal


async def test_a_workload_that_does_not_know_expect_gets_the_body_after_a_moment() -> None:
    async with proxy_world(ProxyLimits(continue_timeout_s=0.05)) as world:
        upstream = await world.serve_by()
        client = await world.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert (await client.answer()).endswith(b"ok")
        assert upstream.received.endswith(b"hello")


async def test_early_hints_are_passed_on_but_not_to_1_0() -> None:
    async with proxy_world() as world:
        await world.serve_by(saying(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + OK))
        new = await world.ask(CLOSING_GET)
        assert new.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert b"103" not in await world.ask(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")


async def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    async def handler(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nstop")

    async with proxy_world() as world:
        await world.serve_by(handler)
        client = await world.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        assert (await client.answer()).endswith(b"stop")


async def test_a_request_and_its_answer_may_stream_at_the_same_time() -> None:
    async def echo(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while chunk := await peer.until(b"\r\n"):
            await peer.send(chunk)
            if chunk == b"0\r\n":
                await peer.send(await peer.until(b"\r\n"))
                return

    async with proxy_world() as world:
        await world.serve_by(echo)
        client = await world.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b"200 OK" in await client.head()
        for _ in range(3):
            await client.send(b"4\r\nping\r\n")
            assert await client.until(b"ping\r\n") == b"4\r\nping\r\n"
        await client.send(b"0\r\n\r\n")
        assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_a_client_that_ends_its_half_still_gets_the_answer() -> None:
    async def slow(peer: Peer) -> None:
        await peer.head()
        await trio.sleep(0.05)
        await peer.send(OK)

    async with proxy_world() as world:
        await world.serve_by(slow)
        client = await world.client()
        await client.send(GET)
        await client.stream.send_eof()
        assert (await client.rest()).endswith(b"ok")


async def test_a_client_that_leaves_inside_its_body_ends_the_upload_unfinished() -> None:
    async with proxy_world() as world:
        upstream = await world.serve_by()
        client = await world.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await until(lambda: b"hello" in upstream.received)
        client.reset()
        await until(lambda: world.proxy.stats().in_flight == 0)
        assert not upstream.received.endswith(b"0\r\n\r\n")
