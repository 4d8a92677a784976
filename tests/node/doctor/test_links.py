"""Pings of the doctor against a living member: answered, refused, unheard, and sealed with another key."""

import socket
from collections.abc import Awaitable, Callable

import pytest

from gossip.codec import Keyring, PacketCodec
from gossip.messages import Address
from node.doctor.links import ping_tcp, ping_udp
from tests.gossip.live.member import live_member

Ping = Callable[[str, Address, PacketCodec], Awaitable[tuple[float | None, str]]]
KEY, OTHER = bytes(range(32)), bytes(32)
PINGS = pytest.mark.parametrize("ping", [ping_udp, ping_tcp])
pytestmark = pytest.mark.integration


def codec(key: bytes) -> PacketCodec:
    return PacketCodec(Keyring([key], lambda: bytes(12)))


@PINGS
async def test_a_living_member_answers_and_how_long_it_took_is_told(ping: Ping) -> None:
    async with live_member("n-1", keys=[KEY]) as member:
        rtt_ms, problem = await ping("n-1", member.address, codec(KEY))
    assert rtt_ms is not None
    assert 0 < rtt_ms < 2_000
    assert not problem


async def test_who_has_another_key_or_another_name_is_no_answer_by_udp() -> None:
    async with live_member("n-1", keys=[KEY]) as member:
        assert (await ping_udp("n-1", member.address, codec(OTHER)))[0] is None
        assert (await ping_udp("n-2", member.address, codec(KEY)))[0] is None


async def test_another_key_is_guessed_where_the_stream_ends_without_an_answer() -> None:
    async with live_member("n-1", keys=[KEY]) as member:
        assert (await ping_udp("n-1", member.address, codec(KEY)))[0] is not None
        rtt_ms, problem = await ping_tcp("n-1", member.address, codec(OTHER))
    assert rtt_ms is None
    assert "another gossip key" in problem


@PINGS
async def test_a_port_where_nobody_listens_is_told_in_the_words_of_the_system(ping: Ping) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", closed.getsockname()[1])
        rtt_ms, problem = await ping("n-1", address, codec(KEY))
    assert rtt_ms is None
    assert "refused" in problem
