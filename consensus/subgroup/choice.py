"""The next change of the group, and why."""

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from consensus.subgroup.peers import Peer, Seat, suitability, zones_of
from orca.model.ids import NodeId

_SIZES: Final = ((25, 7), (7, 5), (3, 3))
VOTERS_MAX: Final = 7
"""More than seven make writes slower and survive nothing that people plan for."""


class SubgroupConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the group is kept.

    `wanted`: number of voters, None for the one that fits the cluster's size.
    `replace_after_s`: how long a voter is believed dead before another takes its seat:
    longer than a reboot would save copying the state, shorter shortens the time in which
    one more failure stops decisions. `settle_s`: how long everybody must have been
    alive before voters are moved for the sake of zones. `pair_wait_s`: how long a learner
    that has caught up waits for a second one, so that the group skips an even size.
    """

    wanted: int | None = None
    replace_after_s: float = 60.0
    settle_s: float = 600.0
    pair_wait_s: float = 30.0

    def __post_init__(self) -> None:
        if self.wanted is not None and not (1 <= self.wanted <= VOTERS_MAX and self.wanted % 2):
            raise ValueError(f"voters is {self.wanted}; an odd number from 1 to {VOTERS_MAX} is right")


class ChangeKind(enum.Enum):
    """What to do with a peer."""

    ADD_LEARNER = "add_learner"
    PROMOTE = "promote"
    REMOVE = "remove"
    HAND_OVER = "hand_over"
    """Leadership goes to the named peer, so that this leader can give up its seat."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One step, and the sentence that `orca quorum` shows for it."""

    kind: ChangeKind
    node: NodeId
    reason: str


def target_size(nodes: int, wanted: int | None = None) -> int:
    """How many voters a cluster of `nodes` should have; never more than it has nodes, always odd."""
    size = wanted if wanted is not None else next((size for least, size in _SIZES if nodes >= least), 1)
    while size > max(1, nodes):
        size -= 2
    return size


def next_change(peers: Sequence[Peer], leader: NodeId, config: SubgroupConfig) -> Change | None:
    """The one change to make now; None when the group is as it should be, or nothing can be done.

    `peers`: all nodes of the cluster, the leader among them.
    """
    return _Choice(peers, leader, config).make()


