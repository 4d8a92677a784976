"""One simulated node: the real Raft machine with replicated registers, and clients that ask."""

from collections.abc import Callable, Sequence

from consensus.raft import (
    Accepted,
    Effect,
    Event,
    LeaderChanged,
    MembershipChanged,
    Noted,
    Outranked,
    ProposalId,
    ProposalLost,
    ProposalRejected,
    Proposed,
    RaftMachine,
    ReadId,
    ReadReady,
    ReadRejected,
    ReadRequested,
    SnapshotTaken,
)
from consensus.storage import Entry, LoadedLog, Snapshot
from orca.model.ids import NodeId
from simulations.judge import Judge
from simulations.network import Network
from simulations.registers import Kind, Operation, Registers, encode_operation
from simulations.replicated import Replicated
from simulations.shell import Shell, Tuning
from simulations.subjects.port import Reply
from simulations.world import Chance, World


class Process(Shell):
    """A node with registers; see `subjects.port` for what clients use."""

    machine_type: type[RaftMachine] = RaftMachine
    state_type: type[Replicated] = Replicated

    def __init__(
        self,
        node: NodeId,
        voters: frozenset[NodeId],
        world: World,
        network: Network[bytes],
        judge: Judge,
        tuning: Tuning,
    ) -> None:
        super().__init__(node, voters, world, network, judge, tuning)
        self.on_crash: Callable[[Process], None] = lambda _: None
        self.on_outranked: Callable[[Process, int], None] = lambda _process, _epoch: None
        self.state = Replicated()

    @property
    def registers(self) -> Registers:
        """Its replicated state."""
        return self.state.registers

    def submit(self, operation: Operation, reply: Reply) -> None:
        """A client asks; `reply` is called once at most."""
        if self._machine is None:
            return
        self.world.note(f"{self.node} is asked for {operation.request}")
        if operation.kind is Kind.READ:
            read_id = ReadId(self._fresh_id())
            self.state.wants_read(read_id, operation.key, reply)
            self._others.append(ReadRequested(read_id=read_id))
        else:
            proposal_id = ProposalId(self._fresh_id())
            self.state.wants_write(proposal_id, reply)
            self._proposals.append(Proposed(proposal_id=proposal_id, payload=encode_operation(operation)))
        self._work()

    def _make_machine(self, loaded: LoadedLog, rng: Chance) -> RaftMachine:
        self.state = self.state_type(loaded.snapshot)
        return self.machine_type(self.node, self.voters, loaded, self.tuning.raft, rng)

    def _digest(self) -> int:
        return self.registers.digest

    def _crashed(self) -> None:
        self.on_crash(self)

    def _own_event(self) -> Event | None:
        """A long log is compacted."""
        is_long = self.machine.tail_entries >= self.tuning.log_entries_kept
        if is_long and self.state.applied > self.machine.snapshot_index and not self.disk.is_full:
            self.counts.snapshots_taken += 1
            return SnapshotTaken(upto=self.state.applied, payload=self.registers.encode())
        return None

    def _apply(self, entries: Sequence[Entry]) -> None:
        for entry in self.state.apply(entries):
            self.judge.applied(self.node, self.machine.term, entry, self.registers.digest)

    def _restore(self, snapshot: Snapshot) -> None:
        self.counts.snapshots_restored += 1
        self.state.restore(snapshot)
        self.judge.restored(self.node, self.state.applied, self.registers.digest)

    def _tell(self, effect: Effect) -> None:
        match effect:
            case Accepted():
                self.state.accepted(effect)
            case ProposalRejected():
                self.state.rejected(effect.proposal_id)
            case ProposalLost():
                self.state.lost(effect.proposal_id)
            case ReadReady():
                self.state.read_ready(effect)
            case ReadRejected():
                self.state.read_rejected(effect.read_id)
            case Outranked():
                self.world.note(f"{self.node} is outranked by epoch {effect.epoch}")
                self.on_outranked(self, effect.epoch)
            case MembershipChanged():
                self.world.note(f"{self.node} has group {effect.membership} as of {effect.index}")
            case LeaderChanged():
                self.world.note(f"{self.node} follows {effect.leader} in term {effect.term}")
            case Noted():
                self.world.note(f"{self.node} notes {effect}")
            case _:
                raise AssertionError(f"{effect} is neither before nor after the saves")
