"""What the Serf layer needs to know of a member as SWIM knows it."""

from typing import Protocol

from gossip.messages import Address


class MemberView(Protocol):
    """The part of SWIM's view of a member that is read here."""

    @property
    def node(self) -> str:
        """Its name."""
        ...

    @property
    def address(self) -> Address:
        """Where it receives."""
        ...

    @property
    def meta(self) -> bytes:
        """Its tags, encoded."""
        ...

    @property
    def version(self) -> bytes:
        """`[pmin, pmax, pcur, dmin, dmax, dcur]`."""
        ...
