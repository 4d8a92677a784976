"""What the proxy of a node does, without bytes: routes, requests in flight, and the farewells before a copy stops."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from node.believed import Believed
from node.ingress import routed_service
from node.mesh.purpose import Purpose
from node.proxy.balancer import pick_target
from node.proxy.drain import InFlight
from node.proxy.letting_go import DRAINED, UNROUTED, UNROUTED_S, Farewell, decode_farewell, encode_farewell
from node.proxy.routes import Route, RouteTable, Target, build_route_table
from node.proxy.shares import TurnCounter
from orca.model.ids import AllocationId, LogIndex, NodeId, ServiceId
from orca.model.units import Instant
from simulations.nodes.life import Life
from simulations.nodes.replica import ReplicaShell
from simulations.nodes.wires import Wire, Wires
from simulations.world import Chance, Timer

LOOK_S: Final = 0.02
"""A request that waits for a copy looks again so often; the proxy's wakes with each new table."""


class _Waiting(msgspec.Struct):
    """Who waits for a copy to be without routes, and what was last looked at."""

    then: list[Callable[[], None]]
    seen: tuple[object, ...] = ()
    after: LogIndex = LogIndex(0)


class Ingress:
    """The proxy of one life of a node. A table is made when it is looked at, of what is known then.

    `others` gives the living nodes. `acknowledged` are the copies of which this node said that it sends nothing there.
    """

    def __init__(
        self,
        node: NodeId,
        life: Life,
        wires: Wires,
        beliefs: Believed,
        replica: ReplicaShell,
        chance: Chance,
        others: Callable[[], Iterable[NodeId]],
    ) -> None:
        self.in_flight = InFlight()
        self.acknowledged: dict[AllocationId, None] = {}
        self._node = node
        self._life = life
        self._wires = wires
        self._beliefs = beliefs
        self._chance = chance
        self._replica = replica
        self._others = others
        self._turns = TurnCounter()
        self._unrouted: dict[AllocationId, _Waiting] = {}
        self._drains: dict[AllocationId, list[Callable[[], None]]] = {}

    # ------------------------------------------------------------------------ routes

    def table(self, service: ServiceId) -> RouteTable:
        """The routes of one service."""
        state, beliefs = self._replica.state, self._beliefs
        record = state.services.get(service)
        if record is None or not record.spec.routes:
            return build_route_table(())
        return build_route_table((routed_service(state, record, beliefs.statuses, self._node, beliefs.nodes),))

    def choose(self, service: ServiceId, domain: str, then: Callable[[Target | None], None]) -> None:
        """Tell `then` where the next request for `domain` goes; None when nobody is there, for as long as one waits."""
        route = self.table(service).find(domain, "/")
        self._choose(service, domain, self._life.world.now + (0.0 if route is None else route.queue_timeout_s), then)

    def _choose(self, service: ServiceId, domain: str, until: float, then: Callable[[Target | None], None]) -> None:
        route = self.table(service).find(domain, "/")
        target = None if route is None else self._pick(route)
        if target is None and self._life.world.now < until:
            self._life.after(LOOK_S, lambda: self._choose(service, domain, until, then))
        else:
            then(target)

    def _pick(self, route: Route) -> Target | None:
        targets = route.targets
        if route.turns:
            targets = route.of_revision[self._turns.next(route.service, route.turns)]
        return pick_target(targets, self.in_flight.count, self._chance)

    def request(self, target: Target, lasts_s: float) -> None:
        """One is on its way to `target` for so long."""
        self.in_flight.started(target.allocation)
        self._life.after(lasts_s, lambda: self._ended(target.allocation))

    def _ended(self, allocation: AllocationId) -> None:
        self.in_flight.ended(allocation)
        if not self.in_flight.count(allocation):
            for then in self._drains.pop(allocation, ()):
                then()

    def routes_to(self, allocation: AllocationId) -> bool:
        """Whether some route leads to the copy."""
        placed = self._replica.state.allocations.get(allocation)
        if placed is None:
            return False
        return any(target.allocation == allocation for target in self.table(placed.service).targets())

    def look_again(self) -> None:
        """What is known is different: whoever waits for a copy to be without routes may go on."""
        for allocation in [one for one, seen in self._unrouted.items() if self._is_unrouted(one, seen)]:
            for then in self._unrouted.pop(allocation).then:
                then()

    def _is_unrouted(self, allocation: AllocationId, waiting: "_Waiting") -> bool:
        """Looked at only when something is different that decides it."""
        state, placed = self._replica.state, self._replica.state.allocations.get(allocation)
        if self._replica.applied < waiting.after:
            return False
        if placed is None:
            return True
        service = placed.service
        versions = self._beliefs.view().status_versions or {}
        seen = (
            state.copies.version_of(service),
            versions.get(service, 0),
            state.services.get(service),
            tuple(self._beliefs.nodes),
        )
        if seen == waiting.seen:
            return False
        waiting.seen = seen
        return not self.routes_to(allocation)

    # ------------------------------------------------------------------------ before a copy stops

    def drain(self, allocation: AllocationId, timeout_s: float, then: Callable[[], None]) -> None:
        """Call `then` when no node has a request on its way to the copy any more, or time is over."""
        waits = {None, *self._others()}

        def done(node: NodeId | None) -> None:
            if node in waits:
                waits.discard(node)
                if not waits:
                    then()

        self._drain_here(allocation, timeout_s, lambda: done(None))
        for node in sorted(one for one in waits if one is not None):
            farewell = Farewell(allocation=allocation, timeout_s=timeout_s, after=self._replica.applied)
            _Asking(self._life, self._wires, self._node, node, farewell, done)

    def _drain_here(self, allocation: AllocationId, timeout_s: float, then: Callable[[], None]) -> None:
        """Wait for the requests of this node."""
        now = Instant(self._life.world.now)
        is_told = False

        def end() -> None:
            nonlocal is_told
            if not is_told:
                is_told = True
                self.in_flight.finish(allocation)
                then()

        self.in_flight.begin(allocation, now, timeout_s)
        if self.in_flight.is_over(allocation, now):
            self._life.after(0.0, end)
            return
        self._drains.setdefault(allocation, []).append(end)
        self._life.after(timeout_s, end)

    def _must_wait(self, farewell: Farewell) -> bool:
        """Whether this node does not know of the stop yet, or routes to the copy."""
        return self._replica.applied < farewell.after or self.routes_to(farewell.allocation)

    def serve(self, wire: Wire, peer: NodeId, payload: bytes) -> None:
        """A peer asks this node to let go of a copy."""
        farewell = decode_farewell(peer, payload)
        is_late = False

        def late() -> None:
            nonlocal is_late
            is_late = True

        def unrouted() -> None:
            if not is_late and wire.is_open:
                self.acknowledged[farewell.allocation] = None
                wire.send(self._node, UNROUTED)
                self._drain_here(farewell.allocation, farewell.allowed_s, lambda: wire.send(self._node, DRAINED))

        if self._must_wait(farewell):
            self._life.after(UNROUTED_S, late)
            waiting = self._unrouted.setdefault(farewell.allocation, _Waiting(then=[]))
            waiting.then.append(unrouted)
            waiting.after = max(waiting.after, farewell.after)
        else:
            unrouted()


class _Asking:
    """One other node is asked to let go; `done` is called once, when it has or when it had its time."""

    def __init__(
        self,
        life: Life,
        wires: Wires,
        own: NodeId,
        node: NodeId,
        farewell: Farewell,
        done: Callable[[NodeId], None],
    ) -> None:
        self._life = life
        self._node = node
        self._farewell = farewell
        self._done = done
        self._wire = wires.open(own, node, Purpose.FAREWELL)
        self._wire.on_payload[own] = lambda payload: life.do(lambda: self._hear(payload))
        self._wire.on_broken[own] = lambda: life.do(self._end)
        self._wire.send(own, encode_farewell(farewell))
        self._began = life.world.now
        self._timer: Timer = life.after(UNROUTED_S, self._end)

    def _hear(self, payload: bytes) -> None:
        if payload == DRAINED:
            self._end()
            return
        self._timer.cancel()
        left_s = self._began + UNROUTED_S + self._farewell.more_s - self._life.world.now
        self._timer = self._life.after(left_s, self._end)

    def _end(self) -> None:
        self._timer.cancel()
        self._wire.close()
        self._done(self._node)
