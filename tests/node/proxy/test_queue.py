"""Requests for a service that has no ready copy at the moment wait for one, within bounds."""

import pytest
import trio
import trio.testing

from tests.node.proxy.proxy_world import proxy_world, until
from tests.node.proxy.test_server import CLOSING_GET, refused_target

pytestmark = pytest.mark.integration


async def test_a_request_waits_for_the_first_copy_that_becomes_ready() -> None:
    async with proxy_world() as world:
        upstream = await world.upstream()
        world.route(queue_timeout_s=20.0)
        client = await world.client()
        await client.send(CLOSING_GET)
        await until(lambda: world.proxy.stats().waiting == 1)
        world.route(queue_timeout_s=20.0)
        world.route(upstream.target, queue_timeout_s=20.0)
        assert (await client.rest()).endswith(b"ok")
        stats = world.proxy.stats()
        assert (stats.waiting, stats.waited, stats.responses[2]) == (0, 1, 1)


async def test_the_body_of_a_waiting_request_arrives_whole() -> None:
    async with proxy_world() as world:
        upstream = await world.upstream()
        world.route(queue_timeout_s=20.0)
        client = await world.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 6\r\n\r\nabc")
        await until(lambda: world.proxy.stats().waiting == 1)
        world.route(upstream.target, queue_timeout_s=20.0)
        await client.send(b"def")
        assert (await client.rest()).endswith(b"ok")
        assert upstream.received.endswith(b"\r\n\r\nabcdef")


async def test_nobody_waits_longer_than_the_service_allows() -> None:
    async with proxy_world() as world:
        world.route(queue_timeout_s=0.05)
        answer = await world.ask(CLOSING_GET)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert world.proxy.stats().waiting == 0
        assert [(one.failed, sum(one.answers)) for one in world.proxy.services().values()] == [(1, 0)]


async def test_more_than_may_wait_are_refused_at_once() -> None:
    async with proxy_world() as world:
        upstream = await world.upstream()
        world.route(queue_timeout_s=20.0, queue_max=1)
        first = await world.client()
        await first.send(CLOSING_GET)
        await until(lambda: world.proxy.stats().waiting == 1)
        assert list(world.proxy.queues().values()) == [1.0], "all of its room is taken"
        assert (await world.ask(CLOSING_GET)).startswith(b"HTTP/1.1 503 ")
        world.route(upstream.target, queue_timeout_s=20.0, queue_max=1)
        assert (await first.rest()).endswith(b"ok")


async def test_a_route_that_is_removed_meanwhile_ends_the_wait() -> None:
    async with proxy_world() as world:
        world.route(queue_timeout_s=20.0)
        client = await world.client()
        await client.send(CLOSING_GET)
        await until(lambda: world.proxy.stats().waiting == 1)
        world.route(routes=())
        assert (await client.rest()).startswith(b"HTTP/1.1 404 ")


async def test_a_client_that_leaves_gives_its_place_free() -> None:
    async with proxy_world() as world:
        world.route(queue_timeout_s=20.0)
        client = await world.client()
        await client.send(CLOSING_GET)
        await until(lambda: world.proxy.stats().waiting == 1)
        client.reset()
        await until(lambda: world.proxy.stats().waiting == 0)


async def test_a_request_whose_only_copy_has_just_died_waits_for_the_next_one() -> None:
    async with proxy_world() as world:
        upstream = await world.upstream()
        world.route(refused_target(), queue_timeout_s=20.0)
        client = await world.client()
        await client.send(CLOSING_GET)
        await until(lambda: world.proxy.stats().waiting == 1)
        world.route(queue_timeout_s=20.0)
        await trio.testing.wait_all_tasks_blocked()
        world.route(upstream.target, queue_timeout_s=20.0)
        assert (await client.rest()).endswith(b"ok")


async def test_copies_that_go_on_refusing_give_502_long_before_the_queue_is_over() -> None:
    async with proxy_world() as world:
        world.route(refused_target(), queue_timeout_s=20.0)
        with trio.fail_after(5):
            assert (await world.ask(CLOSING_GET)).startswith(b"HTTP/1.1 502 ")
