"""A node as the scheduler weighs it: what it says of itself, and what people decided about it."""

from collections.abc import Mapping

import msgspec

from consensus.state.records import NodeRecord
from orca.model.ids import NodeId
from orca.model.node import NodeAvailability, NodeFacts


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A living node. `labels` are those of its own configuration, and above them those that people set."""

    facts: NodeFacts
    record: NodeRecord | None
    labels: dict[str, str]

    @property
    def id(self) -> NodeId:
        """The node's id."""
        return self.facts.id

    @property
    def availability(self) -> NodeAvailability:
        """Whether people let it take work."""
        return NodeAvailability.ACTIVE if self.record is None else self.record.availability

    @property
    def is_draining(self) -> bool:
        """Whether its copies are to move away."""
        return self.availability is NodeAvailability.DRAINING

    @property
    def closed(self) -> str:
        """Why people let it take no work; empty when they do."""
        if self.record is None or self.availability is NodeAvailability.ACTIVE:
            return ""
        reason = "" if self.record.drain is None else self.record.drain.reason
        return ("is drained" if self.is_draining else "is cordoned") + (f" ({reason})" if reason else "")


def site_of(facts: NodeFacts, record: NodeRecord | None) -> Site:
    """The node that says `facts` of itself and that the cluster has as `record`."""
    set_here = {} if record is None else record.labels
    return Site(facts=facts, record=record, labels={**facts.labels, **set_here} if set_here else facts.labels)


def sites_of(nodes: Mapping[NodeId, NodeFacts], records: Mapping[NodeId, NodeRecord]) -> list[Site]:
    """All living nodes, by id."""
    return [site_of(nodes[node], records.get(node)) for node in sorted(nodes)]
