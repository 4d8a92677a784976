"""What people decide about nodes, and why copies are where they are: the door between the API and the scheduler.

Reads answer from this node's copy of intent and its own beliefs, as the planner would if it ran here.
"""

from typing import Final, Protocol

from consensus.scheduler.fleet import Fleet
from consensus.scheduler.plan import why_not
from consensus.scheduler.reasons import copy_reasons, left_on, node_verdicts
from consensus.scheduler.reconcile import Situation
from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import Command, CordonNode, DrainNode, LabelNode, UndrainNode
from consensus.state.records import NodeRecord
from node import changes
from orca.errors import AmbiguousNameError, InvalidRequestError, NotFoundError
from orca.model.allocation import DesiredStatus
from orca.model.ids import RequestId, ServiceId
from orca.model.placement_view import (
    CordonRequest,
    DrainRequest,
    LabelRequest,
    NodeCareReply,
    UndrainRequest,
    WhyReply,
)
from orca.model.trust import Author
from orca.model.units import WallMs
from orca.model.view import Observation
from orca.sources import Clock, IdSource

DEADLINE_S_MAX: Final = 7 * 86_400.0


class Scheduling(Protocol):
    """What of a replica is needed here."""

    @property
    def state(self) -> ClusterState:
        """The applied state."""
        ...

    def fleet(self) -> Fleet:
        """What is reserved on each node."""
        ...

    def situation(self) -> Situation:
        """What a planner would go by now."""
        ...

    async def propose(self, command: Command) -> Outcome:
        """Have it committed and applied."""
        ...


class Observer(Protocol):
    """Who says how fresh an answer is."""

    def observation(self) -> Observation:
        """Who, and how old the newest is."""
        ...


class Upkeep:
    """Labels, cordons, drains; and the reasons of the scheduler."""

    def __init__(self, replica: Scheduling, clock: Clock, ids: IdSource, observer: Observer) -> None:
        self._replica = replica
        self._clock = clock
        self._ids = ids
        self._observer = observer

    def why(self, service: ServiceId) -> WhyReply:
        """Where the copies of a service are and could be. Raises NotFoundError."""
        record = changes.existing(self._replica.state, service)
        fleet, situation = self._replica.fleet(), self._replica.situation()
        placed = sum(one.desired is DesiredStatus.RUNNING for one in self._replica.state.allocations_of(service))
        verdicts = node_verdicts(situation, fleet, record)
        waits = placed < record.replicas and all(one.refusal for one in verdicts)
        return WhyReply(
            observation=self._observer.observation(),
            service=service,
            wanted=placed if record.spec.is_global else record.replicas,
            nodes=verdicts,
            copies=copy_reasons(situation, fleet, record),
            waits_for=why_not(record.spec, fleet).reason if waits else "",
        )

    def care(self, name: str) -> NodeCareReply:
        """What was decided about the node `name`, and what is left on it. Raises NotFoundError."""
        record = find_node(self._replica.state, name)
        drain = record.drain
        site = self._replica.situation().places.sites.get(record.id)
        return NodeCareReply(
            observation=self._observer.observation(),
            node=record.id,
            name=record.name,
            availability=record.availability,
            labels=record.labels if site is None else site.labels,
            left=left_on(self._replica.situation(), self._replica.fleet(), record.id),
            since_ms=None if drain is None else drain.since_ms,
            by="" if drain is None else drain.actor,
            reason="" if drain is None else drain.reason,
            deadline_at_ms=None if drain is None else drain.deadline_at_ms,
        )

    async def label(self, name: str, request: LabelRequest, *, by: Author) -> NodeCareReply:
        """Set and remove labels of a node."""
        if not request.labels and not request.remove:
            raise InvalidRequestError("the request names no label; give some to set or to remove")
        node = find_node(self._replica.state, name).id
        command = LabelNode(
            request_id=self._request_id(request.request_id),
            at_ms=self._clock.wall(),
            actor=by.actor,
            origin=by.origin,
            node=node,
            labels=request.labels,
            remove=request.remove,
        )
        return await self._change(command, name)

    async def cordon(self, name: str, request: CordonRequest, *, by: Author) -> NodeCareReply:
        """No new work for a node; what it has stays."""
        command = CordonNode(
            request_id=self._request_id(request.request_id),
            at_ms=self._clock.wall(),
            actor=by.actor,
            origin=by.origin,
            node=find_node(self._replica.state, name).id,
            reason=request.reason,
        )
        return await self._change(command, name)

    async def drain(self, name: str, request: DrainRequest, *, by: Author) -> NodeCareReply:
        """No new work for a node, and what it has moves away."""
        deadline_s, now_ms = request.deadline_s, self._clock.wall()
        if deadline_s is not None and not 0 <= deadline_s <= DEADLINE_S_MAX:
            raise InvalidRequestError(f"a deadline of {deadline_s:g} s is out of range; 0 to {DEADLINE_S_MAX:g} s")
        command = DrainNode(
            request_id=self._request_id(request.request_id),
            at_ms=now_ms,
            actor=by.actor,
            origin=by.origin,
            node=find_node(self._replica.state, name).id,
            reason=request.reason,
            deadline_at_ms=None if deadline_s is None else WallMs(now_ms + round(deadline_s * 1000)),
        )
        return await self._change(command, name)

    async def undrain(self, name: str, request: UndrainRequest, *, by: Author) -> NodeCareReply:
        """A node takes work again, whether it was cordoned or drained."""
        command = UndrainNode(
            request_id=self._request_id(request.request_id),
            at_ms=self._clock.wall(),
            actor=by.actor,
            origin=by.origin,
            node=find_node(self._replica.state, name).id,
        )
        return await self._change(command, name)

    async def _change(self, command: Command, name: str) -> NodeCareReply:
        changes.raise_refusal(await self._replica.propose(command))
        return self.care(name)

    def _request_id(self, given: RequestId | None) -> RequestId:
        return RequestId(self._ids.fresh()) if given is None else given


def find_node(state: ClusterState, name: str) -> NodeRecord:
    """The node called `name`, or with that id or beginning of one. Raises NotFoundError, AmbiguousNameError."""
    nodes = state.nodes.values()
    found = [one for one in nodes if name in (one.name, one.id)] or [
        one for one in nodes if len(name) >= 4 and one.id.startswith(name)
    ]
    if len(found) > 1:
        raise AmbiguousNameError(f"{name!r} fits {', '.join(sorted(one.id for one in found))}")
    if not found:
        present = ", ".join(sorted(one.name for one in nodes)[:20]) or "none"
        raise NotFoundError(f"there is no node {name[:80]!r}; there are: {present}")
    return found[0]
