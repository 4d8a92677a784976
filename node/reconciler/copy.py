"""What the reconciler remembers of one copy."""

import msgspec

from node.reconciler.events import Action, Assignment
from node.runtime.base import Instance, InstanceExited, InstanceState
from orca.model.allocation import TERMINAL_PHASES, AllocationStatus, DesiredStatus
from orca.model.ids import AllocationId, LeaseEpoch, display_name
from orca.model.spec import RuntimeKind
from orca.model.units import Instant


class Copy(msgspec.Struct, kw_only=True):
    """One copy: its assignment (None: nobody asked for it), what the runtime has, what is going on.

    `deaths` counts ends in a row and falls back to 0 after a long run; the status keeps
    the total. `early_exit`: an end was reported while an action was in flight, of this run
    or of the one before. `is_unsure`: what there is now is open, and the next listing
    tells; nothing is done to the copy before that. `may_have_run`: it was started, or may
    have been, and no end of that run has been judged. `touched` is the step that last
    learned something of the instance: an older listing must not overrule it.
    """

    id: AllocationId
    kind: RuntimeKind
    assignment: Assignment | None
    status: AllocationStatus | None
    instance: Instance | None = None
    action: Action | None = None
    early_exit: bool = False
    is_unsure: bool = False
    may_have_run: bool = False
    touched: int = 0
    is_prepared: bool = False
    is_drained: bool = False
    has_probes: bool = False
    has_served: bool = False
    deaths: int = 0
    restart_reason: str = ""
    launched_at: Instant | None = None
    launched_fence: LeaseEpoch | None = None
    next_try_at: Instant | None = None

    @property
    def must_end(self) -> bool:
        """Whether the decision is that it stops."""
        stops = self.assignment is None or self.assignment.allocation.desired is DesiredStatus.STOPPED
        return stops or self.is_barred

    @property
    def is_barred(self) -> bool:
        """Whether it ends because it may not run any more."""
        return self.assignment is not None and self.assignment.permit.is_over

    @property
    def has_no_time(self) -> bool:
        """Whether it ends because its lease is lost: it has no time for anything else."""
        return self.is_barred and self.assignment is not None and self.assignment.spec.singleton is not None

    @property
    def may_launch(self) -> bool:
        """Whether a start is allowed: always, or under a lease."""
        if self.assignment is None:
            return True
        is_alone = self.assignment.spec.singleton is not None
        return not self.assignment.permit.must_wait and (not is_alone or self.fence is not None)

    @property
    def fence(self) -> LeaseEpoch | None:
        """The number under which it may run, if that is needed."""
        return None if self.assignment is None else self.assignment.permit.fence

    @property
    def waits_for(self) -> str:
        """Why it may not be launched."""
        why = "" if self.assignment is None else self.assignment.permit.why
        return why or "it waits for its lease"

    @property
    def is_foreign(self) -> bool:
        """Whether what there is was made under another lease than it has, or without one."""
        if self.assignment is None or self.instance is None or self.assignment.spec.singleton is None:
            return False
        return self.instance.fence != self.fence

    @property
    def is_over(self) -> bool:
        """Whether it ended for good, by itself or because it was stopped."""
        return self.status is not None and self.status.phase in TERMINAL_PHASES

    @property
    def is_running(self) -> bool:
        """Whether the runtime says that it runs."""
        return self.instance is not None and self.instance.state is InstanceState.RUNNING

    @property
    def has_exited(self) -> bool:
        """Whether the runtime says that it ran and ended."""
        return self.instance is not None and self.instance.state is InstanceState.EXITED

    @property
    def name(self) -> str:
        """How people call it: `web.1`."""
        if self.assignment is None:
            return str(self.id)
        allocation = self.assignment.allocation
        return f"{display_name(allocation.service)}.{allocation.slot + 1}"


def end_of(copy: Copy) -> InstanceExited:
    """How the run of `copy` ended, as the runtime lists it; it must have exited."""
    instance = copy.instance
    assert instance is not None, f"{copy.name} has no instance that could have ended"
    return InstanceExited(
        allocation=copy.id,
        exit_code=instance.exit_code or 0,
        is_oom_killed=instance.is_oom_killed,
        detail=instance.detail,
    )


def is_other_run(before: Instance | None, now: Instance) -> bool:
    """Whether two looks at an instance certainly saw two runs of it."""
    if before is None or before.started_at_ms is None or now.started_at_ms is None:
        return False
    return before.started_at_ms != now.started_at_ms


def mark_running(copy: Copy, *, is_new_run: bool) -> None:
    """A launch or a look has found that it runs."""
    copy.may_have_run = True
    if copy.instance is not None:
        started_at_ms = None if is_new_run else copy.instance.started_at_ms
        fence = copy.launched_fence if is_new_run else copy.instance.fence
        copy.instance = msgspec.structs.replace(
            copy.instance, state=InstanceState.RUNNING, exit_code=None, started_at_ms=started_at_ms, fence=fence
        )
    elif copy.assignment is not None:
        allocation = copy.assignment.allocation
        copy.instance = Instance(
            allocation=copy.id,
            service=allocation.service,
            revision=allocation.revision,
            template=allocation.template,
            state=InstanceState.RUNNING,
            fence=copy.launched_fence,
        )
