"""Bugs in whole nodes: a part that decides something, with one rule broken.

A bug gets in by taking the place of the sound part in the module that uses it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from consensus.answers import Answers
from consensus.raft import Accepted
from consensus.scheduler import plan as planning
from consensus.scheduler.feasible import Bounds
from consensus.scheduler.fleet import Fleet
from consensus.scheduler.reconcile import Need, Situation, reconcile
from consensus.state.cluster import Outcome, ServiceRecord
from node.health.verdict import BecameReady, HealthMonitor, HealthTransition
from node.proxy.letting_go import Farewell
from node.reconciler.copy import Copy
from node.reconciler.machine import Reconciler
from orca.model.ids import LogIndex, NodeId, StateRevision
from orca.model.spec import ServiceSpec
from simulations.faults import calm
from simulations.nodes import ingress, prober, replica
from simulations.nodes.knobs import KNOBS
from simulations.nodes.node import Computer
from simulations.scenarios.services import ServicesPlan


class StopsOldFirst:
    """Stops every copy of an older revision at once."""

    @staticmethod
    def put(situation: Situation, record: ServiceRecord) -> Need:
        """The sound need, and those."""
        need = reconcile(situation, record)
        copies = situation.copies.get(record.id, ())
        old = tuple(one.id for one in copies if one.template != record.current.template)
        return msgspec.structs.replace(need, stops=(*need.stops, *(one for one in old if one not in need.stops)))


class LeavesTheLost:
    """Makes no copy again that was lost."""

    @staticmethod
    def put(situation: Situation, record: ServiceRecord) -> Need:
        """The sound need without slots, once there were copies."""
        need = reconcile(situation, record)
        is_new = record.rollout.healthy < record.replicas
        return need if is_new else msgspec.structs.replace(need, slots=())


class FillsOneNode:
    """Gives everything to the first node, however full that is."""

    @staticmethod
    def put(_spec: ServiceSpec, fleet: Fleet, count: int, _bounds: Bounds | None = None) -> list[NodeId]:
        """That one again."""
        return [fleet.sites[0].id] * count if fleet.sites else []


class BelievesInHealth(HealthMonitor):
    """Takes what has started for ready."""

    def on_started(self) -> list[HealthTransition]:
        """Whoever is asked later says the same."""
        super().on_started()
        self.is_ready = True
        return [BecameReady()]


class StopsWithoutGoodbye(Reconciler):
    """Ends a copy while requests are on their way to it."""

    def _advance_to_end(self, copy: Copy) -> None:
        copy.is_drained = True
        super()._advance_to_end(copy)


class KeepsWhatItHas(Reconciler):
    """Ends nothing that it is told to end."""

    def _advance_to_end(self, copy: Copy) -> None:
        pass


class AnswersTooSoon(Answers):
    """Says that a change is done as soon as it has a place in the log, as the state then is."""

    def accept(self, effect: Accepted, applied_index: LogIndex) -> None:
        """Done, surely: the next revision of each service."""
        super().accept(effect, applied_index)
        promise = self._promises.get(effect.proposal_id)
        if promise is not None and effect.index > applied_index:
            promise.outcome, promise.is_committed = Outcome(revision=StateRevision(effect.index)), True
            promise.settle()


class SaysGoodbyeAtOnce:
    """Says that it sends no request to a copy any more as soon as it is asked."""

    @staticmethod
    def put(_self: ingress.Ingress, _farewell: Farewell) -> bool:
        """It says goodbye, and goes on."""
        return False


class NodeBug(msgspec.Struct, frozen=True, kw_only=True):
    """A part with a bug, whose place it takes, and what is put there."""

    part: type
    place: Any
    name: str
    put: Any


BUGS: Final = (
    NodeBug(part=StopsOldFirst, place=planning, name="reconcile", put=StopsOldFirst.put),
    NodeBug(part=LeavesTheLost, place=planning, name="reconcile", put=LeavesTheLost.put),
    NodeBug(part=FillsOneNode, place=planning, name="choose_nodes", put=FillsOneNode.put),
    NodeBug(part=BelievesInHealth, place=prober, name="HealthMonitor", put=BelievesInHealth),
    NodeBug(part=StopsWithoutGoodbye, place=Computer, name="reconciler_type", put=StopsWithoutGoodbye),
    NodeBug(part=KeepsWhatItHas, place=Computer, name="reconciler_type", put=KeepsWhatItHas),
    NodeBug(part=SaysGoodbyeAtOnce, place=ingress.Ingress, name="_must_wait", put=SaysGoodbyeAtOnce.put),
    NodeBug(part=AnswersTooSoon, place=replica, name="Answers", put=AnswersTooSoon),
)
PLANS: Final = (
    ServicesPlan(),
    ServicesPlan(
        name="rollouts", nodes=4, services=6, chaos_s=30.0, mood=calm(KNOBS, deploy=1.0, scale=4.0, restart=4.0)
    ),
    ServicesPlan(
        name="slow",
        nodes=5,
        services=6,
        chaos_s=40.0,
        requests_per_s=200.0,
        mood=calm(KNOBS, deploy=0.7, scale=2.0, crash=4.0, partition=8.0, slow_network=0.05, slow_disk=0.1),
    ),
)
"""Each bug is hunted under all of these: whatever a seed draws, rollouts alone, and changes that take long."""


@contextmanager
def planted(bug: NodeBug) -> Iterator[None]:
    """Nodes that are made meanwhile have the bug."""
    sound = bug.place.__dict__[bug.name]
    setattr(bug.place, bug.name, bug.put)
    try:
        yield
    finally:
        setattr(bug.place, bug.name, sound)
