"""The member table: who is known, in which order they are probed, and random samples of them."""

import enum
from collections.abc import Callable, Iterator

import msgspec

from gossip.messages import Address
from orca.model.units import Instant
from orca.sources import Rng


class MemberState(enum.Enum):
    """What is believed of a member."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


class MemberView(msgspec.Struct, frozen=True, kw_only=True):
    """A member at one moment.

    `changed_at`: since when it is in its state. `heard_at`: when it last said something to
    us itself. `rtt_s`: of the last probes, smoothed; None before the first answer.
    """

    node: str
    address: Address
    meta: bytes
    version: bytes
    incarnation: int
    state: MemberState
    changed_at: Instant
    heard_at: Instant | None
    rtt_s: float | None


class Member(msgspec.Struct):
    """A member, changed in place."""

    node: str
    address: Address
    meta: bytes
    version: bytes
    incarnation: int
    state: MemberState
    changed_at: Instant
    heard_at: Instant | None = None
    rtt_s: float | None = None

    @property
    def is_up(self) -> bool:
        """Alive as far as we know, suspected or not."""
        return self.state is MemberState.ALIVE or self.state is MemberState.SUSPECT

    @property
    def protocol_max(self) -> int:
        """The newest protocol that it understands; 0 when it did not say."""
        return self.version[1] if len(self.version) > 1 else 0

    def view(self) -> MemberView:
        """It as it is now."""
        return MemberView(
            node=self.node,
            address=self.address,
            meta=self.meta,
            version=self.version,
            incarnation=self.incarnation,
            state=self.state,
            changed_at=self.changed_at,
            heard_at=self.heard_at,
            rtt_s=self.rtt_s,
        )


class MemberTable:
    """All members, ourselves included."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._members: dict[str, Member] = {}
        # For sampling in constant time; a removed member's place is taken by the last one.
        self._places: dict[str, int] = {}
        self._order: list[Member] = []
        self._probe_order: list[str] = []
        self._probe_place = 0

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._order)

    def get(self, node: str) -> Member | None:
        """The member called `node`."""
        return self._members.get(node)

    def add(self, member: Member) -> None:
        """A new one; it is probed at a random place of this round, or the next."""
        assert member.node not in self._members, f"{member.node} is known"
        self._members[member.node] = member
        self._places[member.node] = len(self._order)
        self._order.append(member)
        self._probe_order.insert(int(self._rng.random() * (len(self._probe_order) + 1)), member.node)

    def remove(self, node: str) -> None:
        """Forget one."""
        del self._members[node]
        place = self._places.pop(node)
        last = self._order.pop()
        if last.node != node:
            self._order[place] = last
            self._places[last.node] = place

    def next_to_probe(self, is_due: Callable[[Member], bool]) -> tuple[Member | None, bool]:
        """The next member in turn for whom `is_due`, and whether the list came to its end on the way.

        At the end the list is shuffled anew, once a call: with nobody to probe this ends too.
        """
        has_wrapped = False
        checked = 0
        while checked <= len(self._members):
            if self._probe_place >= len(self._probe_order):
                if has_wrapped:
                    break
                has_wrapped = True
                self._reshuffle()
                continue
            node = self._probe_order[self._probe_place]
            self._probe_place += 1
            checked += 1
            member = self._members.get(node)
            if member is not None and is_due(member):
                return member, has_wrapped
        return None, has_wrapped

    def _reshuffle(self) -> None:
        order = list(self._members)
        for place in range(len(order) - 1, 0, -1):
            other = int(self._rng.random() * (place + 1))
            order[place], order[other] = order[other], order[place]
        self._probe_order = order
        self._probe_place = 0

    def sample(self, count: int, fits: Callable[[Member], bool]) -> list[Member]:
        """Up to `count` different random members for whom `fits`.

        As memberlist does: so many random tries, and no search for the last one that fits.
        """
        found: dict[str, Member] = {}
        size = len(self._order)
        for _ in range(3 * size):
            if len(found) >= count:
                break
            member = self._order[int(self._rng.random() * size)]
            if member.node not in found and fits(member):
                found[member.node] = member
        return list(found.values())

    def check_invariants(self) -> None:
        """Raise AssertionError when the tables do not fit each other."""
        assert len(self._order) == len(self._members) == len(self._places), "every member has one place"
        for place, member in enumerate(self._order):
            assert self._members[member.node] is member, f"{member.node} is filed under its name"
            assert self._places[member.node] == place, f"{member.node} stands at its place"
