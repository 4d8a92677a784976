"""Which names are to have a certificate: pure."""

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

import msgspec

from consensus.state.cluster import ClusterState
from consensus.state.records import NodeRecord
from node.proxy.certificates import Chain
from node.proxy.routes import normalize_host
from node.trust.leaves import can_be_certified
from node.trust.renewal import Lifetime
from orca.model.units import WallMs

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """A chain of this node, how long it is good, and when the next one is due."""

    chain: Chain
    life: Lifetime
    renew_at_ms: WallMs


def served_domains(state: ClusterState) -> Iterator[str]:
    """Every domain that a service names and that may stand in a certificate, once, as the proxy knows it."""
    domains = {
        _certifiable(route.domain): None
        for record in state.services.values()
        for route in record.spec.routes
        if route.domain is not None
    }
    return (domain for domain in domains if domain is not None)


@lru_cache(maxsize=65_536)
def _certifiable(domain: str) -> str | None:
    """`domain` as the proxy knows it, None when it cannot stand in a certificate."""
    name = normalize_host(domain)
    return name if can_be_certified(name) else None


def own_names(record: NodeRecord | None) -> tuple[str, ...]:
    """What a node may be called by itself: this computer, its name unless that has dots, its address in a private net.

    Anybody may name a node, so a name of the Internet is none of these.
    """
    if record is None:
        return LOOPBACK
    host = record.addresses.mesh.rpartition(":")[0].strip("[]")
    found = [*LOOPBACK, record.name.lower()] if "." not in record.name else [*LOOPBACK]
    if _is_private(host):
        found.append(host)
    return tuple(dict.fromkeys(name for name in found if can_be_certified(name)))


def _is_private(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return not (address.is_global or address.is_unspecified or address.is_multicast)
