"""Lost peers are dialled for ever, so that any partition heals by itself.

memberlist forgets the dead and Serf gives up on them after a day, with tries so rare that
two halves may stay apart for hours. Here every lost peer is dialled at least every
`PERIOD_MAX_S` by somebody: the delay after the loss doubles from `PERIOD_MIN_S` to
`PERIOD_MAX_S` and stays there. In a large group not everybody has to: each of n living
members dials with probability `DIALLERS / n`, so that about eight do in each period
and the chance that none does in a minute is e^-16. Whoever is cut off
alone sees few living members and always dials. So a partition is left behind within 60 s
of its repair, however long it lasted.

The table is bounded and paced: `PEERS_MAX` peers at `DIALS_PER_S` fit one period. When
it is full the peer that was lost first is forgotten: in a long partition one survivor of
the other side is enough to find all the others.
"""

from typing import Final, NamedTuple

import msgspec

from gossip.messages import Address
from orca.model.units import Instant
from orca.sources import Rng

PERIOD_MIN_S: Final = 4.0
PERIOD_MAX_S: Final = 30.0
DIALLERS: Final = 8
DIALS_PER_S: Final = 8
PEERS_MAX: Final = 240
_NEVER: Final = Instant(float("inf"))


class Dial(NamedTuple):
    """Join `node` at `address`, once."""

    node: str
    address: Address


class _Lost(msgspec.Struct):
    """A peer that does not answer; changed in place."""

    address: Address
    lost_at: Instant
    due_at: Instant
    period_s: float


class Redialler:
    """Knows which lost peers to dial when."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._lost: dict[str, _Lost] = {}
        self._free_at = Instant(float("-inf"))

    def __contains__(self, node: str) -> bool:
        return node in self._lost

    def peers(self) -> list[Dial]:
        """Every lost peer, by name."""
        return [Dial(node, self._lost[node].address) for node in sorted(self._lost)]

    def lose(self, node: str, address: Address, now: Instant, *, is_urgent: bool = False) -> None:
        """Start to dial `node`; `is_urgent` (a peer of our life before a restart): the first time at once.

        A node that is already there keeps its rhythm and takes the address.
        """
        known = self._lost.get(node)
        if known is not None:
            known.address = address
            return
        if len(self._lost) >= PEERS_MAX:
            first = min(self._lost, key=lambda node: (self._lost[node].lost_at, node))
            del self._lost[first]
        delay_s = self._rng.uniform(0.0, 0.5) if is_urgent else self._spread(PERIOD_MIN_S)
        self._lost[node] = _Lost(address=address, lost_at=now, due_at=Instant(now + delay_s), period_s=PERIOD_MIN_S)

    def find(self, node: str) -> None:
        """`node` is here again, or has left for good: no need to dial it."""
        self._lost.pop(node, None)

    def find_at(self, address: Address) -> None:
        """Somebody lives at `address`, maybe under a new name: whom we looked for there is gone."""
        for node in [node for node, peer in self._lost.items() if peer.address == address]:
            del self._lost[node]

    def deadline(self) -> Instant:
        """When `due` will have something to decide."""
        if not self._lost:
            return _NEVER
        return max(self._free_at, min(peer.due_at for peer in self._lost.values()))

    def due(self, now: Instant, living: int) -> Dial | None:
        """The peer to dial now, if any; `living` members, ourselves included, share the work.

        One at a time: ask again at `deadline()`.
        """
        if now < self._free_at:
            return None
        for node in sorted(self._lost, key=lambda node: (self._lost[node].due_at, node)):
            peer = self._lost[node]
            if peer.due_at > now:
                return None
            peer.period_s = min(PERIOD_MAX_S, peer.period_s * 2)
            peer.due_at = Instant(now + self._spread(peer.period_s))
            if self._rng.random() < DIALLERS / max(DIALLERS, living):
                self._free_at = Instant(now + 1.0 / DIALS_PER_S)
                return Dial(node, peer.address)
        return None

    def check_invariants(self) -> None:
        """Raise AssertionError when the table is out of bounds."""
        assert len(self._lost) <= PEERS_MAX, f"{len(self._lost)} lost peers, {PEERS_MAX} allowed"
        assert all(peer.period_s <= PERIOD_MAX_S for peer in self._lost.values()), "no period above the longest"

    def _spread(self, period_s: float) -> float:
        """A little early, so that those who lost a peer together do not dial it together."""
        return self._rng.uniform(0.75 * period_s, period_s)
