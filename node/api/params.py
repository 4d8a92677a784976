"""The query parameters of each route; their types are checked and documented from here."""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from orca.model.ids import AllocationId, ProjectName, RequestId, ServiceId

EVENTS_LIMIT_MAX = 1000
AUDIT_LIMIT_MAX = 1000
CURSOR_MAX = 16_384
"""Some four hundred nodes."""
READY_COPIES_MAX = 500
READY_MS_MAX = 5000

_Service = Annotated[
    ServiceId, Meta(pattern=r"^[^/]{1,128}/[^/]{1,128}$", description="a service's id, `<project>/<name>`")
]
_Allocation = Annotated[AllocationId, Meta(min_length=1, max_length=64, description="a copy's id")]
_Project = Annotated[ProjectName, Meta(min_length=1, max_length=128, description="a project's name")]


class _Params(msgspec.Struct, frozen=True, kw_only=True):
    """Query parameters of one route."""


class Consistency(enum.Enum):
    """What a read may answer from: what this node knows, or surely all that was committed before it was asked."""

    LOCAL = "local"
    LINEARIZABLE = "linearizable"


class ReadQuery(_Params, frozen=True):
    """Of reads of what the cluster has decided."""

    consistency: Annotated[
        Consistency, Meta(description="`linearizable` asks the leader first, and fails while nobody leads")
    ] = Consistency.LOCAL


class ServicesQuery(ReadQuery, frozen=True):
    """Of `GET /v1/services`."""

    project: _Project | None = None


class ForceQuery(_Params, frozen=True):
    """Of `DELETE /v1/nodes/{node}`."""

    force: Annotated[bool, Meta(description="although copies are to run there")] = False


class ReleaseQuery(_Params, frozen=True):
    """Of `DELETE /v1/locks/{project}`."""

    id: Annotated[str, Meta(max_length=255, description="only if this lock is held")] = ""
    request_id: Annotated[RequestId, Meta(min_length=1, max_length=128, description="makes a retry safe")] | None = None


class EndQuery(_Params, frozen=True):
    """Of `DELETE /v1/silences/{silence}` and `DELETE /v1/channels/{channel}`."""

    request_id: Annotated[RequestId, Meta(min_length=1, max_length=128, description="makes a retry safe")] | None = None


class RemoveQuery(_Params, frozen=True):
    """Of `DELETE /v1/services/{project}/{name}`."""

    request_id: Annotated[RequestId, Meta(min_length=1, max_length=128, description="makes a retry safe")] | None = None


class SpecsQuery(_Params, frozen=True):
    """Of deploys and plans; for TOML and YAML bodies only."""

    project: _Project | None = None


class SecretsQuery(_Params, frozen=True):
    """Of `GET /v1/secrets`."""

    project: _Project | None = None


class SecretQuery(_Params, frozen=True):
    """Of `DELETE /v1/secrets`."""

    id: Annotated[str, Meta(pattern=r"^[^/]{0,128}/[^/]{1,128}$", description="`<project>/<name>` of the secret")]
    request_id: Annotated[RequestId, Meta(min_length=1, max_length=128, description="makes a retry safe")] | None = None


class AllocationsQuery(ReadQuery, frozen=True):
    """Of `GET /v1/allocations`."""

    service: _Service | None = None


class WatchQuery(_Params, frozen=True):
    """Of `GET /v1/watch`."""

    service: tuple[_Service, ...] = ()


class ReadyQuery(_Params, frozen=True):
    """Of `GET /v1/ready`."""

    service: Annotated[tuple[_Service, ...], Meta(min_length=1, description="whose copies are meant")]
    within_ms: Annotated[int, Meta(ge=0, le=READY_MS_MAX, description="wait for so long at most")] = 3000
    copy: Annotated[
        tuple[_Allocation, ...],
        Meta(max_length=READY_COPIES_MAX, description="whether the node itself knows these; it asks nobody else then"),
    ] = ()


