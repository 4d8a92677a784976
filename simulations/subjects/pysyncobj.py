"""PySyncObj 0.3 with its default configuration, on virtual time: a yardstick and a negative control.

Its clock, its chance and its poller are module globals; `on_virtual_time` replaces them for one run. Its transport
is an argument, so the network is the simulator's: like TCP, in order and without loss as long as a connection
holds, and what was on its way to a process that died does not reach the next one. Nodes have whole
numbers for ids, because it iterates over sets of nodes, and hashes of whole numbers do not differ from run to run.

No node may import this: it is measured, never trusted.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import pysyncobj.syncobj as engine_module
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from consensus.storage import Entry
from orca.model.ids import LogIndex, NodeId, Term
from simulations.judge import Judge
from simulations.network import Address, Network
from simulations.registers import Answer, Done, Kind, Operation, Outcome, Refused, Registers, Unknown, encode_operation
from simulations.subjects.port import Reply
from simulations.world import Timer, World

TICK_S: Final = 0.05
"""Its own default, `autoTickPeriod`; it also wakes up when something arrives."""
_WAKE_S: Final = 0.0002
_DEFINITE: Final = (
    FAIL_REASON.QUEUE_FULL,
    FAIL_REASON.MISSING_LEADER,
    FAIL_REASON.NOT_LEADER,
    FAIL_REASON.REQUEST_DENIED,
)


class Packet(NamedTuple):
    """A message of one life of a node to one life of another."""

    to_life: int
    message: Any


class _NoPoller:
    """There are no sockets to wait for."""

    def poll(self, _timeout: float) -> None:
        """Return at once."""


@contextmanager
def on_virtual_time(world: World) -> Iterator[None]:
    """PySyncObj's clock and chance are those of `world`, within one `with`."""
    names = ("monotonicTime", "random", "createPoller")
    kept = {name: getattr(engine_module, name) for name in names}
    was_disabled = engine_module.logger.disabled
    engine_module.monotonicTime = lambda: world.now
    engine_module.random = world.chance("pysyncobj")
    engine_module.createPoller = lambda _: _NoPoller()
    engine_module.logger.disabled = True
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(engine_module, name, value)
        engine_module.logger.disabled = was_disabled


class _Wire(Transport):  # type: ignore[misc]
    """The simulator's network, as PySyncObj wants it."""

    def __init__(self, send: Callable[[int, Any], bool]) -> None:
        super().__init__(None, None, None)
        self._send = send

    def send(self, node: Node, message: Any) -> bool:
        """Send to a node."""
        return self._send(node.id, message)

    def destroy(self) -> None:
        """Nothing is open."""

    def connected(self, node: int) -> None:
        """A connection came about."""
        self._onNodeConnected(Node(node))

    def disconnected(self, node: int) -> None:
        """A connection broke."""
        self._onNodeDisconnected(Node(node))

    def received(self, node: int, message: Any) -> None:
        """A message came."""
        self._onMessageReceived(Node(node), message)


class _Engine(SyncObj):  # type: ignore[misc]
    """PySyncObj with registers; `on_applied` hears of each entry as it is applied."""

    def __init__(self, number: int, others: list[int], wire: _Wire) -> None:
        self.registers = Registers()
        self.on_applied: Callable[[LogIndex, bytes], None] = lambda _index, _command: None
        super().__init__(Node(number), [Node(other) for other in others], SyncObjConf(autoTick=False), transport=wire)

    @replicated  # type: ignore[untyped-decorator]
    def carry_out(self, payload: bytes) -> Outcome:
        """Applied on every node."""
        return self.registers.apply(payload)

    def _SyncObj__doApplyCommand(self, command: bytes) -> Any:  # noqa: N802 - its private name
        index = LogIndex(self.raftLastApplied + 1)
        outcome = super()._SyncObj__doApplyCommand(command)
        self.on_applied(index, command)
        return outcome

    @property
    def newest(self) -> Any:
        """Its newest entry, as it keeps it."""
        return self._SyncObj__raftLog[-1]

    @property
    def entries(self) -> list[Entry]:
        """Its log."""
        log = self._SyncObj__raftLog
        return [
            Entry(term=Term(term), index=LogIndex(index), payload=command)
            for command, index, term in (log[place] for place in range(len(log)))
        ]

    def term_at(self, index: LogIndex) -> Term:
        """The term of an entry that is in its log."""
        log = self._SyncObj__raftLog
        return Term(log[index - log[0][1]][2])


