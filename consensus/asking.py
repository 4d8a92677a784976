"""What callers ask of a running replica: changes and reads, each answered once."""

from collections import deque
from collections.abc import Sequence

import trio

from consensus.answers import Answers, Promise, failure_of
from consensus.raft import MembershipChange, MembershipProposed
from consensus.replica import Event, Proposed, ReadRequested, Replica
from consensus.state.cluster import Outcome
from consensus.state.commands import Command
from consensus.state.schema import check_proposable
from orca.errors import NotAvailableError, NotLeaderError, OrcaError
from orca.model.ids import LogIndex

PROPOSALS_MAX = 1024
ORDERS_MAX = 4096
"""What waits for a turn beside proposals and messages; what does not fit is told so, or comes again by itself."""


def _full() -> NotAvailableError:
    return NotAvailableError(f"{PROPOSALS_MAX} changes are waiting for the disk of this node already; try again later")


def _too_busy() -> NotAvailableError:
    return NotAvailableError(f"{ORDERS_MAX} questions wait for this node already; try again later")


class Asking:
    """The side of a driver that callers see; what serves them is `ReplicaDriver.run`."""

    def __init__(self, replica: Replica, answers: Answers) -> None:
        self._replica = replica
        self._answers = answers
        self._performed_index = replica.raft.applied_index
        self._applied = trio.Event()
        self._wake = trio.Event()
        self._orders: deque[Event] = deque()
        self._proposals: deque[Proposed] = deque()
        self._is_stopped = False

    @property
    def applied_index(self) -> LogIndex:
        """The last entry of the log that the state contains."""
        return self._performed_index

    async def wait_applied(self, index: LogIndex) -> None:
        """Return when the state holds entry `index`."""
        while self._performed_index < index:
            applied = self._applied
            await applied.wait()

    def _order(self, event: Event) -> bool:
        has_room = len(self._orders) < ORDERS_MAX
        if has_room:
            self._orders.append(event)
            self._wake.set()
        return has_room

    async def propose(self, command: Command, *, deadline_s: float = 30.0) -> Outcome:
        """Get `command` committed and applied; its outcome may be a refusal.

        Raises NotLeaderError, NotAvailableError, StoreFullError or PayloadTooLargeError when it
        certainly did not happen and never will, and ProposalLostError when the outcome is unknown after `deadline_s`.
        """
        (end,) = await self.propose_all((command,), deadline_s=deadline_s)
        if isinstance(end, OrcaError):
            raise end
        return end

    async def propose_all(self, commands: Sequence[Command], *, deadline_s: float = 30.0) -> list[Outcome | OrcaError]:
        """The same for several at once, in their order; each has an end of its own: what `propose` returns or raises.

        Waits for one that is slow; costs much less than a task for each. Raises NotAvailableError with nothing
        proposed when a node of the cluster has a release that would not understand one of them.
        """
        for command in commands:
            check_proposable(self._replica.state, command)
        if self._is_stopped:
            return [NotAvailableError("this node is stopping and takes no change any more")] * len(commands)
        room = PROPOSALS_MAX - len(self._proposals)
        proposals = [self._replica.propose(command) for command in commands[:room]]
        done, left = trio.Event(), len(proposals)

        def settle() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        promises = [self._answers.open(proposal.proposal_id, settle) for proposal in proposals]
        try:
            self._proposals += proposals
            self._wake.set()
            if proposals:
                with trio.move_on_after(deadline_s):
                    await done.wait()
        finally:
            for proposal in proposals:
                self._answers.close(proposal.proposal_id)
        return [self._end_of(promise, deadline_s) for promise in promises] + [_full()] * (
            len(commands) - len(proposals)
        )

    def _end_of(self, promise: Promise, deadline_s: float) -> Outcome | OrcaError:
        failure = failure_of(promise, deadline_s, is_stopped=self._is_stopped)
        if failure is not None:
            return failure
        assert promise.outcome is not None, "a command that was applied has an outcome"
        return promise.outcome

    async def change_group(self, change: MembershipChange, *, deadline_s: float = 30.0) -> None:
        """Change the group by one member; returns when that is committed.

        Raises like `propose`, and ConflictError for a change that makes no sense.
        """
        proposal_id = self._replica.fresh_proposal_id()
        done = trio.Event()
        promise = self._answers.open(proposal_id, done.set)
        try:
            if not self._order(MembershipProposed(proposal_id=proposal_id, change=change)):
                raise _too_busy()
            with trio.move_on_after(deadline_s):
                await done.wait()
        finally:
            self._answers.close(proposal_id)
        failure = failure_of(promise, deadline_s, is_stopped=self._is_stopped)
        if failure is not None:
            raise failure

    async def read_barrier(self, *, deadline_s: float = 5.0) -> LogIndex:
        """Return when this node's state holds everything that was committed when this was called (§6.4).

        Raises NotLeaderError when no leader can be asked, NotAvailableError when none answers in time.
        """
        done = trio.Event()
        read_id, promise = self._answers.open_read(done.set)
        try:
            if not self._order(ReadRequested(read_id=read_id)):
                raise _too_busy()
            with trio.move_on_after(deadline_s):
                await done.wait()
                while promise.index is not None:
                    if self.applied_index >= promise.index:
                        return promise.index
                    applied = self._applied
                    await applied.wait()
        finally:
            self._answers.close_read(read_id)
        if promise.is_rejected:
            raise NotLeaderError("no leader is known that could say what was committed; try again shortly")
        raise NotAvailableError(f"no quorum confirmed the read within {deadline_s:g} s")
