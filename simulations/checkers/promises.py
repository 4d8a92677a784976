"""What a node says it stores, it stores: replies against the disk, at the moment they leave."""

from collections.abc import Callable
from typing import Any

from consensus.raft.messages import AppendReply, HeartbeatReply, RequestVote, VoteReply
from consensus.storage import LoadedLog
from orca.model.ids import NodeId, Term
from simulations.judge import Checker

_BINDING = (AppendReply, HeartbeatReply, RequestVote, VoteReply)


class Promises(Checker):
    """A reply leaves after what it promises is durable, and no vote is given twice in a term (§3.8, §3.4).

    `durable` is what a node would find after losing power now.
    """

    name = "promises"

    def __init__(self, durable: Callable[[NodeId], LoadedLog]) -> None:
        super().__init__()
        self._durable = durable
        self._votes: dict[tuple[NodeId, Term], NodeId] = {}

    def sent(self, node: NodeId, to: NodeId, message: Any) -> None:
        """Look at what the message binds its sender to."""
        if not isinstance(message, _BINDING):
            return
        durable = self._durable(node)
        if durable.hard_state.term < message.term:
            self.fail(f"{node} speaks in term {message.term}, and term {durable.hard_state.term} is on its disk")
        if isinstance(message, AppendReply):
            # In a later term another leader may have replaced what was acknowledged, within the same step.
            is_current = durable.hard_state.term == message.term
            if message.is_accepted and is_current and durable.last_index < message.index:
                self.fail(f"{node} acknowledged entry {message.index}, and its disk ends with {durable.last_index}")
        elif isinstance(message, RequestVote):
            self._voted(node, message.term, node)
        elif isinstance(message, VoteReply) and message.is_granted:
            if durable.hard_state.term == message.term and durable.hard_state.voted_for != to:
                self.fail(
                    f"{node} voted for {to} in term {message.term}, and {durable.hard_state.voted_for} is on disk"
                )
            self._voted(node, message.term, to)

    def _voted(self, node: NodeId, term: Term, candidate: NodeId) -> None:
        first = self._votes.setdefault((node, term), candidate)
        if first != candidate:
            self.fail(f"{node} voted for {first} and for {candidate} in term {term}")