class EventsQuery(_Params, frozen=True):
    """Of `GET /v1/events`."""

    after: Annotated[int, Meta(ge=0, description="only events with a higher sequence")] | None = None
    before: Annotated[int, Meta(ge=0, description="only events with a lower sequence; for pages back")] | None = None
    limit: Annotated[int, Meta(ge=1, le=EVENTS_LIMIT_MAX, description="the most events of one page")] = 100
    service: _Service | None = None
    allocation: _Allocation | None = None
    cluster: Annotated[bool, Meta(description="only what came by gossip: members and user events")] = False
    follow: Annotated[bool, Meta(description="go on with server-sent events")] = False
    everywhere: Annotated[bool, Meta(description="of all nodes, by time; pages go by `earlier` and `later`")] = False
    earlier: Annotated[str, Meta(max_length=CURSOR_MAX, description="of a reply: the page before it")] = ""
    later: Annotated[str, Meta(max_length=CURSOR_MAX, description="of a reply: follow what comes after it")] = ""


class AlertsQuery(_Params, frozen=True):
    """Of `GET /v1/alerts`."""

    service: _Service | None = None
    resolved: Annotated[bool, Meta(description="those that are over, too")] = False


class AuditQuery(ReadQuery, frozen=True):
    """Of `GET /v1/audit`."""

    limit: Annotated[int, Meta(ge=1, le=AUDIT_LIMIT_MAX, description="the newest so many")] = 100
    before: Annotated[int, Meta(ge=0, description="only records with a lower index; for pages back")] | None = None
    since_ms: Annotated[int, Meta(ge=0, description="only records since then, milliseconds since 1970")] | None = None
    actor: (
        Annotated[str, Meta(min_length=1, max_length=255, description="only of actors with this in their name")] | None
    ) = None
    subject: (
        Annotated[str, Meta(min_length=1, max_length=255, description="only about what has this in its name")] | None
    ) = None


class RevokeQuery(_Params, frozen=True):
    """Of `DELETE /v1/api-tokens/{id}`."""

    request_id: Annotated[RequestId, Meta(min_length=1, max_length=128, description="makes a retry safe")] | None = None


class LogsQuery(_Params, frozen=True):
    """Of `GET /v1/logs`; without a service and an allocation it means all copies."""

    service: _Service | None = None
    allocation: _Allocation | None = None
    follow: Annotated[bool, Meta(description="go on as lines come")] = False
    tail: Annotated[int, Meta(ge=0, description="only the last so many lines of each copy")] | None = None
    since_ms: Annotated[int, Meta(ge=0, description="only lines since then, milliseconds since 1970")] | None = None


class StatsQuery(_Params, frozen=True):
    """Of `GET /v1/stats`."""

    service: _Service | None = None
    allocation: _Allocation | None = None


class SeriesOf(enum.Enum):
    """What figures are of."""

    COPIES = "copies"
    SERVICES = "services"
    NODES = "nodes"


class SeriesQuery(_Params, frozen=True):
    """Of `GET /v1/series`."""

    since_s: Annotated[int, Meta(ge=1, le=7 * 86_400, description="from so many seconds ago on")] = 3600
    until_s: Annotated[int, Meta(ge=0, le=7 * 86_400, description="to so many seconds ago")] = 0
    points: Annotated[int, Meta(ge=1, le=2000, description="of one series, the most")] = 240
    of: Annotated[SeriesOf, Meta(description="figures of `nodes` need a right to all projects")] = SeriesOf.COPIES
    figure: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(max_length=20)] = ()
    service: _Service | None = None
    allocation: _Allocation | None = None


class ExecQuery(_Params, frozen=True):
    """Of `GET /v1/allocations/{id}/exec`."""

    command: Annotated[tuple[str, ...], Meta(min_length=1, description="one parameter an argument")]
    tty: Annotated[bool, Meta(description="join stdout and stderr in a terminal")] = False
    stdin: Annotated[bool, Meta(description="give the command an input")] = False
    user: Annotated[str, Meta(min_length=1, description="run as this user")] | None = None
    env: Annotated[tuple[str, ...], Meta(description="further environment, `NAME=value` each")] = ()
    rows: Annotated[int, Meta(ge=1, le=10000)] = 24
    columns: Annotated[int, Meta(ge=1, le=10000)] = 80


class BuildQuery(_Params, frozen=True):
    """Of `POST /v1/builds`."""

    tag: Annotated[str, Meta(min_length=1, max_length=255, description="the image's name")]
    dockerfile: Annotated[str, Meta(min_length=1, description="a path inside the tar")] = "Dockerfile"
    target: Annotated[str, Meta(min_length=1, description="a stage of the Dockerfile")] | None = None
    arg: Annotated[tuple[str, ...], Meta(description="build arguments, `KEY=value` each")] = ()
