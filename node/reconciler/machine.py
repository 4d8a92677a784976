"""The pure machine: events in, orders out. The package docstring has the theory."""

from collections.abc import Mapping
from typing import assert_never

import msgspec

from node.reconciler.backoff import backoff_s
from node.reconciler.copy import Copy
from node.reconciler.endings import Ending, describe_exit, judge_ending
from node.reconciler.events import (
    Action,
    ActionEnded,
    Assignment,
    AssignmentsChanged,
    CancelAction,
    Effect,
    Event,
    HealthChanged,
    HealthVerdict,
    InstancesListed,
    ListFailed,
    ListInstances,
    PrepareProgressed,
    RuntimeReported,
    Tick,
)
from node.reconciler.ledger import Ledger
from node.runtime.base import (
    Instance,
    InstanceExited,
    InstanceRemoved,
    InstanceStarted,
    InstanceState,
    RuntimeEvent,
    RuntimeStateChanged,
)
from orca.config import ReconcilerConfig
from orca.model.allocation import AllocationStatus, Endpoint, Phase
from orca.model.event import EventKind, Severity
from orca.model.ids import AllocationId, NodeId
from orca.model.spec import RuntimeKind
from orca.model.units import Instant, WallMs, format_duration
from orca.sources import Rng

LIST_RETRY_S = 1.0


