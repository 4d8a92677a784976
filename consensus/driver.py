"""Runs a `Replica` on trio: performs its effects in order, answers proposers.

One task owns the replica. Proposals that arrive while a save is on its way to the
disk are taken together in the next step, so one sync serves all that waited. Nothing
here waits for a local reader: applied commands are published through a plain function.
"""

import math
from collections.abc import Callable
from typing import Protocol, assert_never

import trio

from consensus.raft import ProposalId, RejectReason, collect_write
from consensus.replica import (
    Accepted,
    AppliedCommand,
    Apply,
    Effect,
    Event,
    LeaderChanged,
    Noted,
    ProposalLost,
    ProposalRejected,
    Proposed,
    ProposedMany,
    Replica,
    RestoreSnapshot,
    SaveFailed,
    Tick,
)
from consensus.scheduler.beliefs import Beliefs
from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import Command
from consensus.storage import LogWrite
from orca.errors import (
    ConflictError,
    NotAvailableError,
    NotLeaderError,
    OrcaError,
    PayloadTooLargeError,
    ProposalLostError,
    StoreFullError,
)
from orca.model.ids import LogIndex, NodeId, ServiceId
from orca.model.units import Instant
from orca.sources import Clock

PROPOSALS_MAX = 1024
BATCH_MAX = 256
RETRY_S = 1.0


class Listener(Protocol):
    """What the driver tells the rest of the node; every call returns at once."""

    def applied(self, commands: list[AppliedCommand]) -> None:
        """The state has changed by `commands`."""
        ...

    def noted(self, message: str) -> None:
        """Something worth a line in the log."""
        ...

    def store_refused(self, reason: str) -> None:
        """The disk or the store took no write."""
        ...