class PySyncNode:
    """One node over all its lives. Without `journalFile`, its default, a new life knows nothing."""

    def __init__(self, number: int, numbers: list[int], world: World, network: Network[Packet], judge: Judge) -> None:
        self.number = number
        self.life = 0
        self.peers: dict[int, PySyncNode] = {}
        self._others = [one for one in numbers if one != number]
        self._world = world
        self._network = network
        self._judge = judge
        self._engine: _Engine | None = None
        self._wire: _Wire | None = None
        self._registers = Registers()
        self._connected: dict[int, int] = {}
        self._led_term = 0
        self._stored: list[Entry] = []
        self._newest: Any = None
        self._wake_timer: Timer | None = None

    @property
    def node(self) -> NodeId:
        """Its name for the checkers."""
        return NodeId(f"p{self.number}")

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self._engine is not None

    @property
    def is_leader(self) -> bool:
        """Whether it leads, as far as it knows."""
        return self._engine is not None and bool(self._engine._isLeader())  # noqa: SLF001

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as it knows."""
        leader = None if self._engine is None else self._engine._getLeader()  # noqa: SLF001
        return None if leader is None else NodeId(f"p{leader.id}")

    @property
    def registers(self) -> Registers:
        """Its replicated state."""
        return self._registers

    def start(self) -> None:
        """A new life."""
        self.life += 1
        self._connected = {}
        self._stored = []
        self._newest = None
        self._wire = _Wire(self._send)
        self._engine = _Engine(self.number, self._others, self._wire)
        self._registers = self._engine.registers
        self._engine.on_applied = self._on_applied
        self._judge.started(self.node, LogIndex(1), 0)
        self._world.note(f"{self.node} starts")
        self._network.attach(self.number, self._receive)
        self._tick_for_ever(self.life)

    def crash(self) -> None:
        """The process is gone."""
        if self._engine is None:
            return
        self._world.note(f"{self.node} crashes")
        self._network.detach(self.number)
        self._engine = self._wire = None
        self.life += 1

    def submit(self, operation: Operation, reply: Reply) -> None:
        """Who believes to lead answers reads from its own state: it has nothing better. Writes wait to be applied."""
        if self._engine is None:
            return
        self._world.note(f"{self.node} is asked for {operation.request}")
        if operation.kind is Kind.READ:
            is_leader = self.is_leader
            reply(Done(outcome=Outcome(value=self._registers.read(operation.key))) if is_leader else Refused())
            return

        def answered(outcome: Outcome | None, error: int) -> None:
            reply(_answer(outcome, error))

        self._engine.carry_out(encode_operation(operation), callback=answered)
        self._wake()

    def look_at_connections(self) -> None:
        """Connect to who can be reached both ways, and give up who cannot; its timers for that are left out."""
        if self._wire is None:
            return
        for other in self._others:
            peer = self.peers[other]
            is_cut = self._network.is_cut(self.number, other) or self._network.is_cut(other, self.number)
            life = peer.life if peer.is_up and not is_cut else None
            known = self._connected.get(other)
            if known is not None and known != life:
                del self._connected[other]
                self._wire.disconnected(other)
            if life is not None and known != life:
                self._connected[other] = life
                self._wire.connected(other)

    def _send(self, to: int, message: Any) -> bool:
        life = self._connected.get(to)
        if life is None:
            return False
        self._network.send(self.number, to, Packet(life, message))
        return True

    def _receive(self, sender: Address, packet: Packet) -> None:
        if packet.to_life != self.life or self._wire is None:
            return
        assert isinstance(sender, int)
        self._world.note(f"p{sender} -> {self.node} {packet.message}")
        self._wire.received(sender, packet.message)
        self._wake()

    def _wake(self) -> None:
        if self._wake_timer is None:
            self._wake_timer = self._world.after(_WAKE_S, self._woken)

    def _woken(self) -> None:
        self._wake_timer = None
        self._tick()

    def _tick_for_ever(self, life: int) -> None:
        if life == self.life:
            self._tick()
            self._world.after(TICK_S, lambda: self._tick_for_ever(life))

    def _tick(self) -> None:
        if self._engine is None:
            return
        self._engine.doTick(0.0)
        self._tell_what_changed(self._engine)

    def _tell_what_changed(self, engine: _Engine) -> None:
        is_leader = bool(engine._isLeader())  # noqa: SLF001
        if engine.newest is self._newest and not is_leader:
            return
        if engine.newest is not self._newest:
            self._newest = engine.newest
            self._tell_stored(engine.entries)
        term = engine.raftCurrentTerm
        if is_leader and term != self._led_term:
            self._led_term = term
            self._world.note(f"{self.node} leads term {term}")
            terms = {entry.index: entry.term for entry in self._stored}
            self._judge.leads(self.node, Term(term), LogIndex(0), terms.get)

    def _tell_stored(self, entries: list[Entry]) -> None:
        common = 0
        for old, new in zip(self._stored, entries, strict=False):
            if (old.index, old.term) != (new.index, new.term):
                break
            common += 1
        if entries[common:] and common:
            self._judge.stored(self.node, entries[common - 1].term, entries[common:])
        self._stored = entries

    def _on_applied(self, index: LogIndex, command: bytes) -> None:
        assert self._engine is not None
        entry = Entry(term=self._engine.term_at(index), index=index, payload=command)
        self._judge.applied(self.node, Term(self._engine.raftCurrentTerm), entry, self._registers.digest)


def _answer(outcome: Outcome | None, error: int) -> Answer:
    if error == FAIL_REASON.SUCCESS and outcome is not None:
        return Done(outcome=outcome)
    return Refused() if error in _DEFINITE else Unknown()
