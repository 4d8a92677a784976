"""Proxies send requests only where they are answered, and never to a copy that they said goodbye to."""

from node.proxy.routes import Target
from orca.model.ids import ServiceId
from simulations.checkers.nodes import NodeChecker
from simulations.nodes.engine import Container
from simulations.nodes.node import Computer, Session


class Routes(NodeChecker):
    """While things fail a request may fail, too; when all is quiet none does, whatever is deployed or drained."""

    name = "routes"

    def requested(self, session: Session, service: ServiceId, target: Target | None, is_answered: bool) -> None:
        """Look at where it went."""
        if target is not None and target.allocation in session.ingress.acknowledged:
            self.fail(f"{session.node} sends a request to {target.allocation}, which it said goodbye to")
        if self.is_quiet and not is_answered:
            where = "nowhere" if target is None else f"to {target.allocation} on {target.node or session.node}"
            self.fail(f"a request for {service} came to {session.node} and went {where}: nobody answered")

    def container(self, computer: Computer, word: str, container: Container) -> None:
        """When all is quiet nobody has a request on its way to what stops."""
        if word != "stopped" or not self.is_quiet:
            return
        busy = [one.node for one in self.cluster.sessions if one.ingress.in_flight.count(container.allocation)]
        if busy:
            self.fail(f"{container.allocation} on {computer.node} stops while {', '.join(busy)} waits for its answer")
