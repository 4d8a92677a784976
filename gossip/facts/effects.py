"""What the facts machine wants done, and what it has learned."""

from typing import TypeAlias

import msgspec

from gossip.effects import Noted
from gossip.messages import Address


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a node says. `version` counts all that it said in this life."""

    key: str
    version: int
    value: bytes
    ttl_s: float | None = None


class FactLearned(msgspec.Struct, frozen=True, kw_only=True):
    """`writer` says `value` about `key`, or (None) nothing any more. Our own facts come too."""

    writer: str
    key: str
    version: int
    value: bytes | None


class SendFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Send `payload` in a user message of a packet, once."""

    node: str
    to: Address
    payload: bytes


class SendBulk(msgspec.Struct, frozen=True, kw_only=True):
    """Send `payload` as a user message over a stream; nothing comes back on it."""

    node: str
    to: Address
    payload: bytes


class IncarnationRaised(msgspec.Struct, frozen=True, kw_only=True):
    """Peers knew a later life of ours than we: ours is this one now, and the next start must be above it."""

    incarnation: int


FactsEffect: TypeAlias = FactLearned | SendFacts | SendBulk | IncarnationRaised | Noted
