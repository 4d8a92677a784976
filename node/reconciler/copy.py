"""What the reconciler remembers of one copy."""

import msgspec

from node.reconciler.events import Action, Assignment
from node.runtime.base import Instance, InstanceState
from orca.model.allocation import TERMINAL_PHASES, AllocationStatus, DesiredStatus
from orca.model.ids import AllocationId, display_name
from orca.model.spec import RuntimeKind
from orca.model.units import Instant


class Copy(msgspec.Struct, kw_only=True):
    """One copy: its assignment (None: nobody asked for it), what the runtime has, what is going on.

    `deaths` counts ends in a row and falls back to 0 after a long run; the status keeps
    the total. `early_exit`: an exit was reported while an action was in flight, of this run
    or of the one before; the next listing tells. `touched` is the step that last learned
    something of the instance: an older listing must not overrule it.
    """

    id: AllocationId
    kind: RuntimeKind
    assignment: Assignment | None
    status: AllocationStatus | None
    instance: Instance | None = None
    action: Action | None = None
    early_exit: bool = False
    touched: int = 0
    is_prepared: bool = False
    is_drained: bool = False
    has_probes: bool = False
    has_served: bool = False
    deaths: int = 0
    restart_reason: str = ""
    launched_at: Instant | None = None
    next_try_at: Instant | None = None

    @property
    def must_end(self) -> bool:
        """Whether the decision is that it stops."""
        return self.assignment is None or self.assignment.allocation.desired is DesiredStatus.STOPPED

    @property
    def is_over(self) -> bool:
        """Whether it ended for good, by itself or because it was stopped."""
        return self.status is not None and self.status.phase in TERMINAL_PHASES

    @property
    def is_running(self) -> bool:
        """Whether the runtime says that it runs."""
        return self.instance is not None and self.instance.state is InstanceState.RUNNING

    @property
    def name(self) -> str:
        """How people call it: `web.1`."""
        if self.assignment is None:
            return str(self.id)
        allocation = self.assignment.allocation
        return f"{display_name(allocation.service)}.{allocation.slot + 1}"
