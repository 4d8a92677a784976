"""Runs a `Replica` on trio: performs its effects in order, answers proposers.

One task owns the replica. Proposals and messages that arrive while a save is on its way to the
disk are taken together in the next steps, so one sync serves all that waited. Nothing
here waits for a local reader: applied commands are published through a plain function.
Messages that need not wait for this node's disk leave before the save begins.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, assert_never

import trio

from consensus.answers import Answers, Promise
from consensus.raft import (
    EntriesLearned,
    MembershipChange,
    MembershipChanged,
    MembershipProposed,
    Message,
    MessageReceived,
    MessagesReceived,
    Outranked,
    PeerUnreachable,
    ProposalId,
    ProposalRejected,
    RaftMachine,
    RejectReason,
    SendMessage,
    SnapshotLearned,
    TransferRequested,
    collect_write,
)
from consensus.replica import (
    Accepted,
    AppliedCommand,
    Apply,
    Effect,
    Event,
    LeaderChanged,
    Noted,
    ProposalLost,
    Proposed,
    ProposedMany,
    ReadReady,
    ReadRejected,
    ReadRequested,
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
MESSAGES_MAX = 4096
"""Messages of peers that wait for the disk of this node; the oldest make room, and Raft sends again."""
UNLED_START_S = 5.0
"""So long a node that is not its own quorum waits for a leader before it goes by what it last knew."""


class Transport(Protocol):
    """Carries messages between replicas. Returns at once, and may lose what it was given."""

    def send(self, to: NodeId, message: Message) -> None:
        """Put `message` on its way to `to`."""
        ...


Offload = Callable[..., Awaitable[Any]]
"""Runs a function with its arguments and gives its result, without stopping the loop: a thread, or a test's own way."""


class _Alone:
    """The transport of a replica that has no peers."""

    def send(self, to: NodeId, message: Message) -> None:
        """Nobody is there."""


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

    def restored(self) -> None:
        """The state was replaced by a snapshot of a peer."""
        ...

    def group_changed(self) -> None:
        """The leader or the members of the group are others now."""
        ...

    def outranked(self, epoch: int) -> None:
        """The group was started anew without this node; its log belongs to another past."""
        ...


