"""All nodes of a simulated cluster, and what connects them."""

import base64
from collections.abc import Callable, Iterable
from typing import Any, Final

from consensus.scheduler.beliefs import Beliefs
from consensus.state.cluster import ClusterState
from consensus.state.commands import Command
from consensus.state.records import NodeRecord
from consensus.state.snapshot import encode_snapshot
from consensus.storage import HardState, LogWrite, Membership, Snapshot, SnapshotMeta
from consensus.subgroup import target_size
from gossip.machine import config_of
from gossip.swim import ORCA
from orca.model.ids import LogIndex, NodeId, StateRevision, Term
from orca.model.node import NodeFacts
from orca.model.units import Bytes, MilliCpu, WallMs
from simulations.judge import Judge
from simulations.members.group import Group
from simulations.members.member import Member
from simulations.network import Network
from simulations.nodes.engine import Container
from simulations.nodes.node import EPOCH_MS, Computer, Session
from simulations.nodes.replica import NodeTuning, ReplicaShell
from simulations.nodes.wires import Wires
from simulations.world import Chance, World

CPU_MILLI: Final = 4000
MEMORY_BYTES: Final = 8 * 2**30
Way = tuple[NodeId, NodeId]


class Ids:
    """Ids that nobody made before, by chance."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def fresh(self) -> str:
        """Twelve lower-case base-32 characters."""
        return base64.b32encode(self._chance.randbytes(8)).decode().lower()[:12]


class Listeners:
    """Who hears what happens: containers that start and end, and plans that leaders make."""

    def __init__(self) -> None:
        self.containers: list[Callable[[Computer, str, Container], None]] = []
        self.plans: list[Callable[[Computer, Command, Beliefs], None]] = []

    def tell_container(self, computer: Computer, word: str, container: Container) -> None:
        """Tell all."""
        for hear in self.containers:
            hear(computer, word, container)

    def tell_plan(self, computer: Computer, command: Command, beliefs: Beliefs) -> None:
        """Tell all."""
        for hear in self.plans:
            hear(computer, command, beliefs)


class Cluster:
    """`count` computers, all admitted; the first of them are the voters."""

    def __init__(
        self,
        world: World,
        count: int,
        judge: Judge,
        tuning: NodeTuning,
        *,
        computer_type: type[Computer] = Computer,
        replica_type: type[ReplicaShell] = ReplicaShell,
    ) -> None:
        self.world = world
        self.listeners = Listeners()
        self.group = Group(world, config_of(ORCA))
        self.group.listeners.append(self._heard)
        self.network: Network[bytes] = Network(world, name="mesh")
        self.wires = Wires(world, self.network)
        self.computers: dict[NodeId, Computer] = {}
        names = [NodeId(f"n{number}") for number in range(1, count + 1)]
        first = _first_write(names)
        for name in names:
            member = self.group.add()
            assert member.node == name, "members are counted as nodes are"
            ids = Ids(world.chance(f"{name}/ids"))
            replica = replica_type(name, frozenset(), world, self.network, judge, tuning, ids)
            replica.disk.write(first)
            self.computers[name] = computer_type(
                _facts(name),
                world,
                member,
                replica,
                self.wires,
                watch=self.listeners.tell_container,
                planned=self.listeners.tell_plan,
            )

    def _heard(self, member: Member, news: Any) -> None:
        session = self.computers[NodeId(member.node)].session
        if session is not None:
            session.life.do(lambda: session.heard(news))

    def start(self, computer: Computer) -> None:
        """Begin a life of it; it looks for the others."""
        others = (one for one in self.computers.values() if one is not computer)
        computer.start({one.node: one.member.address for one in others})

    def start_all(self) -> None:
        """Begin with all that are not gone for good."""
        for computer in self.computers.values():
            self.start(computer)

    @property
    def sessions(self) -> list[Session]:
        """The lives of now."""
        return [one.session for one in self.computers.values() if one.session is not None]

    @property
    def leader(self) -> Computer | None:
        """Who leads the highest term, and has carried out all that was committed before it."""
        leaders = [one for one in self.computers.values() if one.replica.leads_knowingly]
        return max(leaders, key=lambda one: one.replica.machine.term) if leaders else None

    def cut(self, ways: Iterable[Way]) -> None:
        """Nothing gets there on these ways, neither gossip nor mesh."""
        for sender, to in ways:
            self.network.cut(sender, to)
            self.group.network.cut(self.computers[sender].member.address, self.computers[to].member.address)

    def mend(self, ways: Iterable[Way]) -> None:
        """Undo `cut`."""
        for sender, to in ways:
            self.network.mend(sender, to)
            self.group.network.mend(self.computers[sender].member.address, self.computers[to].member.address)


def _facts(name: NodeId) -> NodeFacts:
    return NodeFacts(
        id=name,
        name=str(name),
        version="simulated",
        architecture="x86_64",
        cpu_milli=MilliCpu(CPU_MILLI),
        memory_bytes=Bytes(MEMORY_BYTES),
    )


def _first_write(names: list[NodeId]) -> LogWrite:
    """What is on every disk at the start: all nodes are admitted, and the first of them vote."""
    state = ClusterState(revision=StateRevision(1), plan_revision=StateRevision(1))
    for name in names:
        state.nodes[name] = NodeRecord(id=name, name=str(name), admitted_at_ms=WallMs(EPOCH_MS))
    voters = tuple(sorted(names[: target_size(len(names))]))
    meta = SnapshotMeta(last_index=LogIndex(1), last_term=Term(1), membership=Membership(voters=voters))
    snapshot = Snapshot(meta=meta, payload=encode_snapshot(state))
    return LogWrite(hard_state=HardState(term=Term(1)), snapshot=snapshot, commit_index=LogIndex(1))
