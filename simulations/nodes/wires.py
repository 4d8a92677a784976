"""Connections between nodes, as the mesh gives them: in order and whole, or broken."""

from collections.abc import Callable
from typing import Final

from node.mesh.purpose import Purpose
from orca.model.ids import NodeId
from simulations.network import Network
from simulations.world import World

HANDSHAKE: Final = 3
"""One-way trips until the first payload may leave."""
RETRANSMIT_S: Final = 0.2
"""Linux waits at least so long for a lost segment, and twice as long for the next."""
SILENCE_S: Final = 5.0
"""After so long without a word an end takes a connection for broken."""

Hear = Callable[[bytes], None]
Accept = Callable[["Wire", NodeId, Purpose], None]


class Wire:
    """One connection. Each end sets `on_payload` and `on_broken` for itself; a broken one carries nothing more."""

    def __init__(self, wires: "Wires", opener: NodeId, to: NodeId) -> None:
        self.is_open = True
        self.on_payload: dict[NodeId, Hear] = {}
        self.on_broken: dict[NodeId, Callable[[], None]] = {}
        self.opener = opener
        self.to = to
        self._wires = wires
        self._last_arrival: dict[NodeId, float] = {}

    def other(self, node: NodeId) -> NodeId:
        """Who is at the other end."""
        return self.to if node == self.opener else self.opener

    def send(self, sender: NodeId, payload: bytes) -> None:
        """Put it on its way; what is sent on a broken connection is lost."""
        if self.is_open:
            self._wires.carry(self, sender, payload)

    def close(self) -> None:
        """End it; the other end hears of it."""
        self._wires.end(self)

    def arrival(self, sender: NodeId, at: float) -> float:
        """When what is sent now arrives: not before what was sent before it."""
        self._last_arrival[sender] = at = max(at, self._last_arrival.get(sender, 0.0))
        return at


class Wires:
    """All connections. They share the `network` of Raft's messages: its cuts break them, its losses delay them."""

    def __init__(self, world: World, network: Network[bytes]) -> None:
        self._world = world
        self._network = network
        self._chance = world.chance("wires")
        self._listeners: dict[NodeId, Accept] = {}
        self._open: dict[NodeId, dict[Wire, None]] = {}

    def attach(self, node: NodeId, accept: Accept) -> None:
        """From now on `accept` gets the connections that are made to `node`."""
        self._listeners[node] = accept

    def detach(self, node: NodeId) -> None:
        """The process is gone: its connections are reset."""
        self._listeners.pop(node, None)
        for wire in list(self._open.pop(node, ())):
            wire.on_broken.pop(node, None)
            self.end(wire)

    def open(self, opener: NodeId, to: NodeId, purpose: Purpose) -> Wire:
        """Begin one; what is sent on it at once arrives after the handshake. It breaks when nobody is there."""
        wire = Wire(self, opener, to)
        self._open.setdefault(opener, {})[wire] = None
        at = wire.arrival(opener, self._world.now + self._travel_s(HANDSHAKE))
        self._world.at(at, lambda: self._accept(wire, purpose))
        return wire

    def _accept(self, wire: Wire, purpose: Purpose) -> None:
        if not wire.is_open or self._is_cut(wire):
            return
        accept = self._listeners.get(wire.to)
        if accept is None:
            self.end(wire)
            return
        self._open.setdefault(wire.to, {})[wire] = None
        accept(wire, wire.opener, purpose)

    def carry(self, wire: Wire, sender: NodeId, payload: bytes) -> None:
        """Bring `payload` to the other end."""
        to = wire.other(sender)
        at = wire.arrival(sender, self._world.now + self._travel_s(1))

        def arrive() -> None:
            if wire.is_open and not self._is_cut(wire):
                self._world.note(f"{sender} says to {to}", payload)
                hear = wire.on_payload.get(to)
                if hear is not None:
                    hear(payload)

        self._world.at(at, arrive)

    def end(self, wire: Wire, after_s: float | None = None) -> None:
        """It carries nothing more; the ends that still live hear of it after a trip, or after `after_s`."""
        if not wire.is_open:
            return
        wire.is_open = False
        for node in (wire.opener, wire.to):
            self._open.get(node, {}).pop(wire, None)
        self._world.after(self._travel_s(1) if after_s is None else after_s, lambda: _tell(wire))

    def _is_cut(self, wire: Wire) -> bool:
        """Either direction: a connection needs both. It ends then, which the ends learn from silence only."""
        is_cut = self._network.is_cut(wire.opener, wire.to) or self._network.is_cut(wire.to, wire.opener)
        if is_cut:
            self.end(wire, SILENCE_S)
        return is_cut

    def _travel_s(self, trips: int) -> float:
        conditions = self._network.conditions
        total_s = 0.0
        for _ in range(trips):
            total_s += conditions.delay_s_min + self._chance.pause_s(conditions.delay_s_mean)
            again_s = RETRANSMIT_S
            while self._chance.happens(conditions.loss):
                total_s += again_s
                again_s *= 2
        return total_s


def _tell(wire: Wire) -> None:
    for node in (wire.opener, wire.to):
        broken = wire.on_broken.pop(node, None)
        if broken is not None:
            broken()
