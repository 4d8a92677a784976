"""Runs a `Replica` on trio: performs its effects in order, answers proposers.

One task owns the replica. Proposals and messages that arrive while a save is on its way to the
disk are taken together in the next steps, so one sync serves all that waited. Nothing
here waits for a local reader: applied commands are published through a plain function.
Messages that need not wait for this node's disk leave before the save begins.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import assert_never

import trio

from consensus.answers import Answers
from consensus.asking import Asking
from consensus.commits import UNLED_START_S, CommitWords, KnownCommits, knows_enough
from consensus.outside import Alone, Listener, NewLife, Offload, Transport
from consensus.raft import (
    EntriesLearned,
    MembershipChanged,
    Message,
    MessageReceived,
    MessagesReceived,
    Outranked,
    PeerUnreachable,
    ProposalId,
    ProposalRejected,
    RaftMachine,
    SendMessage,
    SnapshotLearned,
    SnapshotTaken,
    TransferRequested,
    blank_write,
    collect_write,
    recovery_write,
)
from consensus.replica import (
    Accepted,
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
    Replica,
    RestoreSnapshot,
    SaveFailed,
    Tick,
)
from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.fleet import Fleet
from consensus.scheduler.reconcile import Situation, look
from consensus.state.cluster import ClusterState, Outcome
from consensus.storage import LoadedLog, LogWrite
from orca.errors import ConflictError, StoreFullError
from orca.model.ids import LogIndex, NodeId, ServiceId
from orca.model.units import Instant
from orca.sources import Clock

BATCH_MAX = 1024
"""Proposals that one write serves: all that may wait, since a write costs as much for one as for a hundred."""
RETRY_S = 1.0
MESSAGES_MAX = 4096
"""Messages of peers that wait for the disk of this node; the oldest make room, and Raft sends again."""


class ReplicaDriver(Asking):
    """The trio shell of one replica.

    `write` makes one `LogWrite` durable and raises StoreFullError when nothing was
    written; `load` gives what is stored, and without it the group cannot be started anew. `offload`
    runs that, and whatever else takes long, off the loop. `beliefs` gives what the scheduler may
    believe now. Without a `transport` the replica has to be its own quorum.
    """

    def __init__(  # noqa: PLR0913 - what a replica needs of a node
        self,
        replica: Replica,
        clock: Clock,
        *,
        write: Callable[[LogWrite], Awaitable[None]],
        beliefs: Callable[[], Beliefs],
        listener: Listener,
        load: Callable[[], LoadedLog] | None = None,
        transport: Transport | None = None,
        offload: Offload = trio.to_thread.run_sync,
    ) -> None:
        super().__init__(replica, Answers(self._ended))
        self._clock = clock
        self._write = write
        self._beliefs = beliefs
        self._listener = listener
        self._offload = offload
        self._load = load
        self._new_life: NewLife | None = None
        self._commits = KnownCommits(replica.raft.commit_index, clock.now())
        self._words = CommitWords()
        self._transport = transport or Alone()
        self._inbox: deque[MessageReceived] = deque()
        self.dropped_messages = 0
        self._pause_until = clock.now()
        self._is_compacting = False

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

    def lease_time_ms(self) -> int | None:
        """Lease time, to stamp on a command about leases; None unless this node leads, and has begun to."""
        return self._replica.lease_time_ms(self._clock.now())

    def fleet(self) -> Fleet:
        """What is reserved on each node now; for looking ahead, by whoever does not plan meanwhile."""
        fleet = self._replica.planner.fleet
        fleet.refresh(self.state, self._beliefs())
        return fleet

    def situation(self) -> Situation:
        """What a planner would go by now."""
        fleet, now_ms = self.fleet(), self._clock.wall()
        return look(self.state, self._beliefs(), now_ms, now_ms, fleet)

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

    def unreachable(self, peer: NodeId) -> None:
        """Messages to `peer` were lost; returns at once."""
        self._order(PeerUnreachable(node=peer))

    def hand_over(self, to: NodeId | None = None) -> None:
        """Let another voter lead, if this one does; returns at once."""
        self._order(TransferRequested(to=to))

    async def start_anew(self, epoch: int) -> None:
        """Make this node the only voter of `epoch`, with its log as it is: for a quorum that is lost for good.

        Raises StoreFullError; nothing changed then.
        """
        raft = self._replica.raft
        await self._begin_life(lambda: recovery_write(raft.node, raft.term, raft.position, epoch))

    async def start_blank(self, forget: Callable[[], None], epoch: int) -> None:
        """Go on as a node that knows nothing but `epoch`, whose life it waits for.

        `forget` empties the store, after what was in it was set aside.
        The state stays until a peer's replaces it: what runs here goes on running.
        """

        def make_write() -> LogWrite:
            forget()
            return blank_write(epoch)

        await self._begin_life(make_write, is_blank=True)

    async def _begin_life(self, make_write: Callable[[], LogWrite], *, is_blank: bool = False) -> None:
        assert self._load is not None, "a driver that cannot load a log cannot begin with another"
        if self._new_life is not None:
            raise ConflictError("the log of this node is being replaced already")
        ended = trio.Event()
        life = self._new_life = NewLife(make_write, ended.set, is_blank=is_blank)
        self._wake.set()
        await ended.wait()
        if life.refused is not None:
            raise life.refused

    async def _enter_new_life(self) -> None:
        assert self._new_life is not None, "nobody asked"
        assert self._load is not None, "a driver that cannot load a log cannot begin with another"
        life = self._new_life
        try:
            with trio.CancelScope(shield=True):
                await self._write(await self._offload(life.make_write))
                loaded = await self._offload(self._load)
        except StoreFullError as error:
            life.refused = error
            self._listener.store_refused(error.message)
            return
        finally:
            self._new_life = None
            life.end()
        self._performed_index = LogIndex(0) if life.is_blank else self._performed_index
        self._answers.restore(loaded.last_index)
        self._replica.begin_again(loaded, self._performed_index, must_compact=not life.is_blank)
        self._listener.group_changed()

    def beliefs_changed(self) -> None:
        """Something that the scheduler looks at is different: plan again soon."""
        self._replica.mark_dirty()
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started()` once the log is applied.

        While the store takes no write that is not so: what the log says beyond the snapshot is
        not known to be committed, and a node must not act on the older state.
        Raises PeerProtocolError at a command that this release does not know.
        """
        try:
            await self._step(Tick())
            give_up_at = self._clock.now() + UNLED_START_S
            while not knows_enough(self._replica.raft, self._clock.now(), give_up_at):
                await self._wait(give_up_at)
                await self._turn()
                self._transport.flush()
            task_status.started()
            while True:
                await self._wait()
                await self._turn()
                self._transport.flush()
        finally:
            self._is_stopped = True
            self._answers.stop()

    async def _wait(self, until: float = math.inf) -> None:
        deadline = min(
            until,
            self._replica.deadline() or math.inf,
            self._commits.due_at(self._replica.raft.commit_index),
            self._words.due_at,
            max(self._pause_until, self._replica.duty_at()),
        )
        timeout_s = max(0.0, deadline - self._clock.now())
        pause_s = self._pause_until - self._clock.now()
        wake_at_ms = self._replica.plan_wake_at_ms()
        if pause_s > 0:
            timeout_s = min(timeout_s, pause_s)
        elif wake_at_ms is not None and self._replica.is_leader:
            timeout_s = min(timeout_s, max(0.0, (wake_at_ms - self._clock.wall()) / 1000))
        if not (self._inbox or self._orders or self._new_life):
            with trio.move_on_after(timeout_s):
                await self._wake.wait()
        self._wake = trio.Event()

    async def _turn(self) -> None:
        """Messages before a Tick that is due: after a pause they may say that a leader lives."""
        if self._new_life is not None:
            await self._enter_new_life()
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
        self._send_words()
        if self._clock.now() >= self._commits.due_at(self._replica.raft.commit_index):
            await self._save_commit()
        if self._clock.now() >= self._pause_until and self._replica.is_compaction_due and not self._is_compacting:
            self._is_compacting = True
            trio.lowlevel.spawn_system_task(self._compact, self._replica.raft, self._replica.compaction())
        if self._clock.now() >= self._pause_until:
            plan = self._replica.plan(self._beliefs(), self._clock.wall())
            duty = self._replica.duty(self._clock.now(), self._clock.wall())
            for proposal in (plan, duty):
                if proposal is not None:
                    await self._step(proposal)
                    self._wake.set()

    async def _compact(self, raft: RaftMachine, make: Callable[[], SnapshotTaken]) -> None:
        """Changes go on meanwhile; the snapshot is of the state as it was."""
        try:
            taken = await self._offload(make)
        except StoreFullError as error:
            self._listener.store_refused(error.message)
            self._pause()
            return
        finally:
            self._is_compacting = False
        if raft is self._replica.raft:  # not of a log that was given up meanwhile
            self._order(taken)

    def _take_batch(self) -> list[Proposed]:
        waiting = self._proposals
        return [waiting.popleft() for _ in range(min(len(waiting), BATCH_MAX))]

    async def _step(self, event: Event) -> None:
        effects = self._replica.step(event, self._clock.now())
        before, write, rest = collect_write(effects, self._replica.raft.commit_index)
        for message in before:
            self._send(message.to, message.message)
        if write is not None:
            self._transport.flush()
            try:
                # Shielded: a transaction that is on its way is either on disk or not, and the
                # machine must learn which before anything else happens.
                with trio.CancelScope(shield=True):
                    await self._write(write)
                self._commits.save(write.commit_index, self._clock.now())
            except StoreFullError as error:
                self._listener.store_refused(error.message)
                # Without a pause a full disk would make the planner spin.
                self._pause()
                rest = self._replica.step(SaveFailed(detail=error.message), self._clock.now())
        for effect in rest:
            if isinstance(effect, Apply):
                self._transport.flush()  # who waits for an answer does not wait for what this node does with it
            self._perform(effect)
            if isinstance(effect, Apply):
                # A long log comes in pieces, so that others run between them.
                await trio.lowlevel.cancel_shielded_checkpoint()

    def _send(self, to: NodeId, message: Message) -> None:
        if not self._words.takes(to, message, self._clock.now()):
            self._transport.send(to, message)

    def _send_words(self) -> None:
        if self._clock.now() >= self._words.due_at:
            for peer, word in self._words.take().items():
                self._transport.send(peer, word)

    async def _save_commit(self) -> None:
        """Write how far the log is committed, when nothing else is written: who restarts without a leader needs it."""
        write = LogWrite(commit_index=self._replica.raft.commit_index)
        with trio.CancelScope(shield=True), suppress(StoreFullError):
            await self._write(write)
        self._commits.save(write.commit_index, self._clock.now())

    def _pause(self) -> None:
        """Plan and compact only after a while."""
        self._pause_until = Instant(self._clock.now() + RETRY_S)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case SendMessage():
                self._send(effect.to, effect.message)
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
        self._replica.duty_ended(proposal, self._clock.now())
        if not self._replica.plan_ended(proposal):
            return
        if outcome is None or outcome.error:
            # The same plan would fail again: do not fill the log with it.
            self._pause()
            if outcome is not None:
                self._listener.noted(f"a plan was refused: {outcome.message}")
