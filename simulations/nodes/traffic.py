"""Requests from outside, to any node that is up, for any service."""

from collections.abc import Callable

from node.proxy.routes import Target
from orca.model.ids import ServiceId
from simulations.nodes.cluster import Cluster
from simulations.nodes.node import Session
from simulations.nodes.operator import domain_of
from simulations.world import World

LASTS_S = 0.1
"""Mean seconds of a request; none lasts longer than three times that."""


class Traffic:
    """Asks `per_s` times a second. `hear(session, service, target, is_answered)` is told of each request."""

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        services: list[ServiceId],
        per_s: float,
        hear: Callable[[Session, ServiceId, Target | None, bool], None],
    ) -> None:
        self.asked = 0
        self.answered = 0
        self._world = world
        self._cluster = cluster
        self._services = services
        self._per_s = per_s
        self._hear = hear
        self._chance = world.chance("traffic")

    def start(self) -> None:
        """Begin."""
        self._world.after(self._chance.pause_s(1 / self._per_s), self._ask)

    def _ask(self) -> None:
        sessions = [one for one in self._cluster.sessions if one.is_live and not one.life.is_paused]
        if sessions:
            session, service = self._chance.pick(sessions), self._chance.pick(self._services)
            if service in session.replica.state.services:
                self._send(session, service)
        self._world.after(self._chance.pause_s(1 / self._per_s), self._ask)

    def _send(self, session: Session, service: ServiceId) -> None:
        """Choose a target as the proxy does, and see whether it answers."""
        session.ingress.choose(service, domain_of(service), lambda target: self._sent(session, service, target))

    def _sent(self, session: Session, service: ServiceId, target: Target | None) -> None:
        is_answered = target is not None and self._is_reached(session, target)
        self.asked += 1
        self.answered += is_answered
        self._hear(session, service, target, is_answered)
        if target is not None and is_answered:
            session.ingress.request(target, min(self._chance.pause_s(LASTS_S), 3 * LASTS_S))

    def _is_reached(self, session: Session, target: Target) -> bool:
        to = session.node if target.node is None else target.node
        network = self._cluster.network
        if to != session.node and (network.is_cut(session.node, to) or network.is_cut(to, session.node)):
            return False
        computer = self._cluster.computers[to]
        return (to == session.node or computer.is_up) and computer.engine.answers(target.allocation)
