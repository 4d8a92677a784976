"""What the node asks of its membership, whoever keeps it.

Two things offer this interface: gossip inside the node, and a Serf agent beside it
(`gossip.rpc.delegate`). One contract suite (`tests/contracts/membership.py`) holds both to
it. Reads give what is believed now, from memory. News come through plain functions, which
must return at once and must not raise. Calls may wait for others and have their own
deadlines; their errors are those of `orca.errors`:

- `InvalidRequestError`: it can never be done like this (a name, a size, a key);
- `NotFoundError`: no such member or query;
- `NotAvailableError`: not at present (a lost agent, too much at once);
- `NodeUnreachableError`: nobody answered where a join looked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from gossip.messages import Address, Filter
from gossip.serf.effects import KeyOperation, KeyReport
from gossip.serf.members import MemberStatus, StatusChange

__all__ = [
    "Acked",
    "Answered",
    "EventReceived",
    "Finished",
    "KeyOperation",
    "KeyReport",
    "Member",
    "MemberStatus",
    "MembersChanged",
    "Membership",
    "MembershipNews",
    "QueryNews",
    "QueryReceived",
    "Question",
    "StatusChange",
]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member as it is believed to be. `version`: `[pmin, pmax, pcur, dmin, dmax, dcur]`."""

    node: str
    address: Address
    tags: dict[str, str]
    status: MemberStatus
    version: bytes


class MembersChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The same thing happened to these members, who are now as given."""

    change: StatusChange
    members: tuple[Member, ...]


class EventReceived(msgspec.Struct, frozen=True, kw_only=True):
    """A user event, one's own included; `ltime` is its Lamport time."""

    ltime: int
    name: str
    payload: bytes
    is_coalescable: bool


class QueryReceived(msgspec.Struct, frozen=True, kw_only=True):
    """A question to this node; `respond` with `query_id` answers it, once, before its asker stops listening."""

    query_id: int
    ltime: int
    name: str
    payload: bytes


MembershipNews: TypeAlias = MembersChanged | EventReceived | QueryReceived


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A query to all members that every filter lets through.

    `timeout_s` 0 is the default, which grows with the group. `relay_factor` members pass each
    answer on once more, for networks that lose much.
    """

    name: str
    payload: bytes = b""
    filters: tuple[Filter, ...] = ()
    wants_ack: bool = False
    relay_factor: int = 0
    timeout_s: float = 0.0


class Acked(msgspec.Struct, frozen=True):
    """`node` has the question."""

    node: str


class Answered(msgspec.Struct, frozen=True):
    """What `node` says to it."""

    node: str
    payload: bytes


class Finished(msgspec.Struct, frozen=True):
    """Nothing more comes. `reason`: why it ended before its time, empty when it did not."""

    reason: str = ""


QueryNews: TypeAlias = Acked | Answered | Finished


class Membership(Protocol):
    """A cluster, seen from one of its members."""

    @property
    def node(self) -> str:
        """The name of that member."""
        ...

    def members(self) -> tuple[Member, ...]:
        """Everybody known, those who left or failed included until they are forgotten; by name."""
        ...

    def subscribe(self, sink: Callable[[MembershipNews], None]) -> Callable[[], None]:
        """Give all news from now on to `sink`; the function returned ends that."""
        ...

    async def join(self, addresses: Sequence[str], *, is_replaying: bool = False) -> int:
        """Meet whoever answers at these addresses (`host` or `host:port`); how many did, at least one.

        With `is_replaying`, user events from before the join are delivered too.
        """
        ...

    async def leave(self) -> None:
        """Leave gracefully; returns when the others know."""
        ...

    async def force_leave(self, node: str, *, is_prune: bool = False) -> None:
        """Declare that a failed member has left for good; `is_prune` forgets it at once."""
        ...

    async def change_tags(self, tags: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        """Take away the tags `removed` of this node, then set `tags`; others stay as they are."""
        ...

    async def send_event(self, name: str, payload: bytes = b"", *, is_coalescable: bool = False) -> None:
        """Tell everybody."""
        ...

    async def ask(self, question: Question, sink: Callable[[QueryNews], None]) -> Callable[[], None]:
        """Ask; what comes goes to `sink`, a `Finished` last. The function returned stops listening."""
        ...

    async def respond(self, query_id: int, payload: bytes) -> None:
        """Answer a question that was received."""
        ...

    async def change_keys(self, operation: KeyOperation, key: bytes = b"") -> KeyReport:
        """Do one thing to the keyrings of all members; `key` is raw, and empty for a listing.

        The report tells who could not do it. Raises InvalidRequestError in a cluster without encryption.
        """
        ...
