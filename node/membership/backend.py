"""Who keeps the membership: the node itself, or a Serf agent beside it.

`Membership` has what both have in common; it asks the one that it was given for the rest.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
import trio

import gossip.membership
from gossip.facts import Facts, FactsEvent
from gossip.messages import Address
from gossip.serf import RotationEnded
from node.mesh.driver import MeshAddress
from orca.model.view import KeyReport, MemberView

Publish = Callable[[object], None]
"""Takes news of facts (`FactLearned`, `SendFacts`, `SendBulk`) and of gossip itself (`Noted`, `NameLost`, `Left`)."""
TakeNews = Callable[[gossip.membership.MembershipNews], None]
"""Takes changes of members, and user events."""


class Sinks(NamedTuple):
    """Where a backend puts what it has to tell; both return at once."""

    publish: Publish
    take_news: TakeNews


class GossipStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How it is doing, beside what `Membership` knows. `problem`: why the agent cannot be asked."""

    address: str
    profile: str
    is_encrypted: bool
    counts: dict[str, int]
    drops: dict[str, int]
    queues: dict[str, int]
    agent: str = ""
    problem: str = ""
    rpc: str = ""


class MembershipBackend(Protocol):
    """Keeps the membership. Until `run` has started only `is_running` may be asked.

    `is_beside`: others know this node by the tag of an agent.
    """

    is_beside: bool

    @property
    def is_running(self) -> bool:
        """Whether it can be asked."""
        ...

    @property
    def cluster(self) -> gossip.membership.Membership:
        """The members, and what they can be asked."""
        ...

    @property
    def facts(self) -> Facts:
        """What nodes say of themselves; to be read."""
        ...

    @property
    def health_score(self) -> int:
        """How slow whoever gossips takes itself to be; 0 is well."""
        ...

    async def run(
        self, port: int, mesh: MeshAddress | None, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep it until cancelled; `started` gives the address that others know."""
        ...

    def tell(self, event: FactsEvent) -> None:
        """Something about facts; returns at once. Raises errors of `orca.errors`."""
        ...

    def views(self) -> list[MemberView]:
        """All members, in no order."""
        ...

    def status(self) -> GossipStatus:
        """How it is doing."""
        ...

    def leave(self) -> None:
        """Tell the others that this node goes, as far as that is its own to tell; returns at once."""
        ...

    async def rotate(self, key: bytes, *, allow_absent: bool) -> tuple[Sequence[KeyReport], RotationEnded | None]:
        """Replace the keys of all members; the end is None when it did not come in time."""
        ...
