"""A network between any addresses for any payloads: it delays, loses, doubles, reorders, cuts and clogs.

Without faults it behaves as connections do: what one address sends to another arrives once and in
order. Each fault is a number in `Conditions`, or a call (`cut`, `clog`), and `NetworkCounts` says
what the faults really did: a fault that never bites proves nothing.
"""

from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from simulations.world import World

Address: TypeAlias = Hashable
P = TypeVar("P")


class Conditions(msgspec.Struct, kw_only=True):
    """How the network is at present.

    `delay_s_min` + an exponential pause of mean `delay_s_mean` is how long a message is on its way. `loss`,
    `duplication` and `reordering` are chances a message; a reordered one takes up to `reordering_s` longer and is
    overtaken by what was sent after it.
    """

    delay_s_min: float = 0.0005
    delay_s_mean: float = 0.001
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    reordering_s: float = 0.2


class NetworkCounts(msgspec.Struct, kw_only=True):
    """What happened to messages. `overtaken`: arrived after one that was sent later on the same way.

    `slow`: took more than 50 ms. `unattended`: nobody listened when it arrived.
    """

    sent: int = 0
    bytes_sent: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    overtaken: int = 0
    cut: int = 0
    cut_one_way: int = 0
    clogged: int = 0
    unattended: int = 0
    slow: int = 0


class _Way(NamedTuple):
    sender: Address
    to: Address


class _Traffic:
    """What a network remembers of one way."""

    __slots__ = ("clogged_until", "last_arrival", "last_delivered", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.last_delivered = 0
        self.last_arrival = 0.0
        self.clogged_until = 0.0


class Network(Generic[P]):
    """Carries payloads between addresses that are attached."""

    def __init__(self, world: World, conditions: Conditions | None = None, name: str = "network") -> None:
        self.conditions = conditions or Conditions()
        self.counts = NetworkCounts()
        self._world = world
        self._chance = world.chance(name)
        self._receivers: dict[Address, Callable[[Address, P], None]] = {}
        self._traffic: dict[_Way, _Traffic] = {}
        self._cuts: dict[_Way, None] = {}

    def attach(self, address: Address, receive: Callable[[Address, P], None]) -> None:
        """From now on `receive(sender, payload)` gets what is sent to `address`."""
        self._receivers[address] = receive

    def detach(self, address: Address) -> None:
        """Nobody listens at `address` any more; what is on its way there is dropped."""
        self._receivers.pop(address, None)

    def send(self, sender: Address, to: Address, payload: P, size: int = 0) -> bool:
        """Send it; whether anybody listens there now, which says nothing about the arrival."""
        self.counts.sent += 1
        self.counts.bytes_sent += size
        if self._is_cut(sender, to):
            return True
        if self._chance.happens(self.conditions.loss):
            self.counts.lost += 1
            return True
        self._dispatch(sender, to, payload)
        if self._chance.happens(self.conditions.duplication):
            self.counts.duplicated += 1
            self._dispatch(sender, to, payload)
        return to in self._receivers

    def cut(self, sender: Address, to: Address) -> None:
        """Nothing gets from `sender` to `to`; the other direction is another call."""
        self._cuts[_Way(sender, to)] = None

    def mend(self, sender: Address, to: Address) -> None:
        """Undo `cut`."""
        self._cuts.pop(_Way(sender, to), None)

    def clog(self, sender: Address, to: Address, until: float) -> None:
        """Nothing arrives before `until`; then everything that was sent meanwhile does, in a burst."""
        traffic = self._on_the_way(sender, to)
        traffic.clogged_until = max(traffic.clogged_until, until)

    def heal(self) -> None:
        """Everything that was cut is mended, and nothing is clogged any more from now on."""
        self._cuts.clear()
        for traffic in self._traffic.values():
            traffic.clogged_until = 0.0

    def is_cut(self, sender: Address, to: Address) -> bool:
        """Whether nothing gets from `sender` to `to`."""
        return _Way(sender, to) in self._cuts

    def _is_cut(self, sender: Address, to: Address) -> bool:
        if not self.is_cut(sender, to):
            return False
        self.counts.cut += 1
        self.counts.cut_one_way += not self.is_cut(to, sender)
        return True

    def _on_the_way(self, sender: Address, to: Address) -> _Traffic:
        way = _Way(sender, to)
        traffic = self._traffic.get(way)
        if traffic is None:
            traffic = self._traffic[way] = _Traffic()
        return traffic

    def _dispatch(self, sender: Address, to: Address, payload: P) -> None:
        traffic = self._on_the_way(sender, to)
        conditions, now = self.conditions, self._world.now
        pause_s = self._chance.pause_s(conditions.delay_s_mean)
        self.counts.slow += pause_s > 0.05
        arrival = now + conditions.delay_s_min + pause_s
        if arrival < traffic.clogged_until:
            self.counts.clogged += 1
            arrival = traffic.clogged_until
        if self._chance.happens(conditions.reordering):
            arrival += self._chance.random() * conditions.reordering_s
        else:
            arrival = traffic.last_arrival = max(arrival, traffic.last_arrival)
        traffic.sent += 1
        number = traffic.sent
        self._world.at(arrival, lambda: self._deliver(sender, to, payload, number))

    def _deliver(self, sender: Address, to: Address, payload: P, number: int) -> None:
        if self._is_cut(sender, to):
            return
        receive = self._receivers.get(to)
        if receive is None:
            self.counts.unattended += 1
            return
        traffic = self._on_the_way(sender, to)
        self.counts.overtaken += number < traffic.last_delivered
        traffic.last_delivered = max(traffic.last_delivered, number)
        self.counts.delivered += 1
        receive(sender, payload)
