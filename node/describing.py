"""How a node describes itself: to its peers, and to whoever started it."""

import os
import platform
import sys
from ipaddress import ip_address

import psutil
import structlog

from node.store.identity import Identity
from orca.config import NodeConfig
from orca.model.node import NodeFacts
from orca.model.units import Bytes, MilliCpu
from orca.model.view import NodeView
from orca.version import VERSION

_log = structlog.get_logger("orca.node")


def own_facts(identity: Identity, config: NodeConfig) -> NodeFacts:
    """What others must know of a node with `identity` on this computer."""
    return NodeFacts(
        id=identity.node,
        name=identity.name,
        version=VERSION,
        architecture=platform.machine(),
        cpu_milli=MilliCpu((os.cpu_count() or 1) * 1000),
        memory_bytes=Bytes(psutil.virtual_memory().total),
        labels=config.labels,
    )


def api_url(host: str, port: int, advertise: str, *, is_tls: bool) -> str:
    """Where the API is that listens at `host` and `port`; one that listens everywhere is at the address `advertise`."""
    shown = advertise if ip_address(host).is_unspecified and advertise else host
    return f"{'https' if is_tls else 'http'}://{bracketed(shown)}:{port}"


def bracketed(host: str) -> str:
    """`host` as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def announce(view: NodeView, mesh: str) -> None:
    """One line a door, so that whoever started the node knows where to knock."""
    ingress = ", ".join(f"{one.scheme}://{bracketed(one.host)}:{one.port}" for one in view.ingress)
    _log.info("node is up", name=view.facts.name, id=view.facts.id, api=view.api, ingress=ingress, data=view.data_dir)
    _log.info("more nodes join with a token: `orca token create` here, then `orca join` there", mesh=mesh)
    for one in view.ingress:
        if one.note:
            _log.warning("ingress is elsewhere than asked", note=one.note)
    sys.stderr.flush()
