"""What SWIM needs of the layer above it."""

from typing import Protocol

from gossip.messages import Address, Alive
from gossip.swim.members import MemberView
from orca.model.units import Instant


class Delegate(Protocol):
    """The layer above; `gossip.machine` is one. Calls return at once and must not call SWIM."""

    def meta(self) -> bytes:
        """Our tags, encoded."""
        ...

    def ack_payload(self) -> bytes:
        """What to put into an ack."""
        ...

    def has_broadcasts(self) -> bool:
        """Whether anything waits for a packet."""
        ...

    def broadcasts(self, overhead_bytes: int, room_bytes: int) -> list[bytes]:
        """Payloads for one packet; each costs `overhead_bytes`, a type byte and its own length."""
        ...

    def local_state(self, is_join: bool) -> bytes:
        """Its part of a push/pull."""
        ...

    def merge_state(self, state: bytes, is_join: bool, now: Instant) -> None:
        """A peer's part of a push/pull."""
        ...

    def user_message(self, payload: bytes, source: Address, now: Instant) -> None:
        """A message for it."""
        ...

    def acked(self, node: str, rtt_s: float, payload: bytes, now: Instant) -> None:
        """A probe of `node` was answered directly."""
        ...

    def member_joined(self, member: MemberView, now: Instant) -> None:
        """A member is alive, for the first time or again."""
        ...

    def member_updated(self, member: MemberView, now: Instant) -> None:
        """A member's tags or address changed."""
        ...

    def member_left(self, member: MemberView, is_graceful: bool, now: Instant) -> None:
        """A member is dead, or said farewell."""
        ...

    def name_conflict(self, existing: MemberView, other: Alive, now: Instant) -> None:
        """Two nodes use one name."""
        ...
