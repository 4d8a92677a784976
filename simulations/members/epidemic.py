"""One change in a cluster too large to simulate whole: only the packets that bear on it are drawn.

In a quiet cluster a packet without news changes nothing, so the model holds, for each member, which claim it has
about the one member in question, how often it has sent that, and when it gossips and probes. That is all that the
spread of a change or the detection of a crash depends on; `scale` checks it against whole members.

What is simplified: a member probes a random one instead of the next of its list; push/pull, rare in large clusters,
only reaches those whom the epidemic missed; all are well.
"""

import heapq
import math
from typing import Final, NamedTuple

from gossip.swim import SwimConfig
from gossip.swim.exchange import SCALE_FROM
from gossip.swim.suspicion import suspicion_min_s, suspicion_timeout_s
from gossip.transmit_queue import transmit_limit
from simulations.world import Chance

DELAY_S: Final = 0.001
PROBED_FOR_S: Final = 150.0


class _Gossip(NamedTuple):
    """It is `member`'s turn to gossip."""

    member: int


class _Probe(NamedTuple):
    """It is `member`'s turn to probe; its ping, and an ack to whoever probes it, carry what it has to say."""

    member: int


class _Suspicion(NamedTuple):
    """The suspicion of `member` may be over."""

    member: int


class _Accusation(NamedTuple):
    """A probe of `member` ends without an answer of the dead."""

    member: int


class _Arrival(NamedTuple):
    """A packet with `claim` comes to `member`."""

    member: int
    claim: int


class Spread:
    """How a claim travels from member 0 to all of `members`; `learned_s` holds when each had it."""

    def __init__(self, members: int, swim: SwimConfig, chance: Chance, loss: float = 0.0) -> None:
        self.members = members
        self.learned_s: dict[int, float] = {}
        self.packets = 0
        self._swim = swim
        self._chance = chance
        self._loss = loss
        self._limit = transmit_limit(swim.retransmit_multiplier, members)
        self._left: dict[int, int] = {}
        self._running: dict[int, None] = {}
        self._queue: list[tuple[float, int, NamedTuple]] = []
        self._serial = 0
        self._now = 0.0

    def run(self) -> float:
        """Seconds until the last member has it."""
        self.hear(0, 0)
        return self._finish()

    def hear(self, member: int, claim: int) -> None:
        """A packet with `claim` reaches `member`."""
        if member not in self.learned_s:
            self.learned_s[member] = self._now
            self._say(member)

    def claim_of(self, member: int) -> int:
        """What it says at present."""
        return 0

    def _finish(self) -> float:
        self._run()
        interval_s = self._swim.push_pull_interval_s
        if self.members > SCALE_FROM:
            interval_s *= math.ceil(math.log2(self.members / SCALE_FROM)) + 1
        for member in range(self.members):
            if member not in self.learned_s:  # it starts one each interval, and as often another one with it
                self.learned_s[member] = self._now + self._chance.random() * interval_s / 2
        return max(self.learned_s.values())

    def _run(self) -> None:
        while self._queue and len(self.learned_s) < self.members:
            self._now, _, turn = heapq.heappop(self._queue)
            match turn:
                case _Gossip(member):
                    self._gossip(member)
                case _Probe(member):
                    self._probe(member)
                case _Suspicion(member):
                    self.suspicion_over(member)
                case _Accusation(member):
                    self.hear(member, member)
                case _Arrival(member, claim):
                    self.hear(member, claim)

    def suspicion_over(self, member: int) -> None:
        """Nobody is suspected."""

    def _at(self, when: float, turn: NamedTuple) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (when, self._serial, turn))

    def _say(self, member: int) -> None:
        """It has something new to send; its turns come at times that have nothing to do with that."""
        self._left[member] = self._limit
        if member not in self._running:
            self._running[member] = None
            self._at(self._now + self._chance.random() * self._swim.gossip_interval_s, _Gossip(member))
            self._at(self._now + self._chance.random() * self._swim.probe_interval_s, _Probe(member))

    def _gossip(self, member: int) -> None:
        for _ in range(self._swim.gossip_nodes):
            self._send(member)
        if self._left[member] > 0:
            self._at(self._now + self._swim.gossip_interval_s, _Gossip(member))
        else:
            del self._running[member]

    def _probe(self, member: int) -> None:
        if self._left[member] > 0 and member in self._running:
            self._send(member)
            self._send(member)
            self._at(self._now + self._swim.probe_interval_s, _Probe(member))

    def _send(self, member: int) -> None:
        if self._left[member] <= 0:
            return
        self._left[member] -= 1
        self.packets += 1
        to = int(self._chance.random() * self.members)
        if to != member and not self._chance.happens(self._loss):
            self._at(self._now + DELAY_S, _Arrival(to, self.claim_of(member)))


class Detection(Spread):
    """How the crash of one more member is found; `learned_s` holds when each of the others declared it dead.

    A claim is the number of the accuser, or `DEAD`.
    """

    DEAD: Final = -1

    def __init__(self, members: int, swim: SwimConfig, chance: Chance, loss: float = 0.0) -> None:
        super().__init__(members, swim, chance, loss)
        self.first_s = math.inf
        self._claims: dict[int, int] = {}
        self._accusers: dict[int, list[int]] = {}
        self._suspected_at: dict[int, float] = {}
        self._minimum_s = suspicion_min_s(swim.suspicion_multiplier, members + 1, swim.probe_interval_s)
        self._expected = swim.confirmations_max if members - 1 >= swim.confirmations_max else 0

    def run(self) -> float:
        """Seconds from the crash until the last of the others declared it dead."""
        wait_s = 0.0
        while wait_s < PROBED_FOR_S:
            # All others probe someone each interval: they meet the dead one as often as one of them probes.
            wait_s += self._chance.pause_s(self._swim.probe_interval_s)
            self._at(wait_s + self._swim.probe_interval_s, _Accusation(int(self._chance.random() * self.members)))
        return self._finish()

    def hear(self, member: int, claim: int) -> None:
        """A claim about the dead reaches `member`."""
        if member in self.learned_s:
            return
        if claim == self.DEAD:
            self._bury(member)
            return
        accusers = self._accusers.get(member)
        if accusers is None:
            self._accusers[member] = [claim]
            self._suspected_at[member] = self._now
        elif claim in accusers or len(accusers) > self._expected:
            return
        else:
            accusers.append(claim)
        self._claims[member] = claim
        self._say(member)
        self._at(max(self._now, self._ends_at(member)), _Suspicion(member))

    def _ends_at(self, member: int) -> float:
        confirmations = len(self._accusers[member]) - 1
        longest_s = self._swim.suspicion_max_multiplier * self._minimum_s
        wait_s = suspicion_timeout_s(confirmations, self._expected, self._minimum_s, longest_s)
        return self._suspected_at[member] + wait_s

    def suspicion_over(self, member: int) -> None:
        """Bury, unless it was too early: a confirmation leaves the old time behind."""
        if member not in self.learned_s and self._now >= self._ends_at(member) - 1e-9:
            self._bury(member)

    def claim_of(self, member: int) -> int:
        """The newest that it took in."""
        return self.DEAD if member in self.learned_s else self._claims[member]

    def _bury(self, member: int) -> None:
        self.learned_s[member] = self._now
        self.first_s = min(self.first_s, self._now)
        self._say(member)
