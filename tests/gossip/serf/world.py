"""A few Serf layers that hear each other's broadcasts, with a SWIM that always tells the truth at once."""

import random

import msgspec

from gossip.codec import Keyring
from gossip.events import Tick
from gossip.messages import MEMBERLIST_VERSION, Address
from gossip.serf import (
    Identity,
    LeaveSwim,
    PersistPeers,
    SendUser,
    Serf,
    SerfConfig,
    SerfEffect,
    SerfEvent,
    SwimLeft,
)
from orca.model.units import Instant

PACKET_ROOM_BYTES = 1300


class View(msgspec.Struct, frozen=True):
    """What SWIM knows of a member."""

    node: str
    address: Address
    meta: bytes = b"\xff\x80"
    version: bytes = MEMBERLIST_VERSION


def address_of(node: str) -> Address:
    return Address(f"10.0.0.{int(node.lstrip('abcdefghijklmnopqrstuvwxyz')) + 1}", 7946)


class World:
    """Layers by name; `effects` holds what each has told, in order."""

    def __init__(self, count: int = 0, config: SerfConfig | None = None, key: bytes | None = None) -> None:
        self.config = config or SerfConfig()
        self.rng = random.Random(5)
        self.now = Instant(0.0)
        self.key = key
        self.serfs: dict[str, Serf] = {}
        self.rings: dict[str, Keyring] = {}
        self.effects: dict[str, list[SerfEffect]] = {}
        self.cut: set[frozenset[str]] = set()
        for number in range(count):
            self.start(f"n{number}")

    def start(
        self, node: str, *, tags: dict[str, str] | None = None, saved: PersistPeers | None = None, is_known: bool = True
    ) -> Serf:
        """A node begins; with `is_known`, it and all others see each other."""
        own = Identity(node=node, address=address_of(node), version=MEMBERLIST_VERSION, tags=tags or {})
        keyring = None
        if self.key is not None:
            keyring = self.rings[node] = Keyring([self.key], lambda: self.rng.randbytes(12))
        rng = random.Random(self.rng.random())
        serf = self.serfs[node] = Serf(self.config, own, rng, self.now, keyring=keyring, saved=saved)
        self.effects[node] = []
        self.perform(node, serf.drain())
        if is_known:
            for peer, other in self.serfs.items():
                if peer != node:
                    serf.member_joined(self.view(peer), self.now)
                    other.member_joined(self.view(node), self.now)
                    self.push_pull(node, peer, is_join=True)
        return serf

    def view(self, node: str) -> View:
        serf = self.serfs.get(node)
        return View(node, address_of(node), b"\xff\x80" if serf is None else serf.meta())

    def step(self, node: str, event: SerfEvent) -> list[SerfEffect]:
        effects = self.serfs[node].step(event, self.now)
        self.perform(node, effects)
        return effects

    def perform(self, node: str, effects: list[SerfEffect]) -> None:
        self.serfs[node].check_invariants()
        for effect in effects:
            self.effects[node].append(effect)
            if isinstance(effect, SendUser):
                for peer in list(self.serfs):
                    if address_of(peer) == effect.to:
                        self.hear(peer, effect.payload, node)
            elif isinstance(effect, LeaveSwim):
                for peer, other in self.serfs.items():
                    if peer != node:
                        other.member_left(self.view(node), False, self.now)
                        self.perform(peer, other.drain())
                self.step(node, SwimLeft())

    def hear(self, node: str, payload: bytes, sender: str) -> None:
        if frozenset((node, sender)) not in self.cut:
            self.serfs[node].user_message(payload, address_of(sender), self.now)
            self.perform(node, self.serfs[node].drain())

    def push_pull(self, one: str, other: str, *, is_join: bool = False) -> None:
        states = self.serfs[one].local_state(is_join), self.serfs[other].local_state(is_join)
        self.serfs[one].merge_state(states[1], is_join, self.now)
        self.serfs[other].merge_state(states[0], is_join, self.now)
        for node in (one, other):
            self.perform(node, self.serfs[node].drain())

    def crash(self, node: str) -> None:
        """It is gone, and SWIM tells all others."""
        view = self.view(node)
        del self.serfs[node]
        for peer, other in self.serfs.items():
            other.member_left(view, False, self.now)
            self.perform(peer, other.drain())

    def run(self, seconds: float) -> None:
        """Gossip rounds of 0.2 s: each node sends one packet to three others, and ticks are in time."""
        end = self.now + seconds
        while self.now < end:
            self.now = Instant(self.now + 0.2)
            for node in list(self.serfs):
                while node in self.serfs and self.serfs[node].deadline() <= self.now:
                    self.step(node, Tick())
                peers = [peer for peer in self.serfs if peer != node]
                for peer in self.rng.sample(peers, min(3, len(peers))):
                    for payload in self.serfs[node].broadcasts(2, PACKET_ROOM_BYTES):
                        self.hear(peer, payload, node)

    def told(self, node: str, kind: type[SerfEffect]) -> list[SerfEffect]:
        """The effects of one type that `node` gave so far."""
        return [effect for effect in self.effects[node] if isinstance(effect, kind)]
