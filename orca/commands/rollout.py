"""What a waiting command makes of what it sees: a pure machine over successive `ServiceView`s.

    machine = Rollout(goals)
    step = machine.observe(services)      # once for every look at the cluster
    step.verdict                          # None while there is something to wait for

The cluster alone decides whether a rollout completed or failed; this machine only
reads it, notices when the wait has lost its object (the service was changed or
removed by somebody else) and keeps what people want to know afterwards: which copy
was not healthy, and what serves instead.
"""

import enum
from collections.abc import Iterable

import msgspec

from orca.model.allocation import TERMINAL_PHASES, DesiredStatus, Phase, PrepareProgress
from orca.model.ids import AllocationId, ServiceId, SpecRevision
from orca.model.view import AllocationView, ChangeAction, RolloutState, ServiceChange, ServiceView


class GoalKind(enum.Enum):
    """What is waited for."""

    HEALTHY = "healthy"
    STOPPED = "stopped"
    GONE = "gone"


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """`service` should be `kind`; `revision` is the one that the change made."""

    service: ServiceId
    kind: GoalKind
    revision: SpecRevision = SpecRevision(0)


class CopyChanged(msgspec.Struct, frozen=True, kw_only=True):
    """One copy is somewhere else than at the last look."""

    service: ServiceId
    slot: int
    allocation: AllocationId
    revision: SpecRevision
    phase: Phase
    is_ready: bool
    reason: str = ""
    restarts: int = 0
    progress: PrepareProgress | None = None


class ServiceFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why the wait for one service ended without success.

    `unhealthy` are the new revision's copies that are not well; `serving` is the older
    revision that still takes requests, None when there is none.
    """

    service: ServiceId
    revision: SpecRevision
    message: str
    unhealthy: tuple[AllocationView, ...] = ()
    serving: SpecRevision | None = None


class ServiceProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far one goal is; `view` is None while the service is not there."""

    goal: Goal
    view: ServiceView | None
    is_done: bool = False
    failure: ServiceFailure | None = None
    message: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.is_done or self.failure is not None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a wait; no failures is success."""

    failures: tuple[ServiceFailure, ...] = ()


class RolloutStep(msgspec.Struct, frozen=True, kw_only=True):
    """What one look showed: all goals, what changed since the last look, and the end if it is reached."""

    services: tuple[ServiceProgress, ...]
    changes: tuple[CopyChanged, ...] = ()
    verdict: Verdict | None = None


def goals_of(changes: Iterable[ServiceChange]) -> tuple[Goal, ...]:
    """What to wait for after a deploy answered `changes`."""
    return tuple(
        Goal(
            service=change.service,
            kind=GoalKind.GONE if change.action is ChangeAction.REMOVE else GoalKind.HEALTHY,
            revision=change.revision,
        )
        for change in changes
    )


class Rollout:
    """Follows `goals` until each is reached or lost."""

    def __init__(self, goals: tuple[Goal, ...]) -> None:
        self.goals = goals
        self._seen: dict[ServiceId, ServiceView] = {}
        self._copies: dict[AllocationId, CopyChanged] = {}
        self._latest: tuple[ServiceProgress, ...] = tuple(ServiceProgress(goal=goal, view=None) for goal in goals)

    def observe(self, services: Iterable[ServiceView]) -> RolloutStep:
        """Take one look; `services` that no goal names are passed over."""
        now = {service.id: service for service in services}
        self._latest = tuple(self._judge(goal, now.get(goal.service)) for goal in self.goals)
        changes = self._changes(now)
        self._seen.update({goal.service: now[goal.service] for goal in self.goals if goal.service in now})
        return RolloutStep(services=self._latest, changes=changes, verdict=self._verdict())

    def expire(self, waited: str) -> Verdict:
        """The verdict when the caller's patience ends after `waited`: what is open counts as failed."""
        failures = []
        for progress in self._latest:
            if progress.failure is not None:
                failures.append(progress.failure)
            elif not progress.is_done:
                why = f": {progress.message}" if progress.message else ""
                wanted = {GoalKind.HEALTHY: "healthy", GoalKind.STOPPED: "stopped", GoalKind.GONE: "gone"}
                message = f"is not {wanted[progress.goal.kind]} after {waited}{why}; it goes on without us"
                failures.append(_failure(progress.goal, progress.view, message))
        return Verdict(failures=tuple(failures))

    def _judge(self, goal: Goal, view: ServiceView | None) -> ServiceProgress:
        match goal.kind:
            case GoalKind.GONE:
                return self._judge_gone(goal, view)
            case GoalKind.STOPPED:
                return self._judge_stopped(goal, view)
            case GoalKind.HEALTHY:
                return self._judge_healthy(goal, view)

    def _judge_gone(self, goal: Goal, view: ServiceView | None) -> ServiceProgress:
        if view is None:
            return ServiceProgress(goal=goal, view=None, is_done=True)
        left = len(_alive(view))
        return ServiceProgress(goal=goal, view=view, message=f"{left} {'copy' if left == 1 else 'copies'} left")

    def _judge_stopped(self, goal: Goal, view: ServiceView | None) -> ServiceProgress:
        if view is None:
            return self._missing(goal)
        if not view.is_stopped:
            before = self._seen.get(goal.service)
            if before is not None and before.is_stopped:
                return _lost(goal, view, "was started again meanwhile")
            return ServiceProgress(goal=goal, view=view)
        left = len(_alive(view))
        message = "" if not left else f"{left} {'copy' if left == 1 else 'copies'} left"
        return ServiceProgress(goal=goal, view=view, is_done=not left, message=message)

    def _judge_healthy(self, goal: Goal, view: ServiceView | None) -> ServiceProgress:
        if view is None:
            return self._missing(goal)
        if view.revision > goal.revision:
            replaced = f"revision {goal.revision} was replaced by revision {view.revision} meanwhile"
            return _lost(goal, view, view.rollout.message if view.rollout.is_way_back else replaced)
        if view.revision < goal.revision or view.rollout.revision != goal.revision:
            return ServiceProgress(goal=goal, view=view, message="waiting for the node to see the change")
        if view.is_stopped:
            return ServiceProgress(goal=goal, view=view, is_done=True, message="stopped")
        return _judge_rollout(goal, view)

    def _missing(self, goal: Goal) -> ServiceProgress:
        if goal.service in self._seen:
            return _lost(goal, None, "was removed meanwhile")
        return ServiceProgress(goal=goal, view=None, message="waiting for the node to see the change")

    def _changes(self, now: dict[ServiceId, ServiceView]) -> tuple[CopyChanged, ...]:
        changes = []
        for goal in self.goals:
            view = now.get(goal.service)
            for copy in view.allocations if view is not None else ():
                change = _as_change(copy)
                before = self._copies.get(copy.id)
                self._copies[copy.id] = change
                # At the first look, only the copies that the change brought are news.
                is_new = goal.kind is GoalKind.HEALTHY and copy.revision == goal.revision
                if before != change if before is not None else is_new:
                    changes.append(change)
        return tuple(changes)

    def _verdict(self) -> Verdict | None:
        failures = tuple(progress.failure for progress in self._latest if progress.failure is not None)
        still_open = [progress for progress in self._latest if not progress.is_settled]
        if not still_open:
            return Verdict(failures=failures)
        # A service that waits for a failed one would only fail later for the same cause.
        if failures and all(progress.view is not None and progress.view.blocked for progress in still_open):
            blocked = tuple(_failure(progress.goal, progress.view, progress.message) for progress in still_open)
            return Verdict(failures=failures + blocked)
        return None


