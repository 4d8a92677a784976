"""One computer with a node on it, over all its lives: what `node.agent` and `node.wiring` join, joined here."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from consensus.commits import UNLED_START_S, knows_enough
from consensus.replica import AppliedCommand
from consensus.scheduler.beliefs import Beliefs
from consensus.state.commands import Command
from gossip.facts import FactLearned, FactRemoved
from gossip.messages import Address
from gossip.serf import MemberStatus, StatusChange
from gossip.serf.effects import StatusChanged as MembersChanged
from node.believed import Believed
from node.health.verdict import HealthTransition
from node.linking import OwnCopies, is_final, verdict_of
from node.membership.facts import NODE_KEY, KnownFacts, fact_of, status_key
from node.membership.sighting import Sighting
from node.mesh.purpose import Purpose
from node.reconciler.events import (
    Assignment,
    Happened,
    RuntimeReported,
    StartProbes,
    StatusChanged,
    StatusDropped,
    StopProbes,
)
from node.reconciler.machine import Reconciler
from node.runtime.base import RuntimeEvent, RuntimeStateChanged
from orca.config import ReconcilerConfig
from orca.model.allocation import AllocationStatus
from orca.model.ids import AllocationId, NodeId
from orca.model.node import NodeFacts
from orca.model.units import Instant, WallMs
from orca.model.view import MemberState
from simulations.members.member import Member
from simulations.nodes.copies import CopyShell
from simulations.nodes.engine import Container, Engine
from simulations.nodes.feed import Feed
from simulations.nodes.ingress import Ingress
from simulations.nodes.keeper import GroupShell
from simulations.nodes.life import Life
from simulations.nodes.prober import Prober
from simulations.nodes.replica import ReplicaShell
from simulations.nodes.wires import Wire, Wires
from simulations.world import World

EPOCH_MS: Final = 1_800_000_000_000
_HERE: Final = frozenset({MemberStatus.ALIVE, MemberStatus.LEAVING})
_STATES: Final = {
    MemberStatus.ALIVE: MemberState.ALIVE,
    MemberStatus.LEAVING: MemberState.LEAVING,
    MemberStatus.LEFT: MemberState.LEFT,
    MemberStatus.FAILED: MemberState.FAILED,
}


class Computer:
    """What outlives the node's process: its disk, its engine, its clocks. `session` is the present life, if any."""

    reconciler_type: type[Reconciler] = Reconciler

    def __init__(
        self,
        facts: NodeFacts,
        world: World,
        member: Member,
        replica: ReplicaShell,
        wires: Wires,
        *,
        watch: Callable[["Computer", str, Container], None],
        planned: Callable[["Computer", Command, Beliefs], None],
    ) -> None:
        self.node = facts.id
        self.facts = facts
        self.world = world
        self.member = member
        self.replica = replica
        self.wires = wires
        self.planned = planned
        self.wall_skew_ms = 0
        self.lives = 0
        self.is_gone_for_good = False
        self.session: Session | None = None
        self.ended: dict[AllocationId, AllocationStatus] = {}
        replica.on_crash = self.crash
        self.engine = Engine(self.node, world, self.wall, lambda word, one: watch(self, word, one))

    def wall(self) -> WallMs:
        """The time of day, as this computer has it."""
        return WallMs(EPOCH_MS + int(self.world.now * 1000) + self.wall_skew_ms)

    @property
    def is_up(self) -> bool:
        """Whether the node's process runs."""
        return self.session is not None

    def start(self, seeds: Mapping[NodeId, Address]) -> None:
        """Begin a life; `seeds` are the addresses of peers to find the gossip by."""
        if self.is_up or self.is_gone_for_good:
            return
        self.lives += 1
        session = self.session = Session(self)
        session.start(tuple(seeds.values()))

    def crash(self) -> None:
        """The process is gone; containers go on."""
        session, self.session = self.session, None
        if session is None:
            return
        session.life.end()
        self.engine.publish = None
        self.replica.outside = None
        self.wires.detach(self.node)
        self.member.crash()
        self.replica.crash()

    def lose_power(self) -> None:
        """Everything stops."""
        self.crash()
        self.engine.power_off()

    def stand_still(self, seconds: float) -> None:
        """The process stands still; containers go on."""
        if self.session is not None:
            self.session.life.pause(seconds)
            self.member.pause(seconds)
            self.replica.stand_still(seconds)