class _Waiter:
    """Somebody waits for the outcome of one proposal."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.outcome: Outcome | None = None
        self.rejected: ProposalRejected | None = None
        self.is_lost = False


class ReplicaDriver:
    """The trio shell of one replica.

    `write` makes one `LogWrite` durable and raises StoreFullError when nothing was
    written. `beliefs` gives what the scheduler may believe now.
    """

    def __init__(
        self,
        replica: Replica,
        clock: Clock,
        *,
        write: Callable[[LogWrite], None],
        beliefs: Callable[[], Beliefs],
        listener: Listener,
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._write = write
        self._beliefs = beliefs
        self._listener = listener
        self._waiters: dict[ProposalId, _Waiter] = {}
        self._by_index: dict[LogIndex, ProposalId] = {}
        self._pause_until = clock.now()
        self._wake = trio.Event()
        self._send, self._receive = trio.open_memory_channel[Proposed](PROPOSALS_MAX)
        self._is_stopped = False

    @property
    def state(self) -> ClusterState:
        """The applied state; read it, never change it."""
        return self._replica.state

    @property
    def is_leader(self) -> bool:
        """Whether this node decides."""
        return self._replica.is_leader

    @property
    def leader(self) -> NodeId | None:
        """Who decides, as far as this node knows."""
        return self._replica.raft.leader

    @property
    def blocked(self) -> dict[ServiceId, str]:
        """Why services wait for copies, as the last plan found; leader only."""
        return self._replica.blocked

    @property
    def applied_index(self) -> LogIndex:
        """The last entry of the log that the state contains."""
        return self._replica.raft.applied_index

    def beliefs_changed(self) -> None:
        """Something that the scheduler looks at is different: plan again soon."""
        self._replica.mark_dirty()
        self._wake.set()

    async def propose(self, command: Command, *, deadline_s: float = 30.0) -> Outcome:
        """Get `command` committed and applied; its outcome may be a refusal.

        Raises NotLeaderError, NotAvailableError, StoreFullError or PayloadTooLargeError when it
        certainly did not happen and never will, and ProposalLostError when the outcome is unknown after `deadline_s`.
        """
        if self._is_stopped:
            raise NotAvailableError("this node is stopping and takes no change any more")
        proposal = self._replica.propose(command)
        waiter = self._waiters[proposal.proposal_id] = _Waiter()
        try:
            try:
                self._send.send_nowait(proposal)
            except trio.WouldBlock:
                raise NotAvailableError(
                    f"{PROPOSALS_MAX} changes are waiting for the disk of this node already; try again later"
                ) from None
            self._wake.set()
            with trio.move_on_after(deadline_s):
                await waiter.done.wait()
        finally:
            self._waiters.pop(proposal.proposal_id, None)
        if waiter.rejected is not None:
            raise _rejection(waiter.rejected)
        if waiter.is_lost:
            raise ProposalLostError(
                "the change went to a node that may not lead any more; it may still happen. "
                "Look first, or send it again under the same request id"
            )
        if waiter.outcome is None and self._is_stopped:
            raise ProposalLostError("this node stopped before the change was confirmed; it may still have happened")
        if waiter.outcome is None:
            raise ProposalLostError(
                f"the change was not confirmed within {deadline_s:g} s; it may still happen. "
                "Look first, or send it again under the same request id"
            )
        return waiter.outcome

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started()` once the log is applied.

        While the store takes no write that is not so: what the log says beyond the snapshot is
        not known to be committed, and a node must not act on the older state.
        Raises PeerProtocolError at a command that this release does not know.
        """
        try:
            await self._step(Tick())
            while not self._replica.is_leader:
                await self._wait()
                await self._step(Tick())
            task_status.started()
            while True:
                await self._wait()
                await self._turn()
        finally:
            self._is_stopped = True
            for waiter in self._waiters.values():
                waiter.done.set()

    async def _wait(self) -> None:
        deadline = self._replica.deadline()
        timeout_s = math.inf if deadline is None else max(0.0, deadline - self._clock.now())
        pause_s = self._pause_until - self._clock.now()
        wake_at_ms = self._replica.plan_wake_at_ms()
        if pause_s > 0:
            timeout_s = min(timeout_s, pause_s)
        elif wake_at_ms is not None and self._replica.is_leader:
            timeout_s = min(timeout_s, max(0.0, (wake_at_ms - self._clock.wall()) / 1000))
        with trio.move_on_after(timeout_s):
            await self._wake.wait()
        self._wake = trio.Event()

    async def _turn(self) -> None:
        deadline = self._replica.deadline()
        if deadline is not None and self._clock.now() >= deadline:
            await self._step(Tick())
        batch = self._take_batch()
        while batch:
            await self._step(ProposedMany(proposals=tuple(batch)))
            batch = self._take_batch()
        if self._clock.now() >= self._pause_until and self._replica.is_compaction_due:
            # This task alone changes the state, and it waits here.
            await self._step(await trio.to_thread.run_sync(self._replica.compaction))
        if self._clock.now() >= self._pause_until:
            plan = self._replica.plan(self._beliefs(), self._clock.wall())
            if plan is not None:
                await self._step(plan)
                self._wake.set()

    def _take_batch(self) -> list[Proposed]:
        batch: list[Proposed] = []
        while len(batch) < BATCH_MAX:
            try:
                batch.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
        return batch

    async def _step(self, event: Event) -> None:
        _, write, rest = collect_write(self._replica.step(event, self._clock.now()))
        if write is not None:
            try:
                # Shielded: a transaction that is on its way is either on disk or not, and the
                # machine must learn which before anything else happens.
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._write, write)
            except StoreFullError as error:
                self._listener.store_refused(error.message)
                # Without a pause a full disk would make the planner spin.
                self._pause()
                rest = self._replica.step(SaveFailed(detail=error.message), self._clock.now())
        for effect in rest:
            self._perform(effect)
            if isinstance(effect, Apply):
                # A long log comes in pieces, so that others run between them.
                await trio.lowlevel.cancel_shielded_checkpoint()

    def _pause(self) -> None:
        """Plan and compact only after a while."""
        self._pause_until = Instant(self._clock.now() + RETRY_S)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Accepted():
                self._by_index[effect.index] = effect.proposal_id
            case ProposalRejected():
                if self._replica.plan_ended(effect.proposal_id):
                    self._pause()
                waiter = self._waiters.get(effect.proposal_id)
                if waiter is not None:
                    waiter.rejected = effect
                    waiter.done.set()
            case ProposalLost():
                self._replica.plan_ended(effect.proposal_id)
                waiter = self._waiters.get(effect.proposal_id)
                if waiter is not None:
                    waiter.is_lost = True
                    waiter.done.set()
            case RestoreSnapshot():
                self._replica.restore(effect.snapshot)
            case Apply():
                applied = self._replica.take_applied(effect.entries)
                self._answer(applied)
                self._listener.applied(applied)
            case LeaderChanged():
                self._replica.mark_dirty()
                self._wake.set()
            case Noted():
                self._listener.noted(effect.message)
            case _:
                # Saves were made durable before; the only voter has nobody to write to, and its reads are
                # answered from its own state.
                pass

    def _answer(self, applied: list[AppliedCommand]) -> None:
        for one in applied:
            proposal = self._by_index.pop(one.index, None)
            if proposal is None:
                continue
            if self._replica.plan_ended(proposal) and one.outcome.error:
                # The same plan would be refused again: do not fill the log with it.
                self._listener.noted(f"a plan was refused: {one.outcome.message}")
                self._pause()
            waiter = self._waiters.get(proposal)
            if waiter is not None:
                waiter.outcome = one.outcome
                waiter.done.set()
        if applied:
            self._wake.set()


def _rejection(rejected: ProposalRejected) -> OrcaError:
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
