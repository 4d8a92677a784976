"""The half of a simulated node that Raft does not know: registers, and the clients that wait for answers."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from consensus.raft import Accepted, ProposalId, ReadId, ReadReady
from consensus.storage import Entry, EntryKind, Snapshot
from orca.model.ids import LogIndex, Term
from simulations.registers import Done, Outcome, Refused, Registers, Unknown
from simulations.subjects.port import Reply


class _Waiting(NamedTuple):
    since: LogIndex
    key: str
    reply: Reply


class _Known(NamedTuple):
    term: Term
    outcome: Outcome | None


class Replicated:
    """Registers as of entry `applied`, and who waits for which entry."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.registers = Registers() if snapshot is None else Registers.decode(snapshot.payload)
        self.applied = LogIndex(0) if snapshot is None else snapshot.meta.last_index
        self._replies: dict[ProposalId, Reply] = {}
        self._accepted: dict[LogIndex, list[tuple[Term, ProposalId]]] = {}
        self._known: dict[LogIndex, _Known] = {}
        self._reads: dict[ReadId, tuple[str, Reply]] = {}
        self._waiting: list[_Waiting] = []

    def wants_write(self, proposal_id: ProposalId, reply: Reply) -> None:
        """A client waits for a proposal."""
        self._replies[proposal_id] = reply

    def wants_read(self, read_id: ReadId, key: str, reply: Reply) -> None:
        """A client waits for the value of `key`."""
        self._reads[read_id] = (key, reply)

    def accepted(self, effect: Accepted) -> None:
        """The proposal has its place in the log; that entry may have been applied already."""
        known = self._known.get(effect.index)
        if known is not None:
            self._settle(effect.proposal_id, effect.term, known)
        elif effect.index <= self.applied:
            self.lost(effect.proposal_id)
        else:
            self._accepted.setdefault(effect.index, []).append((effect.term, effect.proposal_id))

    def rejected(self, proposal_id: ProposalId) -> None:
        """It did not happen and never will."""
        reply = self._replies.pop(proposal_id, None)
        if reply is not None:
            reply(Refused())

    def lost(self, proposal_id: ProposalId) -> None:
        """Nobody will say what became of it."""
        reply = self._replies.pop(proposal_id, None)
        if reply is not None:
            reply(Unknown())

    def read_ready(self, effect: ReadReady) -> None:
        """The read may be answered by a state that is far enough."""
        key, reply = self._reads.pop(effect.read_id)
        self._waiting.append(_Waiting(effect.index, key, reply))
        self._answer_reads()

    def read_rejected(self, read_id: ReadId) -> None:
        """The read may be tried elsewhere."""
        _, reply = self._reads.pop(read_id)
        reply(Refused())

    def apply(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        """Apply them one by one; each comes out when the state contains it, and before anybody is told."""
        for entry in entries:
            known = _Known(entry.term, self._outcome_of(entry))
            self.applied = entry.index
            self._known[entry.index] = known
            yield entry
            for term, proposal_id in self._accepted.pop(entry.index, ()):
                self._settle(proposal_id, term, known)
        self._answer_reads()

    def restore(self, snapshot: Snapshot) -> None:
        """The state is the snapshot's; of what it covers nobody knows which proposals were in it."""
        self.registers = Registers.decode(snapshot.payload)
        self.applied = snapshot.meta.last_index
        for index in [index for index in self._accepted if index <= self.applied]:
            for _, proposal_id in self._accepted.pop(index):
                self.lost(proposal_id)
        self._answer_reads()

    def _outcome_of(self, entry: Entry) -> Outcome | None:
        if not entry.payload or entry.kind is not EntryKind.NORMAL:
            return None
        return self.registers.apply(entry.payload)

    def _settle(self, proposal_id: ProposalId, wanted: Term, known: _Known) -> None:
        """An entry of another term at its place means that the proposal was replaced."""
        if wanted != known.term:
            self.lost(proposal_id)
        elif known.outcome is not None:
            reply = self._replies.pop(proposal_id, None)
            if reply is not None:
                reply(Done(outcome=known.outcome))

    def _answer_reads(self) -> None:
        ready = [one for one in self._waiting if one.since <= self.applied]
        self._waiting = [one for one in self._waiting if one.since > self.applied]
        for one in ready:
            one.reply(Done(outcome=Outcome(value=self.registers.read(one.key))))
