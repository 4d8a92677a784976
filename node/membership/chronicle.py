"""What happened to members and what they announced, in the words of the node's history."""

from collections.abc import Callable
from typing import Final

from gossip.membership import EventReceived, Member, StatusChange
from gossip.messages import Address
from node.membership.pulses import SILENT_S
from node.membership.tags import name_of
from orca.model.event import EventKind, Severity

Record = Callable[[EventKind, str, Severity], None]
"""Puts an event into the node's history; returns at once."""
_WORDS: Final = {
    StatusChange.JOINED: (EventKind.MEMBER_JOINED, Severity.INFO, "joined"),
    StatusChange.FAILED: (EventKind.MEMBER_FAILED, Severity.WARNING, "does not answer any more"),
    StatusChange.LEFT: (EventKind.MEMBER_LEFT, Severity.INFO, "left"),
}
_PAYLOAD_MAX: Final = 200


class Chronicle:
    """Words the news of gossip."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def changed(self, change: StatusChange, member: Member) -> None:
        """A member came or went; other changes are not worth a line."""
        words = _WORDS.get(change)
        if words is not None:
            kind, severity, verb = words
            self._record(kind, f"{name_of(member)} ({member.address}) {verb}", severity)

    def silent(self, member: Member) -> None:
        """The node beside a living agent is gone."""
        words = f"nothing was heard from the node for {SILENT_S:g} s, although its Serf agent lives"
        self._record(EventKind.MEMBER_FAILED, f"{name_of(member)} ({member.address}): {words}", Severity.WARNING)

    def heard(self, member: Member) -> None:
        """The node beside a living agent is back."""
        self._record(EventKind.MEMBER_JOINED, f"{name_of(member)} ({member.address}) is heard again", Severity.INFO)

    def announced(self, event: EventReceived) -> None:
        """A user event."""
        words = event.payload.decode(errors="replace")[:_PAYLOAD_MAX]
        message = f"event {event.name}" + (f": {words}" if words else "")
        self._record(EventKind.CLUSTER_EVENT, message, Severity.INFO)

    def name_lost(self, owner: Address) -> None:
        """Somebody else has our id."""
        message = f"another node at {owner} uses the id of this one; two nodes share a copy of one data directory"
        self._record(EventKind.MEMBER_NAME_LOST, message, Severity.ERROR)

    def agent_shared(self, agent: Address, other: str) -> None:
        """Another node has put its id on our agent."""
        message = f"node {other} uses the Serf agent at {agent} too; each node needs an agent of its own"
        self._record(EventKind.MEMBER_NAME_LOST, message, Severity.ERROR)

    def agent_lost(self, reason: str) -> None:
        """The agent that keeps our membership is away."""
        self._record(EventKind.AGENT_LOST, reason, Severity.WARNING)

    def agent_found(self, agent: Address) -> None:
        """It is there."""
        self._record(EventKind.AGENT_FOUND, f"the Serf agent at {agent} answers", Severity.INFO)
