"""What the Serf layer wants done, and what it has to tell; in list order."""

import enum
from typing import TypeAlias

import msgspec

from gossip.effects import Noted
from gossip.messages import Address
from gossip.serf.members import SerfMember, StatusChange
from orca.model.units import Instant


class QueryKey(msgspec.Struct, frozen=True):
    """Which query: its time and the number that its asker drew."""

    ltime: int
    query_id: int


class StatusChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The same thing happened to these members; more than one only when changes are coalesced."""

    change: StatusChange
    members: tuple[SerfMember, ...]


class UserEventReceived(msgspec.Struct, frozen=True, kw_only=True):
    """An event for everybody, our own included."""

    ltime: int
    name: str
    payload: bytes
    is_coalescable: bool


class QueryReceived(msgspec.Struct, frozen=True, kw_only=True):
    """A question to this node; `QueryAnswered` with the same key before `deadline` answers it, once."""

    key: QueryKey
    name: str
    payload: bytes
    source_node: str
    deadline: Instant


class QueryStarted(msgspec.Struct, frozen=True, kw_only=True):
    """Our query `handle` is on its way; `expected` members may answer until `deadline`."""

    handle: int
    key: QueryKey
    expected: int
    deadline: Instant


class QueryAcked(msgspec.Struct, frozen=True, kw_only=True):
    """`node` has our query `handle`."""

    handle: int
    node: str


class QueryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `node` to our query `handle`; one a node."""

    handle: int
    node: str
    payload: bytes


class QueryEnded(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing more comes for our query `handle`."""

    handle: int
    acks: int
    answers: int
    expected: int


class KeyOperation(enum.Enum):
    """What is done to the keyrings of all members; the values are Serf's."""

    INSTALL = "install-key"
    USE = "use-key"
    REMOVE = "remove-key"
    LIST = "list-keys"


class KeyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one key operation.

    `failures`: what members that answered could not do; `silent`: who did not answer, as far as
    that is known by name (a Serf agent asked for it only counts them). `keys` and
    `primary_keys` (base64) tell how many members have each; both only after a listing.
    """

    operation: KeyOperation
    expected: int
    answered: int
    failures: dict[str, str]
    silent: tuple[str, ...]
    keys: dict[str, int]
    primary_keys: dict[str, int]

    @property
    def is_complete(self) -> bool:
        """Whether every member answered, and none had a complaint."""
        return not self.failures and not self.silent and self.answered >= self.expected


class KeyCommandEnded(msgspec.Struct, frozen=True, kw_only=True):
    """The key command `handle` is over."""

    handle: int
    report: KeyReport


class RotationStep(enum.Enum):
    """The steps of a key rotation, in order."""

    INSTALL = "install"
    CHECK_INSTALLED = "check_installed"
    USE = "use"
    CHECK_USED = "check_used"
    REMOVE = "remove"
    CHECK_REMOVED = "check_removed"


class RotationProgressed(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one step of the key rotation is over."""

    step: RotationStep
    attempt: int
    report: KeyReport


class RotationEnded(msgspec.Struct, frozen=True, kw_only=True):
    """The key rotation is done, or stopped at `step` because of `reason`; it may be started again."""

    is_done: bool
    step: RotationStep
    reason: str = ""


class SendUser(msgspec.Struct, frozen=True, kw_only=True):
    """Send `payload` in a memberlist user message straight to a member, once."""

    to: Address
    payload: bytes


class Rejoin(msgspec.Struct, frozen=True, kw_only=True):
    """Exchange states with a lost peer, as a join does."""

    node: str
    address: Address


class ChangeMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Our tags changed: announce `meta()` with the next incarnation."""


class KeyringChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Barrier: keep the keyring durably, primary first, before the answer that follows says it is done."""

    keys: tuple[bytes, ...]


class SavedPeer(msgspec.Struct, frozen=True, kw_only=True):
    """A member to look for after a restart."""

    node: str
    address: Address


class PersistPeers(msgspec.Struct, frozen=True, kw_only=True):
    """Keep this for the next start of the node, in place of what was kept before.

    The times are those that the next thing said would carry. Events and queries before
    them are not delivered again. `incarnation`: SWIM's, which this layer does not know; the machine
    that has both puts it in (0: it did not).
    """

    peers: tuple[SavedPeer, ...]
    ltime: int
    event_ltime: int
    query_ltime: int
    incarnation: int = 0


class LeaveSwim(msgspec.Struct, frozen=True, kw_only=True):
    """The intent to leave is spread: leave SWIM now, and step `SwimLeft` when that is done."""


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """The graceful leave is over: the node may close."""


class NameLost(msgspec.Struct, frozen=True, kw_only=True):
    """Most of the cluster believes that our name belongs to `owner`: this node must stop, or change its name."""

    owner: Address
    matching: int
    answers: int


SerfEffect: TypeAlias = (
    StatusChanged
    | UserEventReceived
    | QueryReceived
    | QueryStarted
    | QueryAcked
    | QueryAnswer
    | QueryEnded
    | KeyCommandEnded
    | RotationProgressed
    | RotationEnded
    | SendUser
    | Rejoin
    | ChangeMeta
    | KeyringChanged
    | PersistPeers
    | LeaveSwim
    | Left
    | NameLost
    | Noted
)
