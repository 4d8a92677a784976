"""A few facts machines and the packets between them, with a record of what every writer ever said."""

import random

from gossip.events import Tick
from gossip.facts import (
    FactLearned,
    FactRemoved,
    Facts,
    FactsConfig,
    FactsEffect,
    FactsEvent,
    FactWritten,
    FrameReceived,
    IncarnationRaised,
    PeerAppeared,
    PeerDeparted,
    SendBulk,
    SendFacts,
)
from gossip.messages import Address
from orca.model.units import Instant

Known = dict[str, bytes]


def address_of(node: str) -> Address:
    return Address(f"10.0.0.{int(node[1:]) + 1}", 7946)


class Cluster:
    """Machines by name; `wire` holds what is on its way, in order."""

    def __init__(self, count: int, config: FactsConfig | None = None, seed: int = 1) -> None:
        self.config = config or FactsConfig()
        self.rng = random.Random(seed)
        self.now = Instant(0.0)
        self.nodes: dict[str, Facts] = {}
        self.learned: dict[str, dict[str, Known]] = {}
        self.wire: list[tuple[str, str, bytes]] = []
        self.sent: list[SendFacts | SendBulk] = []
        self.history: dict[tuple[str, int, int], Known] = {}
        self.spoken: dict[tuple[str, int], dict[str, int]] = {}
        self.lives = 0
        for number in range(count):
            self.start(f"n{number}")

    def start(self, node: str, incarnation: int | None = None) -> None:
        """A node begins, or begins anew with nothing in memory."""
        self.lives += 1
        rng = random.Random(self.rng.random())
        self.nodes[node] = Facts(self.config, node, incarnation or self.lives, rng, self.now)
        self.learned[node] = {}
        self.record(node)
        for peer in self.nodes:
            if peer != node:
                self.step(node, PeerAppeared(node=peer, address=address_of(peer)))
                self.step(peer, PeerAppeared(node=node, address=address_of(node)))

    def step(self, node: str, event: FactsEvent) -> list[FactsEffect]:
        machine = self.nodes[node]
        effects = machine.step(event, self.now)
        machine.check_invariants()
        for effect in effects:
            if isinstance(effect, SendFacts | SendBulk):
                assert len(effect.payload) <= (
                    self.config.packet_bytes_max if isinstance(effect, SendFacts) else self.config.bulk_bytes_max
                )
                assert effect.to == address_of(effect.node)
                self.wire.append((node, effect.node, effect.payload))
                self.sent.append(effect)
            elif isinstance(effect, FactLearned):
                known = self.learned[node].setdefault(effect.writer, {})
                if effect.value is None:
                    assert effect.key in known, f"{node} is told that {effect.key} vanished, which it never had"
                    del known[effect.key]
                else:
                    known[effect.key] = effect.value
            elif isinstance(effect, IncarnationRaised):
                self.lives = max(self.lives, effect.incarnation)
        if isinstance(event, FactWritten | FactRemoved) or any(isinstance(e, IncarnationRaised) for e in effects):
            self.record(node)
        return effects

    def record(self, node: str) -> None:
        """What `node` says now is what its present version means."""
        machine = self.nodes[node]
        reach = machine._own.reach
        self.history[node, reach.incarnation, reach.version] = visible(machine, node)
        spoken = self.spoken.setdefault((node, reach.incarnation), {})
        spoken.update((key, held.item.version) for key, held in machine._own.items.items())

    def write(self, node: str, key: str, value: bytes, ttl_s: float | None = None) -> None:
        self.step(node, FactWritten(key=key, value=value, ttl_s=ttl_s))

    def remove(self, node: str, key: str) -> None:
        self.step(node, FactRemoved(key=key))

    def depart(self, node: str) -> None:
        """Everybody else believes that `node` is gone."""
        for peer in self.nodes:
            if peer != node:
                self.step(peer, PeerDeparted(node=node))

    def tick(self, seconds: float = 0.25) -> None:
        self.now = Instant(self.now + seconds)
        for node in self.nodes:
            self.step(node, Tick())

    def deliver(self, place: int = 0, *, is_kept: bool = False) -> None:
        """One packet arrives; `is_kept`: and will arrive once more."""
        sender, receiver, payload = self.wire[place] if is_kept else self.wire.pop(place)
        del sender
        if receiver in self.nodes:
            self.step(receiver, FrameReceived(payload=payload))

    def run(self, seconds: float) -> None:
        """A network without faults."""
        end = self.now + seconds
        while self.now < end:
            self.tick()
            while self.wire:
                self.deliver()

    def check_truth(self) -> None:
        """Every complete state holds what its writer said at that version, and readers were told so.

        But for keys of which the writer spoke again later: a delta that was cut does not have
        what was overwritten.
        """
        for node, machine in self.nodes.items():
            for writer in machine.writers():
                state = machine._store.get(writer)
                shown = visible(machine, writer)
                assert self.learned[node].get(writer, {}) == shown, f"{node} was told something else about {writer}"
                if state.version and not state.is_partial:
                    said = self.history[writer, state.incarnation, state.version]
                    spoken = self.spoken[writer, state.incarnation]
                    for key in shown.keys() | said.keys():
                        if spoken.get(key, 0) <= state.version:
                            assert shown.get(key) == said.get(key), f"{node} is wrong about {key} of {writer}"

    def is_agreed(self) -> bool:
        """Whether all know all that the owners say."""
        return all(
            visible(machine, writer) == visible(owner, writer)
            for machine in self.nodes.values()
            for writer, owner in self.nodes.items()
        )


def visible(machine: Facts, writer: str) -> Known:
    return {fact.key: fact.value for fact in machine.facts_of(writer)}
