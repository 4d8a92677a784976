"""What all connections of a proxy share: the table, what is in flight, the counters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Protocol, TypeAlias

import msgspec
import trio

from node.proxy.balancer import pick_target
from node.proxy.certificates import build_certificate_table
from node.proxy.drain import InFlight
from node.proxy.faults import RefusedRequestError
from node.proxy.heads import RequestHead
from node.proxy.latency import Latencies
from node.proxy.limits import ProxyLimits
from node.proxy.queue import RequestQueue
from node.proxy.routes import Route, RouteTable, Target, build_route_table, normalize_host
from node.proxy.shares import TurnCounter
from node.proxy.upstream import UpstreamPool
from orca.model.ids import AllocationId, ServiceId
from orca.sources import Clock, Rng

Network: TypeAlias = IPv4Network | IPv6Network
_CUT_OFF_GRACE_S = 5.0
HTTPS_PORT = 443
"""What needs not be written in a URL."""


class ProxyStats(msgspec.Struct, kw_only=True):
    """Counters since the start; `in_flight`, `waiting`, `connections` and `upstream_idle` are of this moment.

    `responses` counts final answers by status class, `responses[4]` the 4xx; index 1
    counts tunnels (101). `upstream_errors` counts tries that failed, `cut_off` requests
    ended by a drain, `broken` answers that broke off, `bugs` connections ended by an
    error that nobody expected, `waited` requests for which no copy was ready when they
    came. `evicted` idle connections closed to make room. `handshakes` are those of TLS that
    succeeded, `handshakes_failed` those that did not: too slow, no TLS, or a name without a certificate.
    """

    requests: int = 0
    responses: list[int] = msgspec.field(default_factory=lambda: [0] * 6)
    in_flight: int = 0
    waiting: int = 0
    waited: int = 0
    connections: int = 0
    connections_total: int = 0
    upstream_errors: int = 0
    upstream_idle: int = 0
    retries: int = 0
    cut_off: int = 0
    broken: int = 0
    evicted: int = 0
    handshakes: int = 0
    handshakes_failed: int = 0
    bugs: int = 0
    table_revision: int = 0


class Cancellable(Protocol):
    """Something that carries a request and can be told to stop."""

    def cancel(self) -> None:
        """Stop as soon as may be."""
        ...


class Traffic:
    """State of one proxy; everything here is synchronous but `drain`."""

    def __init__(self, clock: Clock, rng: Rng, limits: ProxyLimits, trusted: Sequence[Network]) -> None:
        self.clock = clock
        self.rng = rng
        self.limits = limits
        self.counters = ProxyStats()
        self.latencies = Latencies()
        self.pool = UpstreamPool(clock, limits)
        self.queue = RequestQueue()
        self.certificates = build_certificate_table(())
        self.https_port: int | None = None
        """Where TLS is served, None where it is not."""
        self._turns = TurnCounter()
        self._trusted = tuple(trusted)
        self._table = build_route_table(())
        self._routed: frozenset[AllocationId] = frozenset()
        self._table_changed = trio.Event()
        self._in_flight = InFlight()
        self._exchanges: dict[AllocationId, dict[int, Cancellable]] = {}
        self._emptied: dict[AllocationId, trio.Event] = {}

    def set_table(self, table: RouteTable) -> None:
        """Route by `table` from the next try on."""
        self._table = table
        self.pool.keep_only(table.targets())
        services = frozenset(route.service for route in table.routes())
        self._turns.keep_only(services)
        self.latencies.keep_only(services)
        self._routed = frozenset(target.allocation for target in table.targets())
        for gone in [one for one, exchanges in self._exchanges.items() if not exchanges and one not in self._routed]:
            del self._exchanges[gone]
        self._table_changed.set()
        self._table_changed = trio.Event()
        self.queue.table_changed()

    def is_trusted(self, peer: str) -> bool:
        """Whether `peer` may speak for the clients behind it."""
        if not self._trusted:
            return False
        address = ip_address(peer.partition("%")[0])
        return any(address in network for network in self._trusted)

    def find(self, host: str, path: str) -> tuple[Route, Target] | None:
        """Where to send a request for `host`, normalized, and `path`; None without a route or a ready target.

        Whoever does not send it there says so with `not_sent`.
        """
        route = self._table.find(host, path)
        target = None if route is None else self._pick(route)
        return None if route is None or target is None else (route, target)

    def secure_place(self, head: RequestHead) -> str | None:
        """The URL of `head` in HTTPS; None where its host has no certificate, or nothing serves TLS."""
        name = normalize_host(head.host)
        if self.https_port is None or not head.target.startswith("/") or self.certificates.find(name) is None:
            return None
        return f"https://{name}{'' if self.https_port == HTTPS_PORT else f':{self.https_port}'}{head.target}"

    def not_sent(self, route: Route) -> None:
        """What `find` gave last is not used: the request will ask again."""
        if route.turns:
            self._turns.give_back(route.service)

    def choose(self, head: RequestHead, tried: Sequence[AllocationId]) -> tuple[Route, Target | None]:
        """Where to send `head` now; no target when nobody is ready, or all were tried.

        Raises RefusedRequestError: 404 without a route.
        """
        route = self._table.match(head.host, head.path)
        if route is None:
            raise RefusedRequestError(404, may_keep_alive=not head.has_body)
        if tried:
            # Its revision had its turn; now anybody who answers will do.
            return route, pick_target(route.targets, self._in_flight.count, self.rng, tried)
        return route, self._pick(route)

    def _pick(self, route: Route) -> Target | None:
        targets = route.targets
        if route.turns:
            targets = route.of_revision[self._turns.next(route.service, route.turns)]
        return pick_target(targets, self._in_flight.count, self.rng)

    async def wait_for_copy(self, head: RequestHead, route: Route, deadline: float) -> bool:
        """Wait until the table has other targets for `head` than `route` had; False when none came in time."""
        self.counters.waited += not route.targets

        def is_over() -> bool:
            now = self._table.match(head.host, head.path)
            return now is None or bool(now.targets and now.targets != route.targets)

        return await self.queue.wait(route.service, is_over, deadline=deadline, count_max=route.queue_max)

    @contextmanager
    def serving(self, allocation: AllocationId) -> Iterator[trio.CancelScope]:
        """Count one request to `allocation`; the scope is cancelled when a drain cuts it off."""
        scope = trio.CancelScope()
        self.begin(allocation, scope)
        try:
            with scope:
                yield scope
        finally:
            self.end(allocation, scope)

    def begin(self, allocation: AllocationId, exchange: Cancellable) -> None:
        """Count one request to `allocation`; `exchange` is cancelled when a drain cuts it off."""
        self._in_flight.started(allocation)
        self._exchanges.setdefault(allocation, {})[id(exchange)] = exchange

    def end(self, allocation: AllocationId, exchange: Cancellable) -> None:
        """What `begin` began is over."""
        self._in_flight.ended(allocation)
        exchanges = self._exchanges[allocation]
        del exchanges[id(exchange)]
        if not exchanges and self._emptied:
            emptied = self._emptied.pop(allocation, None)
            if emptied is not None:
                emptied.set()

    def answered(self, service: ServiceId, status: int, seconds: float) -> None:
        """Count a final answer, whose head came so long after its request."""
        self.counters.responses[status // 100] += 1
        self.latencies.add(service, status, seconds)

    def failed(self, service: ServiceId) -> None:
        """Count an answer of the proxy's own, because `service` gave none."""
        if service:
            self.latencies.fail(service)

    async def wait_unrouted(self, allocation: AllocationId) -> None:
        """Return when the table has no target of `allocation`."""
        while allocation in self._routed:
            await self._table_changed.wait()

    async def drain(self, allocation: AllocationId, timeout_s: float) -> int:
        """Wait until nothing is in flight to `allocation`; after `timeout_s` cut the rest off.

        Gives how many were cut off. The caller has set a table without it before.
        """
        self._in_flight.begin(allocation, self.clock.now(), timeout_s)
        while not self._in_flight.is_over(allocation, self.clock.now()):
            with trio.move_on_after(max(0.0, self._in_flight.deadline(allocation) - self.clock.now())):
                await self._emptied.setdefault(allocation, trio.Event()).wait()
        cut_off = self._in_flight.finish(allocation)
        for exchange in list(self._exchanges.get(allocation, {}).values()):
            exchange.cancel()
        self.counters.cut_off += cut_off
        if cut_off:
            with trio.move_on_after(_CUT_OFF_GRACE_S):
                await self._emptied.setdefault(allocation, trio.Event()).wait()
        return cut_off

    def queues(self) -> dict[ServiceId, float]:
        """How much of each service's room for waiting requests is taken, where any is."""
        waiting = self.queue.counts()
        rooms = {one.service: one.queue_max for one in self._table.routes()} if waiting else {}
        return {service: count / rooms[service] for service, count in waiting.items() if rooms.get(service)}

    def stats(self) -> ProxyStats:
        """A copy of the counters with the present gauges."""
        counters = self.counters
        return msgspec.structs.replace(
            counters,
            responses=list(counters.responses),
            in_flight=self._in_flight.total(),
            waiting=self.queue.total(),
            upstream_idle=self.pool.idle_count(),
            table_revision=self._table.revision,
        )

    def fresh_request_id(self) -> bytes:
        """Sixteen hex digits."""
        return b"%08x%08x" % (int(self.rng.random() * 2**32), int(self.rng.random() * 2**32))

    def check_invariants(self) -> None:
        """Raises AssertionError when the counts and the exchanges disagree."""
        self._in_flight.check_invariants()
        for allocation, exchanges in self._exchanges.items():
            assert len(exchanges) == self._in_flight.count(allocation), f"{allocation}: exchanges and count differ"
