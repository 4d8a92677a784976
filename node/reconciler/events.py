"""What the reconciler is told, and what it orders."""

import enum
from typing import TypeAlias

import msgspec

from node.runtime.base import Instance, RuntimeEvent
from orca.model.allocation import Allocation, AllocationStatus, Endpoint, PrepareProgress
from orca.model.event import EventKind, Severity
from orca.model.ids import AllocationId, LeaseEpoch
from orca.model.spec import RuntimeKind, ServiceSpec


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """An event or an effect."""


class Permit(_Value, frozen=True):
    """What a copy may do that may not run at any time. With a `fence`, the number of its lease, a singleton's may run.

    Without one it must not be started; one that runs already under an earlier agent is left alone while `may_stay`.
    `must_wait`: no start for now, whatever it is. `is_over`: it ends for good. `why` says that to people.
    """

    fence: LeaseEpoch | None = None
    may_stay: bool = False
    must_wait: bool = False
    is_over: bool = False
    why: str = ""


class Assignment(_Value, frozen=True):
    """A copy that belongs on this node, the spec that it was placed for, and its permit if that is a singleton's."""

    allocation: Allocation
    spec: ServiceSpec
    permit: Permit = Permit()


class Action(enum.Enum):
    """What can be done to a copy; one at a time."""

    PREPARE = "prepare"
    LAUNCH = "launch"
    INSPECT = "inspect"
    DRAIN = "drain"
    STOP = "stop"
    REMOVE = "remove"


class HealthVerdict(enum.Enum):
    """What the probes concluded."""

    READY = "ready"
    UNREADY = "unready"
    DEAD = "dead"


class Tick(_Value, frozen=True):
    """Time has passed; `deadline()` was reached."""


class AssignmentsChanged(_Value, frozen=True):
    """All copies that belong here. `is_trusted`: they come from a state that was really read."""

    assignments: tuple[Assignment, ...]
    is_trusted: bool = True


class InstancesListed(_Value, frozen=True):
    """Everything that a runtime has of this cluster and node."""

    kind: RuntimeKind
    instances: tuple[Instance, ...]


class ListFailed(_Value, frozen=True):
    """The runtime could not list its instances."""

    kind: RuntimeKind
    reason: str


class RuntimeReported(_Value, frozen=True):
    """A runtime published an event."""

    event: RuntimeEvent


class PrepareProgressed(_Value, frozen=True):
    """A pull or a compilation got further."""

    allocation: AllocationId
    progress: PrepareProgress


class ActionEnded(_Value, frozen=True):
    """An action succeeded (`error` empty) or did not.

    `is_unavailable`: the engine did not answer, so nothing is known of what happened.
    `is_missing`: there is no such instance. `has_ended`: it was done, but the workload
    does not run any more.
    """

    allocation: AllocationId
    action: Action
    error: str = ""
    is_unavailable: bool = False
    is_missing: bool = False
    has_ended: bool = False
    endpoints: tuple[Endpoint, ...] = ()


class HealthChanged(_Value, frozen=True):
    """The probes of a copy changed their mind."""

    allocation: AllocationId
    verdict: HealthVerdict
    reason: str = ""


Event: TypeAlias = (
    Tick
    | AssignmentsChanged
    | InstancesListed
    | ListFailed
    | RuntimeReported
    | PrepareProgressed
    | ActionEnded
    | HealthChanged
)


class RunAction(_Value, frozen=True):
    """Do `action`; the answer is one `ActionEnded`.

    `assignment` is None for an instance that nobody asked for.
    """

    allocation: AllocationId
    kind: RuntimeKind
    action: Action
    assignment: Assignment | None
    timeout_s: float = 0.0


class CancelAction(_Value, frozen=True):
    """Give up the action in flight; its `ActionEnded` still comes, with an error."""

    allocation: AllocationId


class ListInstances(_Value, frozen=True):
    """Ask a runtime what it has; the answer is `InstancesListed` or `ListFailed`."""

    kind: RuntimeKind


class StartProbes(_Value, frozen=True):
    """Begin asking a copy how it is."""

    allocation: AllocationId
    spec: ServiceSpec
    endpoints: tuple[Endpoint, ...]


class StopProbes(_Value, frozen=True):
    """Stop asking."""

    allocation: AllocationId


class StatusChanged(_Value, frozen=True):
    """What everybody may know of a copy is different now."""

    status: AllocationStatus


class StatusDropped(_Value, frozen=True):
    """The cluster has forgotten the copy."""

    allocation: AllocationId


class Happened(_Value, frozen=True):
    """A line for the history of a copy."""

    kind: EventKind
    message: str
    assignment: Assignment | None
    severity: Severity = Severity.INFO
    exit_code: int | None = None


Effect: TypeAlias = (
    RunAction | CancelAction | ListInstances | StartProbes | StopProbes | StatusChanged | StatusDropped | Happened
)
