"""When everything is healed the cluster becomes what it was asked to be, and every node knows it.

Desired count: of each service as many copies answer as are wanted, all of the present revision. Uniqueness: no slot
twice, and nothing runs that nobody asked for. Convergence: all of that within a bound, in the same state everywhere.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from consensus.state.cluster import ServiceRecord
from consensus.state.snapshot import encode_snapshot
from orca.model.allocation import Allocation, DesiredStatus
from orca.model.ids import AllocationId
from orca.model.spec import ContainerImage
from orca.model.view import RolloutState
from simulations.checkers.nodes import NodeChecker
from simulations.nodes.cluster import Cluster
from simulations.nodes.engine import Image
from simulations.nodes.node import Computer

SETTLED_WITHIN_S: Final = 120.0
"""After the last fault or change: rollouts of four copies one by one, after what a leader waits for silent nodes."""
LOOK_S: Final = 0.5
LOOKED_AT: Final = 12
"""So many nodes at least are asked for their routes and their states."""
T = TypeVar("T")


def is_sound(record: ServiceRecord) -> bool:
    """Whether it can come to rest by itself: its image works, and nothing waits for a person."""
    source = record.spec.source
    works = isinstance(source, ContainerImage) and source.image.startswith(Image.GOOD.value)
    is_waiting = record.is_staged or record.rollout.is_paused or record.rollout.state is RolloutState.FAILED
    return works and not is_waiting


class Settled(NodeChecker):
    """Asked by the scenario."""

    name = "settled"

    def demand(self, what: str, run: Callable[[float], bool], within_s: float = SETTLED_WITHIN_S) -> bool:
        """Let time go by until all is as it should be; `run` says whether to go on."""
        began = self.cluster.world.now
        while found := unsettled(self.cluster):
            if self.cluster.world.now - began >= within_s:
                self.fail(f"{within_s:g} s after {what}: {found}")
                return False
            if not run(LOOK_S):
                return False
        return True


def unsettled(cluster: Cluster) -> str:
    """What keeps the cluster from being at rest; empty when nothing does."""
    leader = cluster.leader
    if leader is None:
        return "nobody leads"
    looks = (_behind, _unwanted, _missing, _unrouted, _differs)
    return next((found for look in looks if (found := look(cluster, leader))), "")


def _behind(cluster: Cluster, leader: Computer) -> str:
    """Who does not know all that is decided."""
    for computer in cluster.computers.values():
        if not computer.is_up:
            return f"{computer.node} is down"
        if computer.replica.applied != leader.replica.applied:
            return f"{computer.node} has applied {computer.replica.applied}, the leader {leader.replica.applied}"
    return ""


def _differs(cluster: Cluster, leader: Computer) -> str:
    """Whose state is another, though all have applied the same; looked at last, for it takes long."""
    state = encode_snapshot(leader.replica.state)
    for computer in _some(list(cluster.computers.values())):
        if encode_snapshot(computer.replica.state) != state:
            return f"{computer.node} and {leader.node} have applied the same and have other states"
    return ""


def _unwanted(cluster: Cluster, leader: Computer) -> str:
    """What runs and should not."""
    state = leader.replica.state
    slots: dict[tuple[str, int], AllocationId] = {}
    for computer in cluster.computers.values():
        for name, container in computer.engine.containers.items():
            one = state.allocations.get(name)
            if not container.is_running:
                continue
            if one is None or one.node != computer.node or one.desired is not DesiredStatus.RUNNING:
                return f"{name} runs on {computer.node}, and nobody wants it there"
            record = state.services.get(one.service)
            is_current = record is not None and record.current.template == one.template
            other = slots.setdefault((one.service, one.slot), name) if is_current else name
            if other != name:
                return f"{name} and {other} both run as slot {one.slot} of {one.service}"
    return ""


def _missing(cluster: Cluster, leader: Computer) -> str:
    """Of which service not all copies answer."""
    state = leader.replica.state
    for service, record in state.services.items():
        copies = [one for one in state.copies.of_service(service).values() if one.desired is DesiredStatus.RUNNING]
        if not is_sound(record):
            continue
        if record.rollout.state is not RolloutState.COMPLETED:
            return f"the rollout of {service} is {record.rollout.state.value} ({record.rollout.message})"
        current = [one for one in copies if one.template == record.current.template and _answers(cluster, one)]
        if len(copies) != record.replicas or len(current) != record.replicas:
            why = leader.replica.replica.blocked.get(service, "")
            return f"{service} wants {record.replicas} copies, has {len(copies)}, {len(current)} answer {why}"
    return ""


def _some(nodes: Sequence[T]) -> Sequence[T]:
    """All of a few; of many every so many-th, for looking at each takes seconds."""
    return nodes[:: max(1, len(nodes) // LOOKED_AT)]


def _answers(cluster: Cluster, one: Allocation) -> bool:
    return cluster.computers[one.node].engine.answers(one.id)


def _unrouted(cluster: Cluster, leader: Computer) -> str:
    """Which node does not route to exactly the copies that answer."""
    state = leader.replica.state
    for session in _some(cluster.sessions):
        for service, record in state.services.items():
            if not is_sound(record):
                continue
            copies = state.copies.of_service(service).values()
            wanted = sorted(one.id for one in copies if one.desired is DesiredStatus.RUNNING)
            targets = sorted(one.allocation for one in session.ingress.table(service).targets())
            if targets != wanted:
                return f"{session.node} routes {service} to {targets}; {wanted} answer"
    return ""
