"""Requests in the clear that a service wants in HTTPS: sent there where it has a certificate, and never in circles."""

import msgspec
import pytest

from orca.model.ids import SpecRevision
from tests.certificates import TestAuthority
from tests.node.proxy.proxy_world import proxy_world
from tests.node.proxy.tls_world import CLOSING_GET, GET, connect, show


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    return TestAuthority()


async def test_requests_in_the_clear_are_sent_to_https_where_a_service_wants_it(authority: TestAuthority) -> None:
    async with proxy_world() as world:
        show(world, authority, "a.example", "*.b.example")
        upstream = await world.upstream()
        world.route(upstream.target, to_https=True)
        client = await world.client()
        for host in (b"a.example", b"A.example:80", b"x.b.example"):
            await client.send(b"GET /p?q=1 HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
            answer = await client.answer()
            assert answer.startswith(b"HTTP/1.1 308 ")
            name = host.partition(b":")[0].lower().decode()
            assert f"\r\nLocation: https://{name}:{world.tls_port}/p?q=1\r\n".encode() in answer
        assert upstream.received == b""
        secure = await connect(world, authority.client_context())
        for _ in range(2):
            await secure.send(GET)
            assert (await secure.answer()).startswith(b"HTTP/1.1 200 ")


async def test_a_name_without_a_certificate_and_a_service_that_does_not_want_it_are_served_in_the_clear(
    authority: TestAuthority,
) -> None:
    async with proxy_world() as world:
        show(world, authority, "a.example")
        upstream = await world.upstream()
        world.route(upstream.target, to_https=True)
        for request in (CLOSING_GET.replace(b"a.example", b"c.example"), b"GET / HTTP/1.0\r\n\r\n"):
            assert (await world.ask(request)).startswith(b"HTTP/1.1 200 ")
        world.route(upstream.target)
        assert (await world.ask(CLOSING_GET)).startswith(b"HTTP/1.1 200 ")


async def test_behind_a_trusted_proxy_that_ends_tls_nothing_is_sent_around_in_circles(authority: TestAuthority) -> None:
    async with proxy_world(trusted_networks=("127.0.0.1",)) as world:
        show(world, authority, "a.example")
        upstream = await world.upstream()
        world.route(upstream.target, to_https=True)
        said = CLOSING_GET[:-2] + b"X-Forwarded-Proto: https\r\n\r\n"
        assert (await world.ask(said)).startswith(b"HTTP/1.1 200 ")
        assert (await world.ask(said.replace(b": https", b": http"))).startswith(b"HTTP/1.1 308 ")


async def test_requests_that_are_sent_to_https_take_no_revisions_turn(authority: TestAuthority) -> None:
    async with proxy_world() as world:
        show(world, authority, "a.example")
        one, two = await world.upstream(name="alloc-1"), await world.upstream(name="alloc-2")
        targets = (
            msgspec.structs.replace(one.target, revision=SpecRevision(1)),
            msgspec.structs.replace(two.target, revision=SpecRevision(2)),
        )
        world.route(*targets, weights={SpecRevision(1): 50, SpecRevision(2): 50}, to_https=True)
        secure = await connect(world, authority.client_context())
        for _ in range(20):
            await secure.send(GET)
            assert (await secure.answer()).startswith(b"HTTP/1.1 200 ")
            assert (await world.ask(CLOSING_GET)).startswith(b"HTTP/1.1 308 ")
        counts = [upstream.received.count(b"GET / ") for upstream in (one, two)]
        assert counts == [10, 10]
