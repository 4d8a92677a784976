"""Where this node listens, and what others are told."""

import socket
from ipaddress import ip_address

import msgspec
import psutil

from orca.config import NodeConfig


def with_addresses(config: NodeConfig, *, reached_by: str = "") -> NodeConfig:
    """`config` with a host to listen on, and an address for others, for gossip and mesh.

    `reached_by`: the address of this computer by which it reached a peer, when it has. Without anything the
    address is that of the default route, else the first that is not loopback, else 127.0.0.1.
    """
    host = config.gossip.host or config.listen
    advertise = config.gossip.advertise or config.advertise
    if not advertise:
        advertise = reached_by or outgoing_address() if ip_address(host).is_unspecified else host
    gossip = msgspec.structs.replace(config.gossip, host=host, advertise=advertise)
    return msgspec.structs.replace(config, gossip=gossip)


def outgoing_address() -> str:
    """The address of this computer by which others most likely reach it."""
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))  # sends nothing: the kernel only looks for the way
                return str(probe.getsockname()[0])
        except OSError:
            continue
    for found in psutil.net_if_addrs().values():
        for one in found:
            if one.family is socket.AF_INET and not ip_address(one.address).is_loopback:
                return one.address
    return "127.0.0.1"


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(text: str, default_port: int = 0) -> tuple[str, int] | None:
    """The parts of `host:port`, of `[v6]:port` or of a host alone; None for what is neither."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if rest else str(default_port)
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, str(default_port)
    if not host or not port.isdecimal() or int(port) > 65535:
        return None
    return host, int(port)
