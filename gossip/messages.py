"""What members say to each other: memberlist's messages, and Serf's inside them.

Field names are ours; `gossip.codec` knows the names on the wire. Addresses are text
(`"10.0.0.7"`, `"fd00::7"`), incarnations and sequence numbers unsigned 32 bit,
Lamport times unsigned 64 bit.
"""

import enum
from typing import Final, NamedTuple, TypeAlias

import msgspec

MEMBERLIST_VERSION: Final = bytes((1, 5, 2, 2, 5, 5))
"""`[pmin, pmax, pcur, dmin, dmax, dcur]` as a Serf agent of today announces it."""


class Address(NamedTuple):
    """Where a member receives packets and streams: an IP address as text, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """Are you there? Answered by `Ack` with the same `sequence`; `node` empty means whoever reads it."""

    sequence: int
    node: str = ""
    source: Address | None = None
    source_node: str = ""


class IndirectPing(msgspec.Struct, frozen=True, kw_only=True):
    """Ping `node` at `target` for me; with `wants_nack`, say so when it does not answer in time."""

    sequence: int
    target: Address
    node: str
    wants_nack: bool = False
    source: Address | None = None
    source_node: str = ""


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """I am here; the payload is the upper layer's (Serf: a coordinate)."""

    sequence: int
    payload: bytes = b""


class Nack(msgspec.Struct, frozen=True, kw_only=True):
    """I asked on your behalf and heard nothing yet; this link of yours is fine."""

    sequence: int


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """`node` lives at `address`; only itself raises its incarnation."""

    incarnation: int
    node: str
    address: Address
    meta: bytes = b""
    version: bytes = MEMBERLIST_VERSION


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """`accuser` had no answer from `node`."""

    incarnation: int
    node: str
    accuser: str


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """`node` did not refute in time; with itself as `accuser` it left."""

    incarnation: int
    node: str
    accuser: str


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the upper layer."""

    payload: bytes


class StreamError(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a stream that could not be read."""

    message: str


class WireState(enum.IntEnum):
    """The state of a member in a push/pull; the numbers are memberlist's."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class PushPullNode(msgspec.Struct, frozen=True, kw_only=True):
    """One member as the sender of a push/pull knows it."""

    node: str
    address: Address
    meta: bytes
    incarnation: int
    state: WireState
    version: bytes


class PushPull(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the sender believes, with the upper layer's state.

    `is_compressed`: how it came, or is to go when that is worth it; no part of what is said.
    """

    nodes: tuple[PushPullNode, ...]
    user_state: bytes = b""
    is_join: bool = False
    is_compressed: bool = False


Claim: TypeAlias = Alive | Suspect | Dead
PacketMessage: TypeAlias = Ping | IndirectPing | Ack | Nack | Alive | Suspect | Dead | User
StreamMessage: TypeAlias = PushPull | Ping | Ack | User | StreamError


class LeaveIntent(msgspec.Struct, frozen=True, kw_only=True):
    """`node` leaves (or, said by another, has failed for good); `is_prune` forgets it at once."""

    ltime: int
    node: str
    is_prune: bool = False


class JoinIntent(msgspec.Struct, frozen=True, kw_only=True):
    """`node` joined at member time `ltime`."""

    ltime: int
    node: str


class PastEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A user event in the history of a push/pull."""

    name: str
    payload: bytes


class PastEvents(msgspec.Struct, frozen=True, kw_only=True):
    """The user events of one event time."""

    ltime: int
    events: tuple[PastEvent, ...]


class SerfState(msgspec.Struct, frozen=True, kw_only=True):
    """Serf's part of a push/pull. `status_ltimes`: the member time of each member's status."""

    ltime: int
    status_ltimes: dict[str, int]
    left_members: tuple[str, ...]
    event_ltime: int
    events: tuple[PastEvents, ...]
    query_ltime: int


class UserEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event for everybody; `is_coalescable` lets a receiver deliver only the newest of a name."""

    ltime: int
    name: str
    payload: bytes
    is_coalescable: bool = False


class NodeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Only these members answer."""

    nodes: tuple[str, ...]


class TagFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Only members whose tag matches `expression` (RE2, unanchored) answer; a missing tag is ""."""

    tag: str
    expression: str


Filter: TypeAlias = NodeFilter | TagFilter


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A question for everybody, answered straight to `source`; `timeout_ns` in nanoseconds."""

    ltime: int
    query_id: int
    source: Address
    source_node: str
    filters: tuple[Filter, ...] = ()
    wants_ack: bool = False
    is_local_only: bool = False
    relay_factor: int = 0
    timeout_ns: int = 0
    name: str = ""
    payload: bytes = b""


class QueryResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One member's answer, or with `is_ack` its word that the question has come."""

    ltime: int
    query_id: int
    node: str
    is_ack: bool = False
    payload: bytes = b""


class Relay(msgspec.Struct, frozen=True, kw_only=True):
    """Pass `message` (an encoded Serf message) on to `target`."""

    target: Address
    target_node: str
    message: bytes


SerfMessage: TypeAlias = LeaveIntent | JoinIntent | SerfState | UserEvent | Query | QueryResponse | Relay


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a key query; empty when keys are listed."""

    key: bytes = b""


class KeyResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of its answer; keys in base64."""

    is_success: bool
    message: str = ""
    keys: tuple[str, ...] = ()
    primary_key: str = ""


class ConflictMember(msgspec.Struct, frozen=True, kw_only=True):
    """The member whom one node believes to own a name, in answer to a conflict query."""

    node: str
    address: Address
    tags: dict[str, str]
    status: int
    version: bytes


class CoordinatePayload(msgspec.Struct, frozen=True, kw_only=True):
    """A Vivaldi coordinate as acks carry it; seconds."""

    vector: tuple[float, ...]
    error: float
    adjustment: float
    height: float