class ReplicaDriver:
    """The trio shell of one replica.

    `write` makes one `LogWrite` durable and raises StoreFullError when nothing was
    written; `offload` runs it, and whatever else takes long, off the loop. `beliefs` gives what
    the scheduler may believe now. Without a `transport` the replica has to be its own quorum.
    """

    def __init__(
        self,
        replica: Replica,
        clock: Clock,
        *,
        write: Callable[[LogWrite], None],
        beliefs: Callable[[], Beliefs],
        listener: Listener,
        transport: Transport | None = None,
        offload: Offload = trio.to_thread.run_sync,
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._write = write
        self._beliefs = beliefs
        self._listener = listener
        self._offload = offload
        self._transport = transport or _Alone()
        self._inbox: deque[MessageReceived] = deque()
        self._orders: deque[Event] = deque()
        self._answers = Answers(self._ended)
        self._applied = trio.Event()
        self._performed_index = replica.raft.applied_index
        self.dropped_messages = 0
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
        return self._performed_index

    @property
    def raft(self) -> RaftMachine:
        """The machine, to look at."""
        return self._replica.raft

    def receive(self, sender: NodeId, message: Message) -> None:
        """Take in what a peer sent; returns at once."""
        if len(self._inbox) >= MESSAGES_MAX:
            self._inbox.popleft()
            self.dropped_messages += 1
        self._inbox.append(MessageReceived(sender=sender, message=message))
        self._wake.set()

    def learn(self, event: EntriesLearned | SnapshotLearned) -> None:
        """Take in what another node says is committed; returns at once."""
        self._order(event)

    async def wait_applied(self, index: LogIndex) -> None:
        """Return when the state holds entry `index`."""
        while self._performed_index < index:
            applied = self._applied
            await applied.wait()

    def unreachable(self, peer: NodeId) -> None:
        """Messages to `peer` were lost; returns at once."""
        self._order(PeerUnreachable(node=peer))

    def hand_over(self, to: NodeId | None = None) -> None:
        """Let another voter lead, if this one does; returns at once."""
        self._order(TransferRequested(to=to))

    def _order(self, event: Event) -> None:
        if len(self._orders) < MESSAGES_MAX:
            self._orders.append(event)
            self._wake.set()

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
        done = trio.Event()
        promise = self._answers.open(proposal.proposal_id, done.set)
        try:
            try:
                self._send.send_nowait(proposal)
            except trio.WouldBlock:
                raise NotAvailableError(
                    f"{PROPOSALS_MAX} changes are waiting for the disk of this node already; try again later"
                ) from None
            self._wake.set()
            with trio.move_on_after(deadline_s):
                await done.wait()
        finally:
            self._answers.close(proposal.proposal_id)
        self._check(promise, deadline_s)
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
            self._order(MembershipProposed(proposal_id=proposal_id, change=change))
            with trio.move_on_after(deadline_s):
                await done.wait()
        finally:
            self._answers.close(proposal_id)
        self._check(promise, deadline_s)

    async def read_barrier(self, *, deadline_s: float = 5.0) -> LogIndex:
        """Return when this node's state holds everything that was committed when this was called (§6.4).

        Raises NotLeaderError when no leader can be asked, NotAvailableError when none answers in time.
        """
        done = trio.Event()
        read_id, promise = self._answers.open_read(done.set)
        try:
            self._order(ReadRequested(read_id=read_id))
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

    def _check(self, promise: Promise, deadline_s: float) -> None:
        """Raise what became of a proposal that was not applied."""
        if promise.rejected is not None:
            raise _rejection(promise.rejected)
        if promise.is_lost:
            raise ProposalLostError(
                "the change went to a node that may not lead any more; it may still happen. "
                "Look first, or send it again under the same request id"
            )
        if not promise.is_committed and self._is_stopped:
            raise ProposalLostError("this node stopped before the change was confirmed; it may still have happened")
        if not promise.is_committed:
            raise ProposalLostError(
                f"the change was not confirmed within {deadline_s:g} s; it may still happen. "
                "Look first, or send it again under the same request id"
            )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started()` once the log is applied.

        While the store takes no write that is not so: what the log says beyond the snapshot is
        not known to be committed, and a node must not act on the older state.
        Raises PeerProtocolError at a command that this release does not know.
        """
        try:
            await self._step(Tick())
            give_up_at = self._clock.now() + UNLED_START_S
            while not self._knows_enough(give_up_at):
                await self._wait(give_up_at)
                await self._turn()
            task_status.started()
            while True:
                await self._wait()
                await self._turn()
        finally:
            self._is_stopped = True
            self._answers.stop()

    def _knows_enough(self, give_up_at: float) -> bool:
        """Whether the state is one to act on.

        A voter that is its own quorum has committed its log. Any other has heard from a leader and applied
        what that had committed, or there is none and it goes by what it knows (its workloads have to run).
        """
        raft = self._replica.raft
        if raft.is_leader:
            return True
        if raft.membership.voters == (raft.node,):
            return False
        if raft.leader is not None and raft.commit_index:
            return True
        return self._clock.now() >= give_up_at

    async def _wait(self, until: float = math.inf) -> None:
        deadline = min(until, self._replica.deadline() or math.inf)
        timeout_s = max(0.0, deadline - self._clock.now())
        pause_s = self._pause_until - self._clock.now()
        wake_at_ms = self._replica.plan_wake_at_ms()
        if pause_s > 0:
            timeout_s = min(timeout_s, pause_s)
        elif wake_at_ms is not None and self._replica.is_leader:
            timeout_s = min(timeout_s, max(0.0, (wake_at_ms - self._clock.wall()) / 1000))
        if not (self._inbox or self._orders):
            with trio.move_on_after(timeout_s):
                await self._wake.wait()
        self._wake = trio.Event()

    async def _turn(self) -> None:
        """Messages before a Tick that is due: after a pause they may say that a leader lives."""
        while self._inbox:
            messages = tuple(self._inbox)
            self._inbox.clear()
            await self._step(MessagesReceived(messages=messages))
        while self._orders:
            await self._step(self._orders.popleft())
        deadline = self._replica.deadline()
        if deadline is not None and self._clock.now() >= deadline:
            await self._step(Tick())
        batch = self._take_batch()
        while batch:
            await self._step(ProposedMany(proposals=tuple(batch)))
            batch = self._take_batch()
        if self._clock.now() >= self._pause_until and self._replica.is_compaction_due:
            # This task alone changes the state, and it waits here.
            await self._step(await self._offload(self._replica.compaction))
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
        before, write, rest = collect_write(self._replica.step(event, self._clock.now()))
        for message in before:
            self._transport.send(message.to, message.message)
        if write is not None:
            try:
                # Shielded: a transaction that is on its way is either on disk or not, and the
                # machine must learn which before anything else happens.
                with trio.CancelScope(shield=True):
                    await self._offload(self._write, write)
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
            case SendMessage():
                self._transport.send(effect.to, effect.message)
            case Accepted() | ProposalRejected() | ProposalLost() | ReadReady() | ReadRejected():
                self._answer(effect)
            case Apply():
                self._apply(effect)
            case RestoreSnapshot():
                self._replica.restore(effect.snapshot)
                self._performed_index = effect.snapshot.meta.last_index
                self._answers.restore(self._performed_index)
                self._announce_applied()
                self._listener.restored()
            case LeaderChanged() | MembershipChanged():
                self._replica.mark_dirty()
                self._wake.set()
                self._listener.group_changed()
            case Outranked(epoch=epoch):
                self._listener.outranked(epoch)
            case Noted():
                self._listener.noted(effect.message)
            case _:
                pass  # saves were made durable before

    def _answer(self, effect: Accepted | ProposalRejected | ProposalLost | ReadReady | ReadRejected) -> None:
        match effect:
            case Accepted():
                self._answers.accept(effect, self._performed_index)
            case ProposalRejected():
                self._answers.reject(effect)
            case ProposalLost():
                self._answers.lose(effect.proposal_id)
            case ReadReady() | ReadRejected():
                self._answers.read(effect)
            case _:
                assert_never(effect)

    def _apply(self, effect: Apply) -> None:
        applied = self._replica.take_applied(effect.entries)
        self._performed_index = effect.entries[-1].index
        self._answers.apply(effect.entries, {one.index: one.outcome for one in applied})
        self._announce_applied()
        self._listener.applied(applied)

    def _announce_applied(self) -> None:
        self._wake.set()
        self._applied.set()
        self._applied = trio.Event()

    def _ended(self, proposal: ProposalId, outcome: Outcome | None) -> None:
        """A proposal is settled; the planner's next one may be made."""
        if not self._replica.plan_ended(proposal):
            return
        if outcome is None or outcome.error:
            # The same plan would fail again: do not fill the log with it.
            self._pause()
            if outcome is not None:
                self._listener.noted(f"a plan was refused: {outcome.message}")


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
