"""Several drivers on one virtual clock, with links that can be cut: no thread, no socket, no disk."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from consensus.driver import ReplicaDriver
from consensus.raft import Message
from consensus.replica import AppliedCommand, Replica
from consensus.scheduler.beliefs import Beliefs
from consensus.state.cluster import Outcome
from consensus.state.commands import AdmitNode
from consensus.storage import LoadedLog, LogWrite, MemoryLogStore
from node.bell import Bell
from orca.model.ids import NodeId
from orca.model.units import Instant, WallMs
from tests.consensus.intent import CountingIds


class Clock:
    def now(self) -> Instant:
        return Instant(trio.current_time())

    def wall(self) -> WallMs:
        return WallMs(round(trio.current_time() * 1000))


class Peer:
    """One node: its store, its driver while it runs, and what it was told."""

    def __init__(self, group: "Group", name: str, voters: frozenset[NodeId]) -> None:
        self.group = group
        self.node = NodeId(name)
        self.voters = voters
        self.store = MemoryLogStore()
        self.scope = trio.CancelScope()
        self.applied_names: list[str] = []
        self.restores = 0
        self.outranked_by: list[int] = []
        self.lost = LoadedLog()
        self.regrouped, self.decided = Bell(), Bell()
        """Rung as a node's wiring does."""
        self.driver = self.make()

    def make(self) -> ReplicaDriver:
        replica = Replica(
            self.node,
            self.voters,
            self.store.load(),
            random.Random(self.group.rng.random()),
            CountingIds(),
            log_entries_kept=self.group.log_entries_kept,
        )
        return ReplicaDriver(
            replica,
            Clock(),
            write=self.write,
            load=self.load,
            beliefs=Beliefs,
            listener=self,
            transport=_Wire(self.group, self.node),
            offload=at_once,
        )

    async def write(self, batch: LogWrite) -> None:
        await at_once(self.store.write, batch)

    def load(self) -> LoadedLog:
        return self.store.load()

    def applied(self, commands: list[AppliedCommand]) -> None:
        self.decided.ring()
        self.applied_names += [one.command.name for one in commands if isinstance(one.command, AdmitNode)]

    def restored(self) -> None:
        self.decided.ring()
        self.restores += 1

    def group_changed(self) -> None:
        self.regrouped.ring()
        self.decided.ring()

    def outranked(self, epoch: int) -> None:
        self.outranked_by.append(epoch)
        self.group.nursery.start_soon(self.driver.start_blank, self.set_aside, epoch)

    def set_aside(self) -> None:
        self.lost = self.store.load()
        self.store.reset()

    def noted(self, message: str) -> None: ...

    def store_refused(self, reason: str) -> None: ...

    async def run(self) -> None:
        with self.scope:
            await self.driver.run()

    def crash(self) -> None:
        self.scope.cancel()
        self.store = self.store.crash()

    def restart(self) -> None:
        self.scope = trio.CancelScope()
        self.driver = self.make()
        self.group.nursery.start_soon(self.run)

    async def admit(self, name: str, deadline_s: float = 10.0) -> Outcome:
        command = AdmitNode(node=NodeId(f"n-{name}"), name=name, at_ms=WallMs(0))
        return await self.driver.propose(command, deadline_s=deadline_s)

    @property
    def names(self) -> set[str]:
        return {record.name for record in self.driver.state.nodes.values()}


async def at_once(function: Callable[..., Any], *args: Any) -> Any:
    """Not in a thread, which a virtual clock does not wait for; a disk takes a millisecond."""
    await trio.sleep(0.001)
    return function(*args)


class _Wire:
    def __init__(self, group: "Group", sender: NodeId) -> None:
        self._group = group
        self._sender = sender

    def send(self, to: NodeId, message: Message) -> None:
        self._group.carry(self._sender, to, message)

    def flush(self) -> None:
        """It is on its way already."""


class Group:
    def __init__(self, nursery: trio.Nursery, *, log_entries_kept: int = 2000) -> None:
        self.nursery = nursery
        self.rng = random.Random(5)
        self.log_entries_kept = log_entries_kept
        self.peers: dict[NodeId, Peer] = {}
        self.cut: Callable[[NodeId, NodeId], bool] = lambda _source, _target: False

    def carry(self, sender: NodeId, to: NodeId, message: Message) -> None:
        async def arrive() -> None:
            await trio.sleep(0.002)
            if to in self.peers and not self.cut(sender, to):
                self.peers[to].driver.receive(sender, message)

        self.nursery.start_soon(arrive)

    def add(self, name: str, voters: frozenset[NodeId]) -> Peer:
        peer = self.peers[NodeId(name)] = Peer(self, name, voters)
        self.nursery.start_soon(peer.run)
        return peer

    async def leader(self) -> Peer:
        with trio.fail_after(30):
            while True:
                leaders = [
                    peer for peer in self.peers.values() if peer.driver.is_leader and not peer.scope.cancel_called
                ]
                newest = max(leaders, key=lambda peer: peer.driver.raft.term, default=None)
                if newest is not None:
                    return newest
                await trio.sleep(0.05)

    def isolate(self, peer: Peer) -> None:
        self.cut = lambda source, target: peer.node in (source, target)

    def heal(self) -> None:
        self.cut = lambda _source, _target: False


async def until(is_so: Callable[[], bool], what: str) -> None:
    with trio.move_on_after(30):
        while not is_so():  # noqa: ASYNC110 - a virtual clock passes it at once
            await trio.sleep(0.02)
        return
    raise AssertionError(f"never: {what}")


@asynccontextmanager
async def group(count: int = 3, **settings: int) -> AsyncIterator[tuple[Group, list[Peer]]]:
    async with trio.open_nursery() as nursery:
        made = Group(nursery, **settings)
        voters = frozenset(NodeId(f"v{number}") for number in range(count))
        peers = [made.add(f"v{number}", voters) for number in range(count)]
        await made.leader()
        yield made, peers
        for peer in peers:
            peer.driver.raft.check_invariants()
        nursery.cancel_scope.cancel()
