"""Facts of other nodes as the node's beliefs. Pure."""

from collections.abc import Callable
from typing import ClassVar, Final

import msgspec

from gossip.facts import FactLearned, FactWritten
from node.believed import Believed
from orca.model.allocation import AllocationStatus
from orca.model.ids import AllocationId, NodeId
from orca.model.node import NodeFacts

NODE_KEY: Final = "node"
STATUS_PREFIX: Final = "status/"
_node_decoder: msgspec.msgpack.Decoder[NodeFacts] = msgspec.msgpack.Decoder(NodeFacts)
_status_decoder: msgspec.msgpack.Decoder[AllocationStatus] = msgspec.msgpack.Decoder(AllocationStatus)


class KnownFacts:
    """Puts what members of our cluster say into the belief table; a fact that cannot be read is counted."""

    STATUS_TTL_S: ClassVar[float] = 30.0

    def __init__(self, beliefs: Believed) -> None:
        self._beliefs = beliefs
        self.unreadable = 0
        self.changed: Callable[[], None] = lambda: None
        """Called when something that others may act on is different; set by whoever acts."""
        self.complain: Callable[[FactLearned, str], None] = lambda _fact, _reason: None
        """Called for a fact that cannot be read, with the reason; set by whoever keeps a log."""

    def learn(self, fact: FactLearned, *, is_ours: bool) -> None:
        """Take in a fact; one of a node outside our cluster says nothing to us."""
        if not is_ours:
            return
        try:
            if fact.key == NODE_KEY:
                self._learn_node(fact)
            elif fact.key.startswith(STATUS_PREFIX):
                self._learn_status(fact)
            self.changed()
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.unreadable += 1
            self.complain(fact, str(error))

    def depart(self, node: str) -> None:
        """The node is no living member any more."""
        self._beliefs.drop_node(NodeId(node))
        self.changed()

    def _learn_node(self, fact: FactLearned) -> None:
        if fact.value is None:
            self._beliefs.drop_node(NodeId(fact.writer))
            return
        facts = _node_decoder.decode(fact.value)
        if facts.id == fact.writer:
            self._beliefs.put_node(facts)
        else:
            self.unreadable += 1

    def _learn_status(self, fact: FactLearned) -> None:
        allocation = AllocationId(fact.key.removeprefix(STATUS_PREFIX))
        if fact.value is None:
            known = self._beliefs.statuses.get(allocation)
            if known is not None and known.node == fact.writer:
                self._beliefs.drop_status(allocation)
            return
        status = _status_decoder.decode(fact.value)
        if status.allocation == allocation and status.node == fact.writer:
            self._beliefs.put_status(status)
        else:
            self.unreadable += 1


def status_key(allocation: AllocationId) -> str:
    """Under which key the status of a copy is told."""
    return f"{STATUS_PREFIX}{allocation}"


def fact_of(key: str, value: bytes) -> FactWritten:
    """What tells `value` to everybody; that of a status vanishes soon after its node."""
    return FactWritten(key=key, value=value, ttl_s=KnownFacts.STATUS_TTL_S if key.startswith(STATUS_PREFIX) else None)
