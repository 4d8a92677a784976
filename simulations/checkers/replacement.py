"""No serving copy is told to stop before there is a healthy one in its place."""

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.reconcile import effective_order
from consensus.state.cluster import ClusterState, ServiceRecord
from consensus.state.commands import Command, CommitPlan
from orca.model.allocation import Allocation, DesiredStatus
from orca.model.ids import AllocationId, ServiceId
from orca.model.node import NodeAvailability
from orca.model.spec import UpdateOrder
from simulations.checkers.nodes import NodeChecker
from simulations.nodes.node import Computer


class Replacement(NodeChecker):
    """Looks at each plan with the eyes of the leader that made it: what serves before, and what is left.

    Of a service that wants `n` copies, at least as many as served or as `n` less `max_unavailable` go on serving,
    whichever is less; of the revision that a canary stands beside, all that served and stay on their nodes, or `n`.
    """

    name = "replacement"

    def planned(self, computer: Computer, command: Command, beliefs: Beliefs) -> None:
        """Look at what the plan stops, service by service."""
        if not isinstance(command, CommitPlan):
            return
        state = computer.replica.state
        touched: dict[ServiceId, list[AllocationId]] = {}
        for name in command.stops:
            touched.setdefault(state.allocations[name].service, []).append(name)
        for service, stops in touched.items():
            record = state.services.get(service)
            if record is not None:
                self._look(state, record, beliefs, frozenset(stops))

    def _look(
        self, state: ClusterState, record: ServiceRecord, beliefs: Beliefs, stops: frozenset[AllocationId]
    ) -> None:
        serving = [one for one in state.copies.of_service(record.id).values() if _serves(one, beliefs)]
        left = [one for one in serving if one.id not in stops]
        deploy = record.spec.deploy
        is_stop_first = effective_order(record.spec) is UpdateOrder.STOP_FIRST
        unavailable = max(1, deploy.max_unavailable) if is_stop_first else deploy.max_unavailable
        least = min(len(serving), record.replicas - unavailable)
        if len(left) < least:
            self.fail(
                f"of {record.id} {len(serving)} copies serve, {record.replicas} are wanted; the leader stops "
                f"{', '.join(sorted(stops))}, and only {len(left)} are left where {least} are the least"
            )
        base = record.base
        if record.is_staged and base is not None:
            of_base = [one for one in serving if one.template == base.template and not _leaves(one, state)]
            kept = [one for one in of_base if one.id not in stops]
            if len(kept) < min(len(of_base), record.replicas):
                self.fail(f"{record.id} has a revision beside what serves, and only {len(kept)} of that are left")


def _leaves(one: Allocation, state: ClusterState) -> bool:
    """Whether its node gives its work away."""
    node = state.nodes.get(one.node)
    return node is not None and node.availability is NodeAvailability.DRAINING


def _serves(one: Allocation, beliefs: Beliefs) -> bool:
    """Whether the leader may count on the copy: a silent node's is not known to serve."""
    status = beliefs.statuses.get(one.id)
    is_wanted = one.desired is DesiredStatus.RUNNING and status is not None and status.is_ready
    return is_wanted and one.node in beliefs.nodes