def unhealthy_copies(view: ServiceView, revision: SpecRevision) -> tuple[AllocationView, ...]:
    """The copies of `revision` that are not well, those still wanted first."""
    bad = [
        copy
        for copy in view.allocations
        if copy.revision == revision
        and not copy.is_ready
        and copy.phase not in (Phase.COMPLETED, Phase.STOPPED)
        and not (view.is_job and copy.phase is Phase.RUNNING)
    ]
    return tuple(sorted(bad, key=lambda copy: (copy.desired is not DesiredStatus.RUNNING, copy.slot)))


def serving_revision(view: ServiceView, revision: SpecRevision) -> SpecRevision | None:
    """The newest revision before `revision` with a copy that takes requests."""
    older = [copy.revision for copy in view.allocations if copy.is_ready and copy.revision < revision]
    return max(older, default=None)


def _judge_rollout(goal: Goal, view: ServiceView) -> ServiceProgress:
    """What the cluster says of the rollout; one that waits for a person is as far as it gets without one."""
    rollout = view.rollout
    match rollout.state:
        case RolloutState.COMPLETED:
            return _judge_completed(goal, view)
        case RolloutState.FAILED:
            message = rollout.message or f"revision {goal.revision} did not become healthy"
            return ServiceProgress(goal=goal, view=view, failure=_failure(goal, view, message), message=message)
        case RolloutState.AWAITING:
            return ServiceProgress(goal=goal, view=view, is_done=True, message=rollout.message)
        case RolloutState.PROGRESSING:
            message = "paused; `orca resume` goes on" if rollout.is_paused else view.blocked or rollout.message
            return ServiceProgress(goal=goal, view=view, is_done=rollout.is_paused, message=message)


def _judge_completed(goal: Goal, view: ServiceView) -> ServiceProgress:
    """A rollout that the cluster calls complete, looked at again: its copies may have died since."""
    bad = [copy for copy in unhealthy_copies(view, goal.revision) if copy.desired is DesiredStatus.RUNNING]
    if view.is_job or not bad:
        return ServiceProgress(goal=goal, view=view, is_done=True, message=view.rollout.message)
    dead = next((copy for copy in bad if copy.phase in (Phase.BACKOFF, Phase.FAILED)), None)
    if dead is not None:
        message = f"became ready, but does not stay up: {dead.reason or dead.phase.value}"
        return ServiceProgress(goal=goal, view=view, failure=_failure(goal, view, message), message=message)
    if any(copy.phase is not Phase.RUNNING for copy in bad):
        return ServiceProgress(goal=goal, view=view, message="a copy is started again")
    return ServiceProgress(goal=goal, view=view, is_done=True, message=f"{view.ready} of {view.replicas} ready")


def _failure(goal: Goal, view: ServiceView | None, message: str) -> ServiceFailure:
    if view is None:
        return ServiceFailure(service=goal.service, revision=goal.revision, message=message)
    is_rollout = goal.kind is GoalKind.HEALTHY
    return ServiceFailure(
        service=goal.service,
        revision=goal.revision,
        message=message,
        unhealthy=unhealthy_copies(view, goal.revision) if is_rollout else _alive(view),
        serving=serving_revision(view, goal.revision) if is_rollout else None,
    )


def _lost(goal: Goal, view: ServiceView | None, message: str) -> ServiceProgress:
    failure = ServiceFailure(service=goal.service, revision=goal.revision, message=message)
    return ServiceProgress(goal=goal, view=view, failure=failure, message=message)


def _alive(view: ServiceView) -> tuple[AllocationView, ...]:
    return tuple(copy for copy in view.allocations if copy.phase not in TERMINAL_PHASES)


def _as_change(copy: AllocationView) -> CopyChanged:
    return CopyChanged(
        service=copy.service,
        slot=copy.slot,
        allocation=copy.id,
        revision=copy.revision,
        phase=copy.phase,
        is_ready=copy.is_ready,
        reason=copy.reason,
        restarts=copy.restarts,
        progress=copy.progress,
    )
