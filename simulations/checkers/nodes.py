"""What judges of whole nodes are told."""

from collections.abc import Sequence

from consensus.scheduler.beliefs import Beliefs
from consensus.state.commands import Command
from node.proxy.routes import Target
from orca.model.ids import ServiceId
from simulations.judge import Checker
from simulations.nodes.cluster import Cluster
from simulations.nodes.engine import Container
from simulations.nodes.node import Computer, Session


class NodeChecker(Checker):
    """A judge of a cluster of nodes. `is_quiet`: nothing fails any more, and everything has come to rest once."""

    cluster: Cluster
    is_quiet = False

    def container(self, computer: Computer, word: str, container: Container) -> None:
        """A container of `computer` has `started`, was `stopped`, or `died`."""

    def planned(self, computer: Computer, command: Command, beliefs: Beliefs) -> None:
        """`computer` leads, and proposes what it planned from `beliefs`."""

    def requested(self, session: Session, service: ServiceId, target: Target | None, is_answered: bool) -> None:
        """A request came to `session`, which sent it to `target`."""


def connect(cluster: Cluster, checkers: Sequence[NodeChecker]) -> None:
    """Tell all of them what happens in `cluster`."""
    for checker in checkers:
        checker.cluster = cluster
        cluster.listeners.containers.append(checker.container)
        cluster.listeners.plans.append(checker.planned)