class Session:
    """One life of a node. It is what the replica, the reconciler and the gossip talk to."""

    def __init__(self, computer: Computer) -> None:
        self.computer = computer
        self.node = computer.node
        self.world = computer.world
        self.replica = computer.replica
        self.life = Life(self.world)
        self.beliefs = Believed(self.wall)
        self.is_live = False
        self._own = OwnCopies(self.node)
        self._facts = computer.facts
        self._is_store_full = False
        self._members: dict[NodeId, MemberStatus] = {}
        self._told: dict[str, bytes] = {}
        name = f"{self.node}/{computer.lives}"
        chance = self.world.chance(f"{name}/parts")
        config = ReconcilerConfig()
        machine = computer.reconciler_type(self.node, config, self.world.chance(f"{name}/reconciler"), computer.ended)
        self.copies = CopyShell(self.life, machine, computer.engine, self, config, chance, self)
        self.prober = Prober(self.life, computer.engine, chance, self, self._health_changed)
        self.ingress = Ingress(
            self.node, self.life, computer.wires, self.beliefs, self.replica, chance, others=self.others
        )
        self.feed = Feed(self.node, self.life, computer.wires, self.replica, chance, self._to_ask)
        self.keeper = GroupShell(self.life, self.replica, self.beliefs, self.sightings)
        self._known = KnownFacts(self.beliefs)
        self._known.changed = self.peers_changed
        for status in computer.ended.values():
            self.beliefs.put_status(status)
        self.beliefs.put_node(self._facts)

    def wall(self) -> WallMs:
        """The time of day, as this computer has it."""
        return self.computer.wall()

    def now(self) -> Instant:
        """What the clock shows that only goes forward."""
        return self.replica.local_now()

    # ------------------------------------------------------------------------ the beginning

    def start(self, seeds: tuple[Address, ...]) -> None:
        """Begin; parts that need others come after them."""
        self.replica.outside = self
        self.replica.start()
        if self.life.is_over:
            return  # it died at its first write
        self.computer.wires.attach(self.node, self._accept)
        self.computer.member.start(seeds)
        self.feed.start()
        self.keeper.start()
        self._go_live_when_ready(self.replica.local_now() + UNLED_START_S)

    def _go_live_when_ready(self, give_up_at: float) -> None:
        if knows_enough(self.replica.machine, self.replica.local_now(), give_up_at):
            self.is_live = True
            self._tell(NODE_KEY, msgspec.msgpack.encode(self._facts))
            self._assign()
            self.computer.engine.publish = self._runtime_speaks
            self._runtime_published(RuntimeStateChanged(state=self.computer.engine.runtime_state()))
        else:
            self.life.after(0.05, lambda: self._go_live_when_ready(give_up_at))

    # ------------------------------------------------------------------------ the mesh

    def _accept(self, wire: Wire, peer: NodeId, purpose: Purpose) -> None:
        def hear(payload: bytes) -> None:
            if purpose is Purpose.INTENT:
                self.feed.serve(wire, payload)
            else:
                self.ingress.serve(wire, peer, payload)

        wire.on_payload[self.node] = lambda payload: self.life.do(lambda: hear(payload))

    def others(self) -> list[NodeId]:
        """The living nodes, without this one."""
        return [node for node, status in self._members.items() if status in _HERE]

    def _to_ask(self) -> list[NodeId]:
        return self.others() or [node for node in self.replica.state.nodes if node != self.node]

    # ------------------------------------------------------------------------ the gossip

    def heard(self, news: Any) -> None:
        """What the gossip of this node tells."""
        match news:
            case FactLearned():
                if news.writer != self.node:
                    self._known.learn(news, is_ours=self._is_ours(NodeId(news.writer)))
            case MembersChanged(change=change, members=members):
                for member in members:
                    self._member_changed(change, NodeId(member.node), member.status)

    def _is_ours(self, node: NodeId) -> bool:
        return node in self._members and node in self.replica.state.nodes

    def _member_changed(self, change: StatusChange, node: NodeId, status: MemberStatus) -> None:
        if node == self.node:
            return
        is_new = node not in self._members or change is StatusChange.JOINED
        if change is StatusChange.REAPED:
            self._members.pop(node, None)
            self._known.depart(node)
            return
        self._members[node] = status
        if status in _HERE:
            if is_new:
                self._recall(node)
        else:
            self._known.depart(node)

    def _recall(self, node: NodeId) -> None:
        for fact in self.computer.member.machine.facts.facts_of(node):
            learned = FactLearned(writer=node, key=fact.key, version=fact.version, value=fact.value)
            self._known.learn(learned, is_ours=self._is_ours(node))

    def sightings(self) -> dict[NodeId, Sighting]:
        """The nodes of the cluster, as gossip has them."""
        now = self.world.now
        found = {}
        for member in self.computer.member.machine.serf.members():
            node = NodeId(member.node)
            if node in self.replica.state.nodes:
                state, age_s = _STATES[member.status], now - member.changed_at
                found[node] = Sighting(node=node, name=member.node, zone="", state=state, state_age_s=age_s)
        return found

    def peers_changed(self) -> None:
        """Others said something that may change routes or plans."""
        if self.is_live:
            self._look_at_routes()
            self.replica.beliefs_changed()

    def _look_at_routes(self) -> None:
        self.ingress.look_again()

    def _tell(self, key: str, value: bytes) -> None:
        if self._told.get(key) != value:
            self._told[key] = value
            self.computer.member.tell(fact_of(key, value))

    # ------------------------------------------------------------------------ the replica

    def beliefs_view(self) -> Beliefs:
        """What the scheduler may believe now."""
        return self.beliefs.view()

    def planned(self, command: Command, beliefs: Beliefs) -> None:
        """The leader, here, proposes a plan."""
        self.computer.planned(self.computer, command, beliefs)

    def applied(self, commands: list[AppliedCommand]) -> None:
        """The state has changed by `commands`."""
        self.feed.applied()
        if self.is_live:
            self._store_took()
            self._assign()

    def restored(self) -> None:
        """The state came whole from a peer."""
        self.applied([])

    def group_changed(self) -> None:
        """Another node leads, or others belong to the group."""
        self.beliefs.bump()
        self.life.after(0.0, self.feed.look)

    def outranked(self, epoch: int) -> None:
        """Nobody begins a new life of the group here."""
        raise AssertionError(f"{self.node} is outranked by epoch {epoch}")

    def noted(self, message: str) -> None:
        """Something worth a line."""
        self.world.note(f"{self.node}: {message}")

    def store_refused(self, reason: str) -> None:
        """The store took no write: no new work until it does again."""
        if not self._is_store_full:
            self._is_store_full = True
            self._put_facts(accepts_work=False, refusal=f"its store takes no write: {reason}")

    def _store_took(self) -> None:
        if self._is_store_full:
            self._is_store_full = False
            self._put_facts(accepts_work=True, refusal="")

    def _assign(self) -> None:
        changed = self._own.changed(self.replica.state)
        if changed is not None:
            self.copies.post(changed)
        self.beliefs.bump()
        self._look_at_routes()

    # ------------------------------------------------------------------------ the reconciler

    def perform(self, effect: StartProbes | StopProbes | StatusChanged | StatusDropped | Happened) -> None:
        """Take in what the reconciler tells others."""
        match effect:
            case StartProbes():
                self.prober.start(effect.allocation, effect.spec)
            case StopProbes():
                self.prober.stop(effect.allocation)
            case StatusChanged():
                self._put_status(effect.status)
            case StatusDropped():
                self.beliefs.drop_status(effect.allocation)
                if self._told.pop(status_key(effect.allocation), None) is not None:
                    self.computer.member.tell(FactRemoved(key=status_key(effect.allocation)))
                self.computer.ended.pop(effect.allocation, None)
                self.replica.beliefs_changed()
            case Happened():
                self.world.note(f"{self.node}: {effect.message}")

    def drain(self, assignment: Assignment, timeout_s: float, then: Callable[[], None]) -> None:
        """Call `then` when no node has a request on its way to the copy any more, or time is over."""
        self.ingress.drain(assignment.allocation.id, timeout_s, then)

    def _put_status(self, status: AllocationStatus) -> None:
        if not self.beliefs.put_status(status):
            return
        self._tell(status_key(status.allocation), msgspec.msgpack.encode(status))
        if is_final(status):
            self.computer.ended[status.allocation] = status
        self._look_at_routes()
        self.replica.beliefs_changed()

    def _runtime_speaks(self, event: RuntimeEvent) -> None:
        self.life.after(0.0, lambda: self._runtime_published(event))

    def _runtime_published(self, event: RuntimeEvent) -> None:
        if isinstance(event, RuntimeStateChanged):
            self._put_facts(runtimes=(event.state,))
        self.copies.post(RuntimeReported(event=event))

    def _health_changed(self, allocation: AllocationId, transition: HealthTransition) -> None:
        self.copies.post(verdict_of(allocation, transition))

    def _put_facts(self, **changes: Any) -> None:
        self._facts = msgspec.structs.replace(self._facts, **changes)
        self._tell(NODE_KEY, msgspec.msgpack.encode(self._facts))
        if self.beliefs.put_node(self._facts) and self.is_live:
            self.replica.beliefs_changed()
