"""The ports of the ingress: which are opened, and what is said when they are others than asked for."""

from typing import Final, NamedTuple

import trio

from node.proxy.server import open_listeners
from orca.config import HTTP_FALLBACK_PORT, HTTP_PORT, HTTPS_FALLBACK_PORT, HTTPS_PORT, NodeConfig
from orca.errors import AddressInUseError
from orca.model.view import IngressView

_NO_TLS: Final = "there is no HTTPS"


class Entrance(NamedTuple):
    """Listening sockets, in the clear and for TLS, and how the node describes them."""

    listeners: list[trio.SocketListener]
    tls_listeners: list[trio.SocketListener]
    views: tuple[IngressView, ...]


async def open_entrance(config: NodeConfig) -> Entrance:
    """Open the ports of `config`, or those that stand in for 80 and 443 where these cannot be had.

    Raises AddressInUseError, but not where HTTPS cannot have the ports that nobody chose: then there is none, and
    the description says why.
    """
    listeners, view = await _open(config, "http", config.http_port, HTTP_PORT, HTTP_FALLBACK_PORT + config.port_offset)
    if not config.proxy.tls:
        return Entrance(listeners, [], (view,))
    try:
        tls_listeners, tls_view = await _open(
            config, "https", config.https_port, HTTPS_PORT, HTTPS_FALLBACK_PORT + config.port_offset
        )
    except AddressInUseError as error:
        if config.https_port != HTTPS_PORT:
            for listener in listeners:
                listener.socket.close()
            raise
        return Entrance(listeners, [], (IngressView(host=view.host, port=view.port, note=_joined(view.note, error)),))
    return Entrance(listeners, tls_listeners, (view, tls_view))


def _joined(note: str, error: AddressInUseError) -> str:
    return "; ".join(filter(None, (note, f"{_NO_TLS}: {error.message}")))


async def _open(
    config: NodeConfig, scheme: str, chosen: int, default: int, fallback: int
) -> tuple[list[trio.SocketListener], IngressView]:
    wanted = chosen and chosen + config.port_offset
    listeners, port = await open_listeners(config.http_host, wanted, fallback if chosen == default else None)
    note = "" if port == wanted or not wanted else f"port {wanted} could not be had, {port} was taken instead"
    return listeners, IngressView(host=config.http_host, port=port, note=note, scheme=scheme)
