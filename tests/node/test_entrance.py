"""Which ports the ingress takes when others have those that were meant."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from node.entrance import Entrance, open_entrance
from orca.config import HTTPS_FALLBACK_PORT, HTTPS_PORT, NodeConfig, ProxySection
from orca.errors import AddressInUseError
from tests.ports import free_port


@contextmanager
def taken(*ports: int) -> Iterator[None]:
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        yield


def far_offset() -> int:
    """One with which neither 443 nor 8443 is anybody's."""
    return free_port() // 2 + 10_000


async def opened(config: NodeConfig) -> Entrance:
    entrance = await open_entrance(config)
    for listener in (*entrance.listeners, *entrance.tls_listeners):
        listener.socket.close()
    return entrance


async def test_both_ports_are_opened_and_described() -> None:
    entrance = await opened(NodeConfig(http_host="127.0.0.1", http_port=0, https_port=0))
    assert [(one.scheme, one.note) for one in entrance.views] == [("http", ""), ("https", "")]
    assert all(one.port for one in entrance.views)
    assert (len(entrance.listeners), len(entrance.tls_listeners)) == (1, 1)


async def test_https_falls_back_and_says_so_and_without_either_port_there_is_none() -> None:
    offset = far_offset()
    config = NodeConfig(http_host="127.0.0.1", http_port=0, port_offset=offset)
    wanted, fallback = HTTPS_PORT + offset, HTTPS_FALLBACK_PORT + offset
    with taken(wanted):
        view = (await opened(config)).views[1]
        assert (view.scheme, view.port) == ("https", fallback)
        assert view.note == f"port {wanted} could not be had, {fallback} was taken instead"
    with taken(wanted, fallback):
        entrance = await opened(config)
        assert [one.scheme for one in entrance.views] == ["http"]
        assert entrance.tls_listeners == []
        assert entrance.views[0].note.startswith("there is no HTTPS: ")
        assert f"port {wanted}" in entrance.views[0].note


async def test_a_port_that_somebody_chose_is_had_or_the_node_does_not_start() -> None:
    chosen = free_port()
    with taken(chosen), pytest.raises(AddressInUseError, match=f"port {chosen}"):
        await open_entrance(NodeConfig(http_host="127.0.0.1", http_port=0, https_port=chosen))


async def test_tls_may_be_off() -> None:
    off = NodeConfig(http_host="127.0.0.1", http_port=0, https_port=0, proxy=ProxySection(tls=False))
    entrance = await opened(off)
    assert [one.scheme for one in entrance.views] == ["http"]
    assert entrance.tls_listeners == []
