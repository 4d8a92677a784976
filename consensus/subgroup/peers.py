"""What the leader knows of each peer when it chooses voters, and how it ranks them."""

import enum
import math
from collections import Counter
from collections.abc import Iterable

import msgspec

from orca.model.ids import NodeId


class Seat(enum.Enum):
    """A peer's place in the group."""

    VOTER = "voter"
    LEARNER = "learner"
    NONE = "none"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the cluster, as the leader sees it.

    `alive_for_s`: how long it has been believed alive without a break; 0 for a dead one.
    `dead_for_s`: how long it has been believed dead; 0 for a living one.
    `load`: 0 idle to 1 full. `lag`: entries that it has yet to store; None when unknown.
    `has_caught_up`: it stores entries about as fast as they are made.
    `is_leaving`: it was told to go, or to take no duties. `may_vote`: False for one that was admitted to
    work only; it never gets a seat, gives up one that it has, and does not count for the size of the group.
    """

    node: NodeId
    zone: str = ""
    seat: Seat = Seat.NONE
    is_alive: bool = True
    alive_for_s: float = 0.0
    dead_for_s: float = 0.0
    load: float = 0.0
    lag: int | None = None
    has_caught_up: bool = False
    is_leaving: bool = False
    may_vote: bool = True
    learner_for_s: float = 0.0


def zones_of(peers: Iterable[Peer]) -> Counter[str]:
    """How many of `peers` stand in each zone."""
    return Counter(peer.zone for peer in peers)


def suitability(peer: Peer, zones: Counter[str]) -> tuple[int, int, int, str]:
    """A sort key: the smallest is the best addition to a group that stands in `zones`."""
    stability = int(math.log2(1 + max(0.0, peer.alive_for_s) / 60))
    load = min(4, max(0, int(peer.load * 4)))
    return (zones[peer.zone], -stability, load, peer.node)
