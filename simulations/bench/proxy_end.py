"""One process of the proxy bench: our proxy in front of one upstream.

`python -m simulations.bench.proxy_end PORT [ROUTES] [CHAIN]`, where CHAIN is a file with a key and its certificate.
"""

import random
import sys
import time
from pathlib import Path
from typing import Final

import trio

from node.proxy.certificates import Chain, build_certificate_table
from node.proxy.routes import RoutedService, Target, build_route_table
from node.proxy.server import ProxyServer, open_listeners
from orca.model.ids import AllocationId, ServiceId
from orca.model.spec import RouteSpec
from orca.model.units import Instant, WallMs

HOST: Final = "127.0.0.1"
DOMAIN: Final = "web.example"


class _Clock:
    """The computer's."""

    def now(self) -> Instant:
        return Instant(time.monotonic())

    def wall(self) -> WallMs:
        return WallMs(int(time.time() * 1000))


def _services(port: int, routes: int) -> list[RoutedService]:
    """The one that is asked for, and as many others as make `routes` in all."""
    target = Target(allocation=AllocationId("web"), port=80, host=HOST, host_port=port)
    made = [RoutedService(service=ServiceId("default/web"), routes=(RouteSpec(),), main_port=80, targets=(target,))]
    for number in range(routes - 1):
        other = RouteSpec(domain=f"site-{number}.example", path=f"/path-{number}")
        name = ServiceId(f"default/other-{number}")
        made.append(RoutedService(service=name, routes=(other,), main_port=80, targets=(target,)))
    return made


async def _serve(upstream_port: int, routes: int, chain: bytes) -> None:
    proxy = ProxyServer(_Clock(), random.Random(1))
    listeners, port = await open_listeners(HOST, 0)
    tls_listeners, tls_port = await open_listeners(HOST, 0)
    proxy.set_table(build_route_table(_services(upstream_port, routes), 1))
    shown = Chain(names=(DOMAIN, HOST), pem=chain)
    proxy.set_certificates(build_certificate_table([shown], shown))
    print(port, tls_port, flush=True)
    await proxy.serve(listeners, tls_listeners)


def main() -> None:
    """Serve until killed; prints the ports first, in the clear and for TLS."""
    routes = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    chain = Path(sys.argv[3]).read_bytes() if len(sys.argv) > 3 else b""
    trio.run(_serve, int(sys.argv[1]), routes, chain)


if __name__ == "__main__":
    main()
