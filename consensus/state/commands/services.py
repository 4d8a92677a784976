"""Commands about services, and the scheduler's decisions about their copies."""

from typing import TypeAlias

from consensus.state.commands.base import Change, Duty, Part
from orca.model.allocation import Allocation
from orca.model.ids import AllocationId, ProjectName, ServiceId, SpecRevision, StateRevision
from orca.model.spec import ServiceSpec
from orca.model.units import WallMs
from orca.model.view import RolloutState


class SpecEntry(Part, frozen=True, kw_only=True):
    """A spec and the hash of its template, made by the proposer.

    The hash travels because two releases may hash differently, and replicas may not.
    """

    spec: ServiceSpec
    template: str


class PutServices(Change, frozen=True, kw_only=True, tag="put_services"):
    """Create or update services, all or none.

    With `prune_projects` the other services of those projects are removed. `lock` is the id of the deploy lock that
    this deploy is made under.
    """

    entries: tuple[SpecEntry, ...]
    prune_projects: tuple[ProjectName, ...] = ()
    note: str = ""
    lock: str = ""


class ScaleService(Change, frozen=True, kw_only=True, tag="scale_service"):
    """Ask for another number of copies."""

    service: ServiceId
    replicas: int


class StopService(Change, frozen=True, kw_only=True, tag="stop_service"):
    """Keep the service but none of its copies."""

    service: ServiceId


class StartService(Change, frozen=True, kw_only=True, tag="start_service"):
    """Undo `StopService`; nothing when it is not stopped."""

    service: ServiceId


class RestartService(Change, frozen=True, kw_only=True, tag="restart_service"):
    """Replace every copy by the deploy rules; `template` is a fresh one for the same spec."""

    service: ServiceId
    template: str


class RollbackService(Change, frozen=True, kw_only=True, tag="rollback_service"):
    """Make the spec of revision `to` the newest again."""

    service: ServiceId
    to: SpecRevision


class PromoteService(Change, frozen=True, kw_only=True, tag="promote_service"):
    """Let the newest revision, which stands beside the one before, replace it."""

    service: ServiceId


class PauseService(Change, frozen=True, kw_only=True, tag="pause_service"):
    """Leave the rollout where it is until it is resumed, promoted or replaced by another."""

    service: ServiceId


class ResumeService(Change, frozen=True, kw_only=True, tag="resume_service"):
    """Undo `PauseService`; nothing when it is not paused."""

    service: ServiceId


class RemoveService(Change, frozen=True, kw_only=True, tag="remove_service"):
    """Forget the service with its webhooks, and stop its copies."""

    service: ServiceId


class RolloutUpdate(Part, frozen=True, kw_only=True):
    """What the leader saw of the rollout of `revision`; with `promotes`, that its time to be promoted has come."""

    service: ServiceId
    revision: SpecRevision
    state: RolloutState
    healthy: int
    deadline_at_ms: WallMs
    message: str = ""
    promotes: bool = False


class CommitPlan(Duty, frozen=True, kw_only=True, tag="commit_plan"):
    """The scheduler's decisions, based on the state at revision `base`.

    Void when anything that plans are made from has changed since.
    """

    base: StateRevision
    placements: tuple[Allocation, ...] = ()
    stops: tuple[AllocationId, ...] = ()
    forgets: tuple[AllocationId, ...] = ()
    rollouts: tuple[RolloutUpdate, ...] = ()


ServiceCommand: TypeAlias = (
    PutServices
    | ScaleService
    | StopService
    | StartService
    | RestartService
    | RollbackService
    | PromoteService
    | PauseService
    | ResumeService
    | RemoveService
)
