"""The pure machine: events in, orders out. The package docstring has the theory."""

from collections.abc import Mapping
from typing import assert_never

from node.reconciler.copy import Copy, end_of, is_other_run, mark_running
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
    StatusDropped,
    Tick,
)
from node.reconciler.ledger import Ledger
from node.reconciler.listings import Listings
from node.reconciler.setbacks import Setbacks
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
from orca.model.allocation import AllocationStatus, Phase
from orca.model.event import EventKind, Severity
from orca.model.ids import AllocationId, NodeId
from orca.model.spec import RuntimeKind
from orca.model.units import Instant, WallMs
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
        self._ended = dict(ended)
        self._books = Ledger(config.starts_max)
        self._setbacks = Setbacks(self._books, config, rng)
        self._listings = Listings()
        self._assigned: dict[AllocationId, Assignment] = {}
        self._is_trusted = False

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
                self._listings.failed(event.kind, Instant(now + LIST_RETRY_S))
                self._list_if_wished(event.kind)
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
        listing = self._listings.deadline()
        return min(waits if listing is None else (*waits, listing), default=None)

    def check_invariants(self) -> None:
        """Raise AssertionError when the machine contradicts itself."""
        for lane in (Action.LAUNCH, Action.PREPARE):
            busy = [copy.name for copy in self._books.copies.values() if copy.action is lane]
            free = self._config.starts_max - len(busy)
            assert 0 <= free == self._books.lanes.free(lane), f"{lane.value} of {len(busy)} at once"
        for copy in self._books.copies.values():
            status = copy.status
            assert status is None or not status.is_ready or status.phase is Phase.RUNNING, (
                f"{copy.name} is ready while {status.phase.value}"
            )
            assert copy.assignment is not None or status is None, f"{copy.id}: an orphan has a status"
            assert copy.next_try_at is None or copy.action is None, f"{copy.name} waits while {copy.action} runs"
            assert not copy.has_probes or copy.is_running, f"{copy.name} is probed and does not run"
            assert not copy.is_unsure or copy.action is None, f"{copy.name}: {copy.action} of what nobody knows"
            if status is not None and status.phase is Phase.STOPPED:
                assert copy.must_end, f"{copy.name} is reported as stopped and is to run"
                assert copy.instance is None, f"{copy.name} is reported as stopped and exists"

    # ------------------------------------------------------------- what to have

    def _on_assignments(self, event: AssignmentsChanged) -> None:
        before = self._assigned
        self._assigned = {one.allocation.id: one for one in event.assignments}
        if event.is_trusted:
            self._is_trusted = True
            self._forget_ended()
        else:
            # What is not in a state that nobody vouches for is not gone.
            self._assigned = before | self._assigned
        for allocation, assignment in self._assigned.items():
            if before.get(allocation) != assignment:
                self._assign(assignment)
        for copy in [one for one in self._books.copies.values() if one.id not in self._assigned]:
            if copy.assignment is not None:
                self._books.drop(copy)
            self._cancel_useless(copy)
            self._advance(copy)

    def _forget_ended(self) -> None:
        """Jobs that ended under an earlier agent and that the cluster has forgotten since."""
        for allocation in [one for one in self._ended if one not in self._assigned]:
            del self._ended[allocation]
            if allocation not in self._books.copies:
                self._books.effects.append(StatusDropped(allocation=allocation))

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
            if copy.status is not fresh:
                self._books.publish(copy)
        self._books.report(copy, revision=allocation.revision)
        if copy.must_end:
            copy.next_try_at = None
        elif copy.action is None and copy.may_have_run and copy.has_exited:
            # It was found before anybody knew whose it was.
            self._setbacks.on_exit(copy, end_of(copy))
        self._cancel_useless(copy)
        self._advance(copy)

    def _cancel_useless(self, copy: Copy) -> None:
        if copy.must_end and (copy.action is Action.PREPARE or (copy.has_no_time and copy.action is Action.DRAIN)):
            self._books.report(copy, phase=Phase.STOPPING, is_ready=False)
            self._books.effects.append(CancelAction(allocation=copy.id))

    # ------------------------------------------------------------ what there is

    def _on_listed(self, event: InstancesListed) -> None:
        since = self._listings.answered(event.kind)
        if since is not None:
            seen = {instance.allocation: instance for instance in event.instances}
            for allocation in seen:
                if allocation not in self._books.copies:
                    self._books.copies[allocation] = Copy(id=allocation, kind=event.kind, assignment=None, status=None)
            for copy in [one for one in self._books.copies.values() if one.kind is event.kind]:
                if copy.action is None and copy.touched <= since:
                    self._observe(copy, seen.get(copy.id))
                elif copy.is_unsure:
                    self._list(event.kind)
                self._advance(copy)
        self._list_if_wished(event.kind)

    def _list_if_wished(self, kind: RuntimeKind) -> None:
        if self._listings.take_wish(kind):
            self._list(kind)

    def _observe(self, copy: Copy, instance: Instance | None) -> None:
        """Take the runtime's word for what is there."""
        before = copy.instance
        was_running = copy.is_running
        copy.early_exit = copy.is_unsure = False
        if instance is None:
            copy.may_have_run = False
            if before is not None:
                self._setbacks.on_removed(copy)
            return
        if was_running and (instance.state is InstanceState.CREATED or is_other_run(before, instance)):
            # Somebody made it anew, or started it again, while nobody looked.
            self._books.stop_probes(copy)
            self._books.report(copy, phase=Phase.STARTING, is_ready=False, endpoints=())
        copy.instance = instance
        copy.is_prepared = True
        copy.may_have_run = copy.may_have_run or before is None or copy.is_running
        if copy.is_running and not was_running and not copy.must_end:
            copy.next_try_at = None
        elif copy.has_exited and copy.may_have_run:
            self._setbacks.on_exit(copy, end_of(copy))

    def _on_runtime_event(self, event: RuntimeEvent) -> None:
        if isinstance(event, RuntimeStateChanged):
            self._on_runtime_state(event)
            return
        copy = self._books.copies.get(event.allocation)
        if copy is None:
            return
        if copy.action in {Action.LAUNCH, Action.INSPECT}:
            copy.early_exit = copy.early_exit or not isinstance(event, InstanceStarted)
            return
        match event:
            case InstanceStarted():
                # By hand, or a late word about a run that is over: the runtime knows.
                if copy.action is None and not copy.is_running:
                    self._list(copy.kind)
            case InstanceExited():
                if copy.is_running:
                    self._on_exited(copy, event)
            case InstanceRemoved():
                if copy.action is None and copy.instance is not None:
                    self._list(copy.kind)
            case _:
                assert_never(event)

    def _on_exited(self, copy: Copy, event: InstanceExited) -> None:
        if copy.action is None and not copy.must_end and copy.assignment and copy.assignment.spec.is_job:
            # Its end is final, so a late word about an earlier run must not be taken for it.
            self._list(copy.kind)
            return
        copy.touched = self._books.step
        self._setbacks.on_exit(copy, event)
        self._advance(copy)

    def _on_runtime_state(self, event: RuntimeStateChanged) -> None:
        kind = event.state.kind
        if event.state.is_available:
            self._list(kind)
            return
        self._listings.lose(kind, None)
        for copy in self._books.copies.values():
            if copy.kind is kind and not copy.is_running and not copy.is_over:
                self._books.report(copy, reason=f"{kind.value} is not available: {event.state.reason}")

    def _list(self, kind: RuntimeKind) -> None:
        if self._listings.ask(kind, self._books.step):
            self._books.effects.append(ListInstances(kind=kind))

    def _on_tick(self) -> None:
        for kind in self._listings.due(self._books.now):
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
        if copy.is_unsure or not self._listings.is_known(copy.kind):
            if copy.must_end and not copy.is_over:
                self._books.report(copy, phase=Phase.STOPPING, is_ready=False)
            return
        if copy.must_end:
            self._books.lanes.leave(copy.id)
            self._advance_to_end(copy)
        elif copy.is_over:
            return
        elif not copy.is_running:
            self._books.lanes.join(copy.id)
        elif copy.is_foreign and not copy.restart_reason:
            self._on_foreign(copy)
        elif copy.restart_reason:
            self._books.order(copy, Action.STOP)
        elif copy.status is None or copy.status.phase is not Phase.RUNNING:
            self._books.order(copy, Action.INSPECT)

    def _on_foreign(self, copy: Copy) -> None:
        """It runs, and not under the lease that this copy has: it stops, unless that is not known yet."""
        if copy.assignment is not None and copy.fence is None and copy.assignment.permit.may_stay:
            return
        copy.restart_reason = "it was started under another lease"
        self._books.order(copy, Action.STOP)

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
        elif not copy.is_drained and copy.assignment is not None and copy.has_served and not copy.has_no_time:
            self._books.order(copy, Action.DRAIN)
        else:
            self._books.order(copy, Action.STOP)

    def _end(self, copy: Copy) -> None:
        """Nothing is left of the copy on this node."""
        if copy.assignment is None:
            del self._books.copies[copy.id]
        elif not copy.is_over:
            why = copy.assignment.permit.why if copy.is_barred else ""
            self._books.report(copy, phase=Phase.STOPPED, is_ready=False, reason=why, endpoints=())
            message = f"{copy.name} has stopped" + (f": {why}" if why else "")
            severity = Severity.WARNING if why else Severity.INFO
            self._books.happened(copy, EventKind.ALLOCATION_STOPPED, message, severity)

    def _fill_slots(self) -> None:
        """Give the free slots to those who wait, first come first served in each lane."""
        lanes = self._books.lanes
        for allocation in lanes.waiting():
            copy = self._books.copies.get(allocation)
            if copy is None or not self._may_start(copy):
                lanes.leave(allocation)
                continue
            if copy.is_prepared and not copy.may_launch:
                # It asks again when it has its lease.
                lanes.leave(allocation)
                self._books.report(copy, phase=Phase.PENDING, reason=copy.waits_for, next_start_at_ms=None)
                continue
            lane = Action.LAUNCH if copy.is_prepared else Action.PREPARE
            if lanes.is_free(lane):
                lanes.leave(allocation)
                phase = Phase.STARTING if copy.is_prepared else Phase.PREPARING
                self._books.report(copy, phase=phase, progress=None, next_start_at_ms=None)
                copy.may_have_run = copy.may_have_run or lane is Action.LAUNCH
                copy.launched_fence = copy.fence if lane is Action.LAUNCH else copy.launched_fence
                self._books.order(copy, lane)

    def _may_start(self, copy: Copy) -> bool:
        """Whether a copy that waits for its turn still wants it: it asks again when that changes."""
        is_idle = copy.action is None and copy.next_try_at is None and not copy.is_unsure
        is_wanted = not copy.must_end and not copy.is_over and not copy.is_running
        return is_idle and is_wanted and self._listings.is_known(copy.kind)

    # -------------------------------------------------------------- what came of it

    def _on_action_ended(self, event: ActionEnded) -> None:
        copy = self._books.copies.get(event.allocation)
        assert copy is not None, f"{event.action} ended for {event.allocation}, which is not known"
        assert copy.action is event.action, f"{copy.name}: {event.action} ended, {copy.action} was in flight"
        copy.action = None
        self._books.lanes.ended(event.action)
        copy.touched = self._books.step
        if event.error and event.action is Action.LAUNCH:
            # It may have been made, and may even run. The next listing tells.
            copy.is_unsure = True
            copy.is_prepared = False
            self._list(copy.kind)
        if event.is_missing and event.action in {Action.INSPECT, Action.STOP, Action.REMOVE}:
            self._setbacks.on_removed(copy)
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
                self._on_running(copy, event)
            case Action.DRAIN:
                copy.is_drained = True
                self._books.happened(copy, EventKind.ALLOCATION_DRAINED, f"{copy.name} serves no request any more")
            case Action.STOP:
                self._setbacks.on_stopped(copy)
            case Action.REMOVE:
                copy.instance = None
            case _:
                assert_never(event.action)

    def _on_unavailable(self, copy: Copy, error: str) -> None:
        # Nothing is known of what happened, so nothing is held against the copy: the next
        # listing tells.
        self._books.report(copy, reason=error)
        copy.next_try_at = Instant(self._books.now + LIST_RETRY_S)
        self._listings.lose(copy.kind, copy.next_try_at)

    def _on_action_failed(self, copy: Copy, event: ActionEnded) -> None:
        if event.action in {Action.PREPARE, Action.LAUNCH}:
            if copy.must_end:
                return
            copy.deaths += 1
            first_s = self._config.backoff_first_s
            self._setbacks.back_off(copy, event.error, EventKind.ALLOCATION_START_FAILED, at_least_s=first_s)
        elif event.action is Action.DRAIN:
            copy.is_drained = True
        else:
            self._books.report(copy, reason=event.error)
            copy.next_try_at = Instant(self._books.now + self._config.backoff_first_s)

    def _on_running(self, copy: Copy, event: ActionEnded) -> None:
        is_adopted = event.action is Action.INSPECT and copy.launched_at is None
        if event.action is Action.LAUNCH:
            copy.restart_reason = ""
        copy.launched_at = self._books.now
        copy.is_drained = False
        mark_running(copy, is_new_run=event.action is Action.LAUNCH)
        if copy.early_exit or event.has_ended:
            # Did this run end, or the one before? The runtime knows, and before it has
            # said so nobody must send requests there.
            copy.is_unsure = True
            self._list(copy.kind)
            return
        if copy.must_end or copy.assignment is None or copy.status is None:
            return
        started_at_ms = None if copy.instance is None else copy.instance.started_at_ms
        self._books.report(
            copy,
            phase=Phase.RUNNING,
            reason="",
            progress=None,
            endpoints=event.endpoints,
            started_at_ms=started_at_ms or self._books.wall,
            next_start_at_ms=None,
        )
        kind, verb = EventKind.ALLOCATION_STARTED, "runs"
        if is_adopted:
            kind, verb = EventKind.ALLOCATION_ADOPTED, "was running already and is kept"
            # It may have served under an earlier agent, so it is not one that never did.
            self._books.report(copy, ready_since_ms=copy.status.ready_since_ms or self._books.wall)
        self._books.happened(copy, kind, f"{copy.name} {verb}")
        self._books.start_probes(copy, event.endpoints)

    def _on_health(self, event: HealthChanged) -> None:
        copy = self._books.copies.get(event.allocation)
        if copy is None or not copy.has_probes or not copy.is_running or copy.must_end:
            return
        warn = Severity.WARNING
        match event.verdict:
            case HealthVerdict.READY:
                if copy.status is not None and copy.status.is_ready:
                    return
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