class _Choice:
    """The rules of the package docstring, in their order."""

    def __init__(self, peers: Sequence[Peer], leader: NodeId, config: SubgroupConfig) -> None:
        ordered = sorted(peers, key=lambda peer: peer.node)
        self._leader = leader
        self._config = config
        self._voters = [peer for peer in ordered if peer.seat is Seat.VOTER]
        self._learners = [peer for peer in ordered if peer.seat is Seat.LEARNER]
        self._others = [peer for peer in ordered if peer.seat is Seat.NONE and peer.is_alive and _may_sit(peer)]
        self._target = target_size(sum(map(_may_sit, ordered)), config.wanted)
        self._lasting = [peer for peer in self._voters if not self._must_go(peer)]

    def make(self) -> Change | None:
        """The first rule that has something to say decides."""
        rules = (self._drop_learner, self._promote, self._shrink, self._fill, self._spread)
        return next((change for rule in rules if (change := rule()) is not None), None)

    def _must_go(self, peer: Peer) -> bool:
        return not _may_sit(peer) or (not peer.is_alive and peer.dead_for_s >= self._config.replace_after_s)

    def _needed(self) -> int:
        """How many voters are missing once those that must go are gone."""
        return self._target - len(self._lasting)

    def _drop_learner(self) -> Change | None:
        for peer in self._learners:
            if not peer.is_alive:
                return Change(kind=ChangeKind.REMOVE, node=peer.node, reason="it died before it could vote")
            if not _may_sit(peer):
                return Change(kind=ChangeKind.REMOVE, node=peer.node, reason=_gone(peer))
        needed = max(self._needed(), 1 if self._swap() is not None else 0)
        if len(self._learners) > needed:
            worst = max(self._learners, key=lambda peer: suitability(peer, zones_of(self._lasting)))
            return Change(kind=ChangeKind.REMOVE, node=worst.node, reason="no seat is free for it any more")
        return None

    def _promote(self) -> Change | None:
        ready = [peer for peer in self._learners if peer.has_caught_up]
        if not ready:
            return None
        if self._would_pause_at_even(ready):
            return None
        zones = zones_of(self._lasting)
        best = min(ready, key=lambda peer: suitability(peer, zones))
        leaving = [peer for peer in self._voters if self._must_go(peer)]
        reason = f"takes the seat of {leaving[0].node}" if leaving else self._why(best)
        return Change(kind=ChangeKind.PROMOTE, node=best.node, reason=reason)

    def _would_pause_at_even(self, ready: list[Peer]) -> bool:
        """Whether one promotion now would leave the group at an even size for long."""
        is_growing = len(self._voters) == len(self._lasting) and self._needed() >= 2
        waits = all(peer.learner_for_s < self._config.pair_wait_s for peer in ready)
        return is_growing and len(self._voters) % 2 == 1 and len(ready) < 2 and waits

    def _shrink(self) -> Change | None:
        """Rule 3; a voter that must go goes only when the others fill the seats, or nobody can."""
        gone = [peer for peer in self._voters if self._must_go(peer)]
        surplus = len(self._voters) - self._target
        if surplus <= 0:
            return None
        if gone and (len(self._lasting) >= self._target or not self._can_fill()):
            dead_first = sorted(gone, key=lambda peer: (peer.is_alive, peer.node == self._leader, peer.node))
            return self._remove(dead_first[0], _gone(dead_first[0]))
        if len(self._lasting) > self._target:
            return self._remove(self._least_suitable(), f"{self._target} voters are enough")
        return None

    def _can_fill(self) -> bool:
        return bool(self._others or self._learners)

    def _least_suitable(self) -> Peer:
        """Whose leaving costs least: the dead, then of the most crowded zone, then the youngest; the leader last."""

        def cost(peer: Peer) -> tuple[bool, bool, tuple[int, int, int, str]]:
            rest = zones_of(other for other in self._lasting if other.node != peer.node)
            return (not peer.is_alive, peer.node != self._leader, suitability(peer, rest))

        return max(self._lasting, key=cost)

    def _remove(self, peer: Peer, reason: str) -> Change | None:
        rest = [one for one in self._voters if one.node != peer.node]
        alive = [one for one in rest if one.is_alive]
        if not rest or len(alive) < len(rest) // 2 + 1:
            return None
        if peer.node != self._leader:
            return Change(kind=ChangeKind.REMOVE, node=peer.node, reason=reason)
        heir = min((one for one in alive if _may_sit(one)), key=self._heir_key, default=None)
        if heir is None:
            return None
        return Change(kind=ChangeKind.HAND_OVER, node=heir.node, reason=f"{peer.node} gives up its seat: {reason}")

    @staticmethod
    def _heir_key(peer: Peer) -> tuple[int, str]:
        return (peer.lag if peer.lag is not None else 2**62, peer.node)

    def _fill(self) -> Change | None:
        if len(self._learners) >= self._needed() or not self._others:
            return None
        zones = zones_of([*self._lasting, *self._learners])
        best = min(self._others, key=lambda peer: suitability(peer, zones))
        gone = [peer for peer in self._voters if self._must_go(peer)]
        reason = self._why(best)
        if gone:
            reason += f"; {gone[0].node}: {_gone(gone[0])}"
        return Change(kind=ChangeKind.ADD_LEARNER, node=best.node, reason=reason)

    def _swap(self) -> tuple[Peer, Peer] | None:
        """A voter of a crowded zone and a peer of an empty one, when everybody has been alive for long."""
        everybody = [*self._voters, *self._learners]
        is_settled = all(peer.is_alive and peer.alive_for_s >= self._config.settle_s for peer in everybody)
        if not is_settled or self._needed() > 0:
            return None
        zones = zones_of(self._voters)
        candidates = [
            peer
            for peer in [*self._learners, *self._others]
            if not zones[peer.zone] and peer.alive_for_s >= self._config.settle_s
        ]
        crowded = [peer for peer in self._voters if zones[peer.zone] > 1 and peer.node != self._leader]
        if not candidates or not crowded:
            return None
        comes = min(candidates, key=lambda peer: suitability(peer, zones))
        goes = max(crowded, key=lambda peer: (zones[peer.zone], suitability(peer, zones)))
        return goes, comes

    def _spread(self) -> Change | None:
        swap = self._swap()
        if swap is None or self._learners or len(self._voters) > self._target:
            return None
        goes, comes = swap
        reason = f"no voter stands in zone {comes.zone!r}, and several in {goes.zone!r}"
        return Change(kind=ChangeKind.ADD_LEARNER, node=comes.node, reason=reason)

    def _why(self, peer: Peer) -> str:
        parts = []
        if peer.zone and not zones_of(self._lasting)[peer.zone]:
            parts.append(f"first in zone {peer.zone!r}")
        parts.append(f"up {_span(peer.alive_for_s)}")
        parts.append(f"load {peer.load:.0%}")
        return ", ".join(parts)


def _may_sit(peer: Peer) -> bool:
    return peer.may_vote and not peer.is_leaving


def _gone(peer: Peer) -> str:
    """Why it cannot keep its seat."""
    if not peer.is_alive:
        return f"it has been dead for {_span(peer.dead_for_s)}"
    return "it is leaving" if peer.is_leaving else "it is a worker, which does not vote"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
