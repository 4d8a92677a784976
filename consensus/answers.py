"""Who waits for what became of a proposal or a read, and what each is told. Pure.

A proposal is settled once: rejected (it did not happen and never will), lost (nobody here
will learn what became of it), or applied. What was accepted has a place in the log; the
entry that is applied at that place is it only if the terms agree (Raft §8).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import assert_never

from consensus.raft import (
    Accepted,
    ProposalId,
    ProposalRejected,
    ReadId,
    ReadReady,
    ReadRejected,
    RejectReason,
)
from consensus.state.cluster import Outcome
from consensus.storage import Entry
from orca.errors import (
    ConflictError,
    NotAvailableError,
    NotLeaderError,
    OrcaError,
    PayloadTooLargeError,
    ProposalLostError,
    StoreFullError,
)
from orca.model.ids import LogIndex, Term


class Promise:
    """What will be known of one proposal; `on_done` is called once, when it is."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        self.outcome: Outcome | None = None
        self.rejected: ProposalRejected | None = None
        self.is_lost = False
        self.is_committed = False
        self._on_done = on_done

    def settle(self) -> None:
        """Wake who waits."""
        self._on_done()


class ReadPromise:
    """What will be known of one read."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        self.index: LogIndex | None = None
        self.is_rejected = False
        self._on_done = on_done

    def settle(self) -> None:
        """Wake who waits."""
        self._on_done()


class Answers:
    """The open questions of one replica.

    Proposals that nobody waits for (the scheduler's own) are followed all the same: `ended` is
    told of every one that is settled, with its outcome where there is one.
    """

    def __init__(self, ended: Callable[[ProposalId, Outcome | None], None]) -> None:
        self._ended = ended
        self._promises: dict[ProposalId, Promise] = {}
        self._places: dict[LogIndex, tuple[Term, ProposalId]] = {}
        self._reads: dict[ReadId, ReadPromise] = {}
        self._next_read = 0

    def open(self, proposal: ProposalId, on_done: Callable[[], None]) -> Promise:
        """Somebody waits for `proposal`."""
        promise = self._promises[proposal] = Promise(on_done)
        return promise

    def close(self, proposal: ProposalId) -> None:
        """Nobody waits for it any more."""
        self._promises.pop(proposal, None)

    def open_read(self, on_done: Callable[[], None]) -> tuple[ReadId, ReadPromise]:
        """Somebody wants to read."""
        self._next_read += 1
        read_id = ReadId(self._next_read)
        promise = self._reads[read_id] = ReadPromise(on_done)
        return read_id, promise

    def close_read(self, read_id: ReadId) -> None:
        """Nobody waits for it any more."""
        self._reads.pop(read_id, None)

    def accept(self, effect: Accepted, applied_index: LogIndex) -> None:
        """The proposal has a place; when that was applied before, whose it was is not known any more."""
        if effect.index <= applied_index:
            self.lose(effect.proposal_id)
        else:
            self._places[effect.index] = (effect.term, effect.proposal_id)

    def reject(self, effect: ProposalRejected) -> None:
        """The proposal did not happen."""
        self._ended(effect.proposal_id, None)
        promise = self._promises.get(effect.proposal_id)
        if promise is not None:
            promise.rejected = effect
            promise.settle()

    def lose(self, proposal: ProposalId) -> None:
        """Nobody here will learn what became of it."""
        self._ended(proposal, None)
        promise = self._promises.get(proposal)
        if promise is not None:
            promise.is_lost = True
            promise.settle()

    def restore(self, upto: LogIndex) -> None:
        """A snapshot came in place of the entries up to `upto`."""
        for index in [index for index in self._places if index <= upto]:
            self.lose(self._places.pop(index)[1])

    def apply(self, entries: Iterable[Entry], outcomes: Mapping[LogIndex, Outcome]) -> None:
        """`entries` were applied; those that are commands have outcomes."""
        if not self._places:
            return
        for entry in entries:
            place = self._places.pop(entry.index, None)
            if place is None:
                continue
            term, proposal = place
            if term != entry.term:
                self.lose(proposal)
                continue
            outcome = outcomes.get(entry.index)
            self._ended(proposal, outcome)
            promise = self._promises.get(proposal)
            if promise is not None:
                promise.outcome, promise.is_committed = outcome, True
                promise.settle()

    def read(self, effect: ReadReady | ReadRejected) -> None:
        """A read may begin, or cannot be had here."""
        promise = self._reads.get(effect.read_id)
        if promise is None:
            return
        if isinstance(effect, ReadReady):
            promise.index = effect.index
        else:
            promise.is_rejected = True
        promise.settle()

    def stop(self) -> None:
        """Wake everybody: nothing will be known any more."""
        for promise in self._promises.values():
            promise.settle()
        for read in self._reads.values():
            read.settle()


def failure_of(promise: Promise, deadline_s: float, *, is_stopped: bool) -> OrcaError | None:
    """Why a proposal that was waited for until now was not applied; None when it was."""
    if promise.rejected is not None:
        return rejection(promise.rejected)
    if promise.is_lost:
        return ProposalLostError(
            "the change went to a node that may not lead any more; it may still happen. "
            "Look first, or send it again under the same request id"
        )
    if promise.is_committed:
        return None
    if is_stopped:
        return ProposalLostError("this node stopped before the change was confirmed; it may still have happened")
    return ProposalLostError(
        f"the change was not confirmed within {deadline_s:g} s; it may still happen. "
        "Look first, or send it again under the same request id"
    )


def rejection(rejected: ProposalRejected) -> OrcaError:
    """The error that tells a caller why a proposal did not happen."""
    detail = rejected.detail or rejected.reason.value
    match rejected.reason:
        case RejectReason.NOT_LEADER:
            return NotLeaderError(f"this node does not lead: {detail}")
        case RejectReason.SAVE_FAILED:
            return StoreFullError(f"the change could not be written: {detail}")
        case RejectReason.TOO_LARGE:
            return PayloadTooLargeError(f"the change is too large: {detail}")
        case RejectReason.BUSY:
            return NotAvailableError(f"the group takes no more changes at present: {detail}")
        case RejectReason.REFUSED:
            return ConflictError(f"the group cannot be changed so: {detail}")
        case _:
            assert_never(rejected.reason)
