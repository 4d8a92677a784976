"""What can be asked of the replicated state; the payloads of the log.

Wire rules: every struct has a tag, new fields have defaults, none is ever renamed
or retyped.
"""

from typing import TypeAlias

import msgspec

from orca.errors import PeerProtocolError
from orca.model.allocation import Allocation
from orca.model.ids import AllocationId, NodeId, ProjectName, RequestId, ServiceId, SpecRevision, StateRevision
from orca.model.spec import ServiceSpec
from orca.model.units import WallMs
from orca.model.view import RolloutState


class _Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A command; `at_ms` and `actor` are stamped where it is proposed."""


class SpecEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A spec and the hash of its template, made by the proposer.

    The hash travels because two releases may hash differently, and replicas may not.
    """

    spec: ServiceSpec
    template: str


class PutServices(_Command, frozen=True, tag="put_services"):
    """Create or update services, all or none.

    With `prune_projects` the other services of those projects are removed.
    """

    request_id: RequestId
    at_ms: WallMs
    actor: str
    entries: tuple[SpecEntry, ...]
    prune_projects: tuple[ProjectName, ...] = ()
    note: str = ""


class ScaleService(_Command, frozen=True, tag="scale_service"):
    """Ask for another number of copies."""

    request_id: RequestId
    at_ms: WallMs
    actor: str
    service: ServiceId
    replicas: int


class StopService(_Command, frozen=True, tag="stop_service"):
    """Keep the service but none of its copies."""

    request_id: RequestId
    at_ms: WallMs
    actor: str
    service: ServiceId


class StartService(_Command, frozen=True, tag="start_service"):
    """Undo `StopService`; nothing when it is not stopped."""

    request_id: RequestId
    at_ms: WallMs
    actor: str
    service: ServiceId


class RestartService(_Command, frozen=True, tag="restart_service"):
    """Replace every copy by the deploy rules; `template` is a fresh one for the same spec."""

    request_id: RequestId
    at_ms: WallMs
    actor: str
    service: ServiceId
    template: str


class RollbackService(_Command, frozen=True, tag="rollback_service"):
    """Make the spec of revision `to` the newest again."""

    request_id: RequestId
    at_ms: WallMs
    actor: str
    service: ServiceId
    to: SpecRevision


class RemoveService(_Command, frozen=True, tag="remove_service"):
    """Forget the service and stop its copies."""

    request_id: RequestId
    at_ms: WallMs
    actor: str
    service: ServiceId


class RolloutUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader saw of the rollout of `revision`."""

    service: ServiceId
    revision: SpecRevision
    state: RolloutState
    healthy: int
    deadline_at_ms: WallMs
    message: str = ""


class CommitPlan(_Command, frozen=True, tag="commit_plan"):
    """The scheduler's decisions, based on the state at revision `base` and void on any other."""

    base: StateRevision
    at_ms: WallMs
    placements: tuple[Allocation, ...] = ()
    stops: tuple[AllocationId, ...] = ()
    forgets: tuple[AllocationId, ...] = ()
    rollouts: tuple[RolloutUpdate, ...] = ()


class AdmitNode(_Command, frozen=True, tag="admit_node"):
    """Make a node part of the cluster, or note its new name."""

    node: NodeId
    name: str
    at_ms: WallMs


Command: TypeAlias = (
    PutServices
    | ScaleService
    | StopService
    | StartService
    | RestartService
    | RollbackService
    | RemoveService
    | CommitPlan
    | AdmitNode
)

_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_encoder = msgspec.msgpack.Encoder()


def encode_command(command: Command) -> bytes:
    """The payload of the log entry that carries `command`."""
    return _encoder.encode(command)


def decode_command(payload: bytes) -> Command:
    """The command in `payload`.

    Raises PeerProtocolError for bytes that are none that this release knows: a replica
    must then stop applying rather than skip what others will apply.
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PeerProtocolError(
            f"a log entry holds a command that this release does not know ({error}); update this node"
        ) from error
