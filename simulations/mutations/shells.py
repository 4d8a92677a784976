"""Bugs around the protocol: a disk, a driver or a state with one rule broken."""

from collections.abc import Iterator, Sequence

import msgspec

from consensus.raft import (
    Apply,
    Effect,
    Event,
    ProposalId,
    SaveHardState,
    SendMessage,
    SnapshotTaken,
    collect_write,
)
from consensus.storage import Entry, Snapshot
from orca.model.ids import LogIndex
from simulations.process import Process
from simulations.registers import Done, Kind, Operation, Outcome, Refused, Registers, carry_out, decode_operation
from simulations.replicated import Replicated
from simulations.subjects.port import Reply


class SkipsSync(Process):
    """Says that writes are durable while they are in a cache."""

    def start(self) -> None:
        """Begin a life on a disk that lies."""
        self.disk.is_lying = True
        super().start()


class SavesNoHardState(Process):
    """Term and vote are never written."""

    def _perform(self, effects: Sequence[Effect]) -> None:
        super()._perform([effect for effect in effects if not isinstance(effect, SaveHardState)])


class AnswersBeforeSaving(Process):
    """Sends what depends on the disk before the write."""

    def _perform(self, effects: Sequence[Effect]) -> None:
        before, write, after = collect_write(effects)
        if write is not None:
            messages = [effect for effect in after if isinstance(effect, SendMessage)]
            for message in messages:
                self._perform_one(message)
            sent = [*before, *messages]
            effects = [effect for effect in effects if effect not in sent]
        super()._perform(effects)


class AppliesBeforeSaving(Process):
    """Applies entries, and answers clients, before the write that makes them durable."""

    def _perform(self, effects: Sequence[Effect]) -> None:
        _, write, after = collect_write(effects)
        applies = [effect for effect in after if isinstance(effect, Apply)]
        if write is None or not applies:
            super()._perform(effects)
            return
        for effect in after:
            if not isinstance(effect, SendMessage):
                self._perform_one(effect)
        super()._perform([effect for effect in effects if effect not in after or isinstance(effect, SendMessage)])


class ReadsLocally(Process):
    """A node that believes to lead answers reads from its own state."""

    def submit(self, operation: Operation, reply: Reply) -> None:
        """Answer a read at once."""
        if operation.kind is Kind.READ and self.is_leader:
            reply(Done(outcome=Outcome(value=self.registers.read(operation.key))))
        else:
            super().submit(operation, reply)


class SnapshotSaysLess(Process):
    """A snapshot that holds one entry more than it says."""

    def _next_event(self) -> Event | None:
        event = super()._next_event()
        if isinstance(event, SnapshotTaken) and event.upto - 1 > self.machine.snapshot_index:
            return SnapshotTaken(upto=LogIndex(event.upto - 1), payload=event.payload)
        return event


class _AppliesTwice(Replicated):
    def apply(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        for entry in super().apply(entries):
            if entry.index % 20 == 0 and entry.payload and self.registers.values:
                self._again(entry)
            yield entry

    def _again(self, entry: Entry) -> None:
        try:
            operation = decode_operation(entry.payload)
        except msgspec.MsgspecError:
            return  # a change of the group
        outcome = carry_out(self.registers.read(operation.key), operation)
        self.registers.values[operation.key] = outcome.value


class AppliesTwice(Process):
    """One entry in twenty is carried out twice."""

    state_type = _AppliesTwice


class _ForgetsRequests(Replicated):
    def apply(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        for entry in super().apply(entries):
            yield entry
            self.registers.answers = _Few(self.registers.answers)


class _Few(dict[str, Outcome]):
    """Finds nothing, and holds everything: the de-duplication does not work, and durability can still be judged."""

    def get(self, _key: str, _default: object = None) -> None:  # type: ignore[override]
        return None


class CarriesOutRetries(Process):
    """A request that comes twice is carried out twice."""

    state_type = _ForgetsRequests


class _KeepsOldState(Replicated):
    def restore(self, snapshot: Snapshot) -> None:
        registers = self.registers
        super().restore(snapshot)
        self.registers = registers


class KeepsStateOnRestore(Process):
    """A snapshot from a leader replaces the log, and the state stays as it was."""

    state_type = _KeepsOldState


class _SaysNoToUnknown(Replicated):
    def lost(self, proposal_id: ProposalId) -> None:
        self.rejected(proposal_id)


class SaysNoToUnknown(Process):
    """Clients are told that a write failed of which nobody knows."""

    state_type = _SaysNoToUnknown


class _AnswersAnyEntry(Replicated):
    def _settle(self, proposal_id: ProposalId, wanted: int, known: object) -> None:
        del wanted
        outcome = getattr(known, "outcome", None)
        reply = self._replies.pop(proposal_id, None)
        if reply is not None:
            reply(Refused() if outcome is None else Done(outcome=outcome))


class AnswersAnyEntry(Process):
    """Whoever waits for an index gets the outcome of what came there, of whatever term."""

    state_type = _AnswersAnyEntry


class _SnapshotForgets(Replicated):
    def __init__(self, snapshot: Snapshot | None = None) -> None:
        super().__init__(snapshot)
        self.registers = _forgetful(self.registers)

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        self.registers = _forgetful(self.registers)


def _forgetful(registers: Registers) -> Registers:
    for key in list(registers.values)[:1]:
        del registers.values[key]
    return registers


class SnapshotForgets(Process):
    """A snapshot loses one register."""

    state_type = _SnapshotForgets


SHELLS: tuple[type[Process], ...] = (
    SkipsSync,
    SavesNoHardState,
    AnswersBeforeSaving,
    AppliesBeforeSaving,
    ReadsLocally,
    SnapshotSaysLess,
    AppliesTwice,
    CarriesOutRetries,
    KeepsStateOnRestore,
    SaysNoToUnknown,
    AnswersAnyEntry,
    SnapshotForgets,
)