class Reconciler:
    """Decides what to do to every copy on one node.

    `ended` holds the statuses of jobs that ended under an earlier agent: they must not
    run again, also where the runtime has forgotten them.
    """

    def __init__(
        self,
        node: NodeId,
        config: ReconcilerConfig,
        rng: Rng,
        ended: Mapping[AllocationId, AllocationStatus],
    ) -> None:
        self._node = node
        self._config = config
        self._rng = rng
        self._ended = ended
        self._books = Ledger()
        self._assigned: dict[AllocationId, Assignment] = {}
        self._is_trusted = False
        self._listed: dict[RuntimeKind, None] = {}
        self._listing_since: dict[RuntimeKind, int] = {}
        self._relist_at: dict[RuntimeKind, Instant] = {}
        self._waiting: dict[AllocationId, None] = {}

    # ------------------------------------------------------------------ doors

    def step(self, event: Event, now: Instant, wall: WallMs) -> list[Effect]:
        """Take in `event`; the effects are performed in list order."""
        self._books.begin(now, wall)
        match event:
            case Tick():
                self._on_tick()
            case AssignmentsChanged():
                self._on_assignments(event)
            case InstancesListed():
                self._on_listed(event)
            case ListFailed():
                self._relist_at[event.kind] = Instant(now + LIST_RETRY_S)
            case RuntimeReported():
                self._on_runtime_event(event.event)
            case PrepareProgressed():
                copy = self._books.copies.get(event.allocation)
                if copy is not None and copy.action is Action.PREPARE:
                    self._books.report(copy, progress=event.progress)
            case ActionEnded():
                self._on_action_ended(event)
            case HealthChanged():
                self._on_health(event)
            case _:
                assert_never(event)
        self._fill_slots()
        return self._books.effects

    def deadline(self) -> Instant | None:
        """When it next wants a `Tick`."""
        waits = [copy.next_try_at for copy in self._books.copies.values() if copy.next_try_at is not None]
        return min((*waits, *self._relist_at.values()), default=None)

    def check_invariants(self) -> None:
        """Raise AssertionError when the machine contradicts itself."""
        for lane in (Action.LAUNCH, Action.PREPARE):
            busy = [copy.name for copy in self._books.copies.values() if copy.action is lane]
            assert len(busy) <= self._config.starts_max, f"{lane.value} of {len(busy)} at once"
        for copy in self._books.copies.values():
            status = copy.status
            assert status is None or not status.is_ready or status.phase is Phase.RUNNING, (
                f"{copy.name} is ready while {status.phase.value}"
            )
            assert copy.assignment is not None or status is None, f"{copy.id}: an orphan has a status"
            assert copy.next_try_at is None or copy.action is None, f"{copy.name} waits while {copy.action} runs"

    # ------------------------------------------------------------- what to have

    def _on_assignments(self, event: AssignmentsChanged) -> None:
        self._is_trusted = self._is_trusted or event.is_trusted
        before = self._assigned
        self._assigned = {one.allocation.id: one for one in event.assignments}
        for allocation, assignment in self._assigned.items():
            if before.get(allocation) != assignment:
                self._assign(assignment)
        for copy in [one for one in self._books.copies.values() if one.id not in self._assigned]:
            if copy.assignment is not None:
                self._books.drop(copy)
            self._cancel_useless(copy)
            self._advance(copy)

    def _assign(self, assignment: Assignment) -> None:
        """A copy is new here, a newer revision took it over, or it is to end."""
        allocation = assignment.allocation
        copy = self._books.copies.get(allocation.id)
        if copy is None:
            copy = Copy(id=allocation.id, kind=assignment.spec.runtime, assignment=None, status=None)
            self._books.copies[copy.id] = copy
        copy.assignment = assignment
        if copy.status is None:
            fresh = AllocationStatus(
                allocation=copy.id,
                service=allocation.service,
                node=self._node,
                revision=allocation.revision,
                since_ms=self._books.wall,
            )
            copy.status = self._ended.get(copy.id, fresh)
        self._books.report(copy, revision=allocation.revision)
        if copy.must_end:
            copy.next_try_at = None
        self._cancel_useless(copy)
        self._advance(copy)

    def _cancel_useless(self, copy: Copy) -> None:
        if copy.must_end and copy.action is Action.PREPARE:
            self._books.report(copy, phase=Phase.STOPPING, is_ready=False)
            self._books.effects.append(CancelAction(allocation=copy.id))

    # ------------------------------------------------------------ what there is

    def _on_listed(self, event: InstancesListed) -> None:
        since = self._listing_since.pop(event.kind, 0)
        self._relist_at.pop(event.kind, None)
        self._listed[event.kind] = None
        seen = {instance.allocation: instance for instance in event.instances}
        for allocation in seen:
            if allocation not in self._books.copies:
                self._books.copies[allocation] = Copy(id=allocation, kind=event.kind, assignment=None, status=None)
        for copy in [one for one in self._books.copies.values() if one.kind is event.kind]:
            if copy.action is None and copy.touched <= since:
                self._observe(copy, seen.get(copy.id))
            self._advance(copy)

    def _observe(self, copy: Copy, instance: Instance | None) -> None:
        """Take the runtime's word for what is there."""
        before = copy.instance
        copy.early_exit = False
        if instance is None:
            if before is not None:
                self._on_removed(copy)
            return
        copy.instance = instance
        copy.is_prepared = True
        if instance.state is InstanceState.EXITED and (before is None or before.state is InstanceState.RUNNING):
            exited = InstanceExited(
                allocation=copy.id,
                exit_code=instance.exit_code or 0,
                is_oom_killed=instance.is_oom_killed,
                detail=instance.detail,
            )
            self._on_exit(copy, exited)

    def _on_runtime_event(self, event: RuntimeEvent) -> None:
        if isinstance(event, RuntimeStateChanged):
            self._on_runtime_state(event)
            return
        copy = self._books.copies.get(event.allocation)
        if copy is None:
            return
        match event:
            case InstanceStarted():
                if copy.action is None and not copy.is_running and copy.instance is not None:
                    # Somebody started it by hand.
                    copy.touched = self._books.step
                    copy.next_try_at = None
                    copy.instance = msgspec.structs.replace(copy.instance, state=InstanceState.RUNNING)
                    self._advance(copy)
            case InstanceExited():
                if copy.action in {Action.LAUNCH, Action.INSPECT}:
                    copy.early_exit = True
                elif copy.is_running:
                    copy.touched = self._books.step
                    self._on_exit(copy, event)
                    self._advance(copy)
            case InstanceRemoved():
                if copy.action is None and copy.instance is not None:
                    copy.touched = self._books.step
                    self._on_removed(copy)
                    self._advance(copy)
            case _:
                assert_never(event)

    def _on_runtime_state(self, event: RuntimeStateChanged) -> None:
        kind = event.state.kind
        if event.state.is_available:
            self._list(kind)
            return
        self._listed.pop(kind, None)
        self._relist_at.pop(kind, None)
        for copy in self._books.copies.values():
            if copy.kind is kind and not copy.is_running and not copy.is_over:
                self._books.report(copy, reason=f"{kind.value} is not available: {event.state.reason}")

    def _list(self, kind: RuntimeKind) -> None:
        self._relist_at.pop(kind, None)
        self._listing_since[kind] = self._books.step
        self._books.effects.append(ListInstances(kind=kind))

    def _on_tick(self) -> None:
        for kind in [kind for kind, at in self._relist_at.items() if at <= self._books.now]:
            self._list(kind)
        for copy in list(self._books.copies.values()):
            if copy.next_try_at is not None and copy.next_try_at <= self._books.now:
                copy.next_try_at = None
                self._advance(copy)

    # ------------------------------------------------------------- what to do

    def _advance(self, copy: Copy) -> None:
        """Order the next action of `copy`, if it wants one now."""
        if copy.action is not None or copy.next_try_at is not None:
            return
        if copy.kind not in self._listed:
            if copy.must_end and not copy.is_over:
                self._books.report(copy, phase=Phase.STOPPING, is_ready=False)
            return
        if copy.must_end:
            self._waiting.pop(copy.id, None)
            self._advance_to_end(copy)
        elif copy.is_over:
            return
        elif not copy.is_running:
            self._waiting[copy.id] = None
        elif copy.restart_reason:
            self._books.order(copy, Action.STOP)
        elif copy.status is None or copy.status.phase is not Phase.RUNNING:
            self._books.order(copy, Action.INSPECT)

    def _advance_to_end(self, copy: Copy) -> None:
        if copy.assignment is None and not self._is_trusted:
            return
        if copy.instance is None:
            self._end(copy)
            return
        self._books.stop_probes(copy)
        if not copy.is_over:
            self._books.report(copy, phase=Phase.STOPPING, is_ready=False, reason="")
        if not copy.is_running:
            self._books.order(copy, Action.REMOVE)
        elif not copy.is_drained and copy.assignment is not None and copy.has_served:
            self._books.order(copy, Action.DRAIN)
        else:
            self._books.order(copy, Action.STOP)

    def _end(self, copy: Copy) -> None:
        """Nothing is left of the copy on this node."""
        if copy.assignment is None:
            del self._books.copies[copy.id]
        elif not copy.is_over:
            self._books.report(copy, phase=Phase.STOPPED, is_ready=False, reason="", endpoints=())
            self._books.happened(copy, EventKind.ALLOCATION_STOPPED, f"{copy.name} has stopped")

    def _fill_slots(self) -> None:
        """Give the free slots to those who wait, first come first served in each lane."""
        free = {Action.PREPARE: self._config.starts_max, Action.LAUNCH: self._config.starts_max}
        for copy in self._books.copies.values():
            if copy.action in free:
                free[copy.action] -= 1
        for allocation in list(self._waiting):
            queued = self._books.copies.get(allocation)
            if queued is None or queued.action is not None or queued.must_end or queued.next_try_at is not None:
                del self._waiting[allocation]
                continue
            lane = Action.LAUNCH if queued.is_prepared else Action.PREPARE
            if free[lane]:
                free[lane] -= 1
                del self._waiting[allocation]
                phase = Phase.STARTING if queued.is_prepared else Phase.PREPARING
                self._books.report(queued, phase=phase, progress=None, next_start_at_ms=None)
                self._books.order(queued, lane)

    # -------------------------------------------------------------- what came of it

    def _on_action_ended(self, event: ActionEnded) -> None:
        copy = self._books.copies.get(event.allocation)
        assert copy is not None, f"{event.action} ended for {event.allocation}, which is not known"
        assert copy.action is event.action, f"{copy.name}: {event.action} ended, {copy.action} was in flight"
        copy.action = None
        copy.touched = self._books.step
        if event.is_missing and event.action is not Action.DRAIN:
            self._on_removed(copy)
        elif event.is_unavailable:
            self._on_unavailable(copy, event.error)
        elif event.error:
            self._on_action_failed(copy, event)
        else:
            self._on_action_done(copy, event)
        self._advance(copy)

    def _on_action_done(self, copy: Copy, event: ActionEnded) -> None:
        match event.action:
            case Action.PREPARE:
                copy.is_prepared = True
                self._books.happened(copy, EventKind.ALLOCATION_PREPARED, f"{copy.name} can be started")
            case Action.LAUNCH | Action.INSPECT:
                self._on_running(copy, event.endpoints, is_adopted=event.action is Action.INSPECT)
            case Action.DRAIN:
                copy.is_drained = True
                self._books.happened(copy, EventKind.ALLOCATION_DRAINED, f"{copy.name} serves no request any more")
            case Action.STOP:
                self._on_stopped(copy)
            case Action.REMOVE:
                copy.instance = None
            case _:
                assert_never(event.action)

    def _on_unavailable(self, copy: Copy, error: str) -> None:
        # Nothing is known of what happened, so nothing is held against the copy: the next
        # listing tells.
        self._books.report(copy, reason=error)
        copy.next_try_at = Instant(self._books.now + LIST_RETRY_S)
        if copy.kind in self._listed:
            del self._listed[copy.kind]
            self._relist_at[copy.kind] = copy.next_try_at

    def _on_action_failed(self, copy: Copy, event: ActionEnded) -> None:
        if event.action in {Action.PREPARE, Action.LAUNCH}:
            if copy.must_end:
                return
            copy.deaths += 1
            first_s = self._config.backoff_first_s
            self._back_off(copy, event.error, EventKind.ALLOCATION_START_FAILED, at_least_s=first_s)
        elif event.action is Action.DRAIN:
            copy.is_drained = True
        else:
            self._books.report(copy, reason=event.error)
            copy.next_try_at = Instant(self._books.now + self._config.backoff_first_s)

    def _on_running(self, copy: Copy, endpoints: tuple[Endpoint, ...], *, is_adopted: bool) -> None:
        copy.launched_at = self._books.now
        copy.is_drained = False
        self._mark_running(copy)
        if copy.early_exit:
            # Of this run, or a late word about the one before? The runtime knows.
            self._list(copy.kind)
        if copy.must_end or copy.assignment is None:
            return
        self._books.report(
            copy,
            phase=Phase.RUNNING,
            reason="",
            progress=None,
            endpoints=endpoints,
            started_at_ms=self._books.wall,
            next_start_at_ms=None,
        )
        kind, verb = EventKind.ALLOCATION_STARTED, "runs"
        if is_adopted:
            kind, verb = EventKind.ALLOCATION_ADOPTED, "was running already and is kept"
        self._books.happened(copy, kind, f"{copy.name} {verb}")
        self._books.start_probes(copy, endpoints)

    def _mark_running(self, copy: Copy) -> None:
        if copy.instance is not None:
            copy.instance = msgspec.structs.replace(copy.instance, state=InstanceState.RUNNING, exit_code=None)
        elif copy.assignment is not None:
            allocation = copy.assignment.allocation
            copy.instance = Instance(
                allocation=copy.id,
                service=allocation.service,
                revision=allocation.revision,
                template=allocation.template,
                state=InstanceState.RUNNING,
                started_at_ms=self._books.wall,
            )

    def _on_stopped(self, copy: Copy) -> None:
        if copy.instance is not None:
            copy.instance = msgspec.structs.replace(copy.instance, state=InstanceState.EXITED)
        if not copy.must_end and copy.restart_reason:
            reason, copy.restart_reason = copy.restart_reason, ""
            copy.deaths += 1
            self._back_off(copy, reason, EventKind.ALLOCATION_RESTARTING)

    def _on_exit(self, copy: Copy, exited: InstanceExited) -> None:
        """The workload ended; who asked for it decides what that means."""
        if copy.instance is not None:
            copy.instance = msgspec.structs.replace(copy.instance, state=InstanceState.EXITED)
        self._books.stop_probes(copy)
        if copy.must_end or copy.action is Action.STOP or copy.assignment is None or copy.is_over:
            return
        ran_s = self._books.now - copy.launched_at if copy.launched_at is not None else 0.0
        copy.deaths = 1 if ran_s >= self._config.backoff_reset_s else copy.deaths + 1
        copy.restart_reason = ""
        why = describe_exit(exited)
        severity = Severity.INFO if exited.exit_code == 0 else Severity.WARNING
        self._books.happened(copy, EventKind.ALLOCATION_EXITED, f"{copy.name} ended: {why}", severity, exited.exit_code)
        self._books.report(copy, is_ready=False, exit_code=exited.exit_code)
        match judge_ending(copy.assignment.spec.restart, exited.exit_code, copy.deaths):
            case Ending.COMPLETE:
                self._books.report(copy, phase=Phase.COMPLETED, is_ready=False, reason="", endpoints=())
                self._books.happened(copy, EventKind.ALLOCATION_COMPLETED, f"{copy.name} has done its work")
            case Ending.FAIL:
                self._books.report(copy, phase=Phase.FAILED, is_ready=False, reason=why, endpoints=())
                message = f"{copy.name} failed for good: {why}"
                self._books.happened(copy, EventKind.ALLOCATION_FAILED, message, Severity.ERROR)
            case Ending.RESTART:
                self._back_off(copy, why, EventKind.ALLOCATION_RESTARTING)

    def _on_removed(self, copy: Copy) -> None:
        """The instance is gone although nobody here removed it."""
        was_running = copy.is_running
        copy.instance = None
        copy.is_prepared = False
        self._books.stop_probes(copy)
        if was_running and not copy.must_end and not copy.is_over:
            copy.deaths += 1
            copy.restart_reason = ""
            self._back_off(copy, "its instance was removed by somebody else", EventKind.ALLOCATION_RESTARTING)

    def _back_off(self, copy: Copy, why: str, kind: EventKind, *, at_least_s: float = 0.0) -> None:
        """Try again later, and say why and when."""
        assert copy.status is not None, f"{copy.id}: an orphan is not restarted"
        delay_s = max(at_least_s, backoff_s(copy.deaths, self._config, self._rng))
        self._books.report(
            copy,
            phase=Phase.BACKOFF,
            is_ready=False,
            reason=why,
            restarts=copy.status.restarts + 1,
            progress=None,
            endpoints=(),
            next_start_at_ms=WallMs(self._books.wall + int(delay_s * 1000)),
        )
        when = f"again in {format_duration(delay_s)}" if delay_s else "again at once"
        self._books.happened(copy, kind, f"{copy.name}: {why}; {when}", Severity.WARNING)
        if delay_s:
            copy.next_try_at = Instant(self._books.now + delay_s)

    def _on_health(self, event: HealthChanged) -> None:
        copy = self._books.copies.get(event.allocation)
        if copy is None or not copy.has_probes or not copy.is_running or copy.must_end:
            return
        warn = Severity.WARNING
        match event.verdict:
            case HealthVerdict.READY:
                copy.has_served = True
                self._books.report(copy, is_ready=True, reason="", ready_since_ms=self._books.wall)
                self._books.happened(copy, EventKind.ALLOCATION_READY, f"{copy.name} is ready")
            case HealthVerdict.UNREADY:
                self._books.report(copy, is_ready=False, reason=event.reason)
                message = f"{copy.name} gets no requests: {event.reason}"
                self._books.happened(copy, EventKind.ALLOCATION_UNHEALTHY, message, warn)
            case HealthVerdict.DEAD:
                self._books.stop_probes(copy)
                self._books.report(copy, is_ready=False, reason=event.reason)
                message = f"{copy.name} is restarted: {event.reason}"
                self._books.happened(copy, EventKind.ALLOCATION_UNHEALTHY, message, warn)
                copy.restart_reason = event.reason
                self._advance(copy)
            case _:
                assert_never(event.verdict)
