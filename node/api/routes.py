"""The table of routes: what is served, what it takes and gives, and how it may fail."""

import functools
from collections.abc import Mapping
from typing import Final

import msgspec

from node.api import access, gossip, handlers
from node.api.alerts import ALERT_ROUTES
from node.api.call import (
    BLOB_BYTES_MAX,
    BUILD_BYTES_MAX,
    CHANGE_ERRORS,
    JSON,
    WRITE_ERRORS,
    BodyKind,
    Call,
    Handler,
    NoBody,
    NoQuery,
    Route,
)
from node.api.channels import CHANNEL_ROUTES
from node.api.events import EVENT_ROUTES
from node.api.exec import open_exec
from node.api.gossip import GOSSIP_ROUTES
from node.api.locks import LOCK_ROUTES
from node.api.openapi import make_document
from node.api.page import PAGE_HEADERS, page
from node.api.params import (
    AllocationsQuery,
    AuditQuery,
    BuildQuery,
    ExecQuery,
    LogsQuery,
    ReadQuery,
    RemoveQuery,
    RevokeQuery,
    ServicesQuery,
    SpecsQuery,
    StatsQuery,
    WatchQuery,
)
from node.api.readiness import READY_ROUTES
from node.api.secrets import SECRET_ROUTES
from node.api.series import SERIES_ROUTES
from node.api.trust import TRUST_ROUTES
from node.api.upkeep import UPKEEP_ROUTES
from node.api.watch import watch_services
from orca.errors import (
    ConflictError,
    InstanceNotFoundError,
    InvalidSpecError,
    NotAvailableError,
    NotFoundError,
    OrcaError,
    PayloadTooLargeError,
    RuntimeFailedError,
    RuntimeUnavailableError,
    StoreFullError,
    UnsupportedMediaTypeError,
)
from orca.http import Response
from orca.model.access import ApiTokensReply, ApiTokenView, AuditReply, CreateApiTokenRequest
from orca.model.doctor import DoctorReply
from orca.model.quorum_view import QuorumReply, RecoverRequest
from orca.model.view import (
    AllocationsReply,
    ChangeReply,
    ChangeRequest,
    DeployRequest,
    HistoryReply,
    LogRecord,
    NodesReply,
    NodeView,
    PlanReply,
    RollbackRequest,
    ScaleRequest,
    ServiceReply,
    ServicesReply,
    StatsReply,
    StatusReply,
)

SSE: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
HTML: Final = "text/html"
TEXT: Final = "text/plain"
WEBSOCKET: Final = "websocket"

_Errors = tuple[type[OrcaError], ...]
_SPECS: Final[_Errors] = (InvalidSpecError, ConflictError, *WRITE_ERRORS)
_RUNTIME: Final[_Errors] = (RuntimeFailedError, RuntimeUnavailableError, InstanceNotFoundError, NotFoundError)
_NAMED: Final[Mapping[str, str]] = {"project": "the service's project", "name": "the service's name"}
_SERVICE: Final = "/v1/services/{project}/{name}"


async def show_openapi(call: Call[NoQuery, NoBody]) -> Response:
    """`GET /v1/openapi.json`: this table, for machines."""
    return Response(headers=(("content-type", JSON),), body=_document())


async def show_page(call: Call[NoQuery, NoBody]) -> Response:
    """`GET /`: this table, for people."""
    return Response(headers=PAGE_HEADERS, body=page())


async def show_metrics(call: Call[NoQuery, NoBody]) -> Response:
    """`GET /metrics`: for Prometheus, and what reads as it does."""
    text, media = await call.control.metrics.scrape()
    return Response(headers=(("content-type", media),), body=text)


@functools.cache
def _document() -> bytes:
    return msgspec.json.encode(make_document(ROUTES)) + b"\n"


def _change(verb: str, handler: Handler, summary: str, request: type[msgspec.Struct], kind: BodyKind) -> Route:
    return Route(
        method="POST",
        path=f"{_SERVICE}/{verb}",
        handler=handler,
        summary=summary,
        tag="services",
        reply=ChangeReply,
        body=kind,
        request=request,
        errors=CHANGE_ERRORS,
        variables=_NAMED,
    )


_DOCUMENTS: Final = (
    Route(method="GET", path="/", handler=show_page, summary="This API as a page", tag="documents", reply_media=HTML),
    Route(
        method="GET",
        path="/metrics",
        handler=show_metrics,
        summary="What the node has counted, in the text format of Prometheus",
        tag="documents",
        reply_media=TEXT,
    ),
    Route(
        method="GET",
        path="/v1/openapi.json",
        handler=show_openapi,
        summary="This API as an OpenAPI 3.1 document",
        tag="documents",
    ),
    Route(
        method="GET",
        path="/healthz",
        handler=handlers.show_health,
        summary="Whether the node answers at all",
        tag="documents",
        reply_media=TEXT,
    ),
)
_CLUSTER: Final = (
    Route(
        method="GET",
        path="/v1/status",
        handler=handlers.show_status,
        summary="Nodes, services and the leader at a glance",
        tag="cluster",
        reply=StatusReply,
        query=ReadQuery,
    ),
    Route(
        method="GET",
        path="/v1/node",
        handler=handlers.show_node,
        summary="The node that answers",
        tag="cluster",
        reply=NodeView,
    ),
    Route(
        method="GET",
        path="/v1/nodes",
        handler=gossip.list_nodes,
        summary="All members, as this node sees them",
        tag="cluster",
        reply=NodesReply,
    ),
    Route(
        method="GET",
        path="/v1/quorum",
        handler=handlers.show_quorum,
        summary="The group of nodes that decides, as this node knows it",
        tag="cluster",
        reply=QuorumReply,
        query=ReadQuery,
    ),
    Route(
        method="POST",
        path="/v1/quorum/recover",
        handler=handlers.recover_quorum,
        summary="Start the group anew from this node's log, after a quorum was lost for good",
        tag="cluster",
        reply=QuorumReply,
        body=BodyKind.JSON_OR_EMPTY,
        request=RecoverRequest,
        errors=(ConflictError, NotAvailableError, UnsupportedMediaTypeError, PayloadTooLargeError),
    ),
    Route(
        method="GET",
        path="/v1/doctor",
        handler=handlers.examine_nodes,
        summary="Who reaches whom, clocks, disks, certificates; what is wrong and what mends it",
        tag="cluster",
        reply=DoctorReply,
    ),
)
_SERVICES: Final = (
    Route(
        method="GET",
        path="/v1/services",
        handler=handlers.list_services,
        summary="All services with their copies",
        tag="services",
        reply=ServicesReply,
        query=ServicesQuery,
    ),
    Route(
        method="GET",
        path=_SERVICE,
        handler=handlers.show_service,
        summary="One service with its copies and its spec",
        tag="services",
        reply=ServiceReply,
        errors=(NotFoundError,),
        variables=_NAMED,
        query=ReadQuery,
    ),
    Route(
        method="DELETE",
        path=_SERVICE,
        handler=handlers.remove,
        summary="Remove a service and its copies",
        tag="services",
        reply=ChangeReply,
        query=RemoveQuery,
        errors=CHANGE_ERRORS,
        variables=_NAMED,
    ),
    Route(
        method="GET",
        path=f"{_SERVICE}/history",
        handler=handlers.show_history,
        summary="Its revisions, newest first",
        tag="services",
        reply=HistoryReply,
        errors=(NotFoundError,),
        variables=_NAMED,
        query=ReadQuery,
    ),
    _change("scale", handlers.scale, "Want another number of copies", ScaleRequest, BodyKind.JSON),
    _change("stop", handlers.stop, "Stop all copies, keep the service", ChangeRequest, BodyKind.JSON_OR_EMPTY),
    _change("start", handlers.start, "Start a stopped service", ChangeRequest, BodyKind.JSON_OR_EMPTY),
    _change("restart", handlers.restart, "Replace all copies by new ones", ChangeRequest, BodyKind.JSON_OR_EMPTY),
    _change(
        "promote",
        handlers.promote,
        "Let what stands beside the old copies replace them",
        ChangeRequest,
        BodyKind.JSON_OR_EMPTY,
    ),
    _change("pause", handlers.pause_rollout, "Leave its rollout where it is", ChangeRequest, BodyKind.JSON_OR_EMPTY),
    _change("resume", handlers.resume_rollout, "Go on with a rollout", ChangeRequest, BodyKind.JSON_OR_EMPTY),
    _change("rollback", handlers.rollback, "Go back to an older revision", RollbackRequest, BodyKind.JSON_OR_EMPTY),
    Route(
        method="GET",
        path="/v1/watch",
        handler=watch_services,
        summary="Services now and after each change",
        tag="services",
        reply=ServicesReply,
        reply_media=SSE,
        query=WatchQuery,
    ),
)
_DEPLOYS: Final = (
    Route(
        method="POST",
        path="/v1/deploys",
        handler=handlers.deploy,
        summary="Put services, all or none; answered when that is committed, carried out after it",
        tag="deploys",
        reply=ChangeReply,
        status=202,
        query=SpecsQuery,
        body=BodyKind.RAW,
        request=DeployRequest,
        body_media=handlers.SPECS_MEDIA,
        errors=_SPECS,
    ),
    Route(
        method="POST",
        path="/v1/plan",
        handler=handlers.plan,
        summary="What a deploy of the same body would do; changes nothing",
        tag="deploys",
        reply=PlanReply,
        query=SpecsQuery,
        body=BodyKind.RAW,
        request=DeployRequest,
        body_media=handlers.SPECS_MEDIA,
        errors=_SPECS,
    ),
    Route(
        method="PUT",
        path="/v1/blobs/{digest}",
        handler=handlers.put_blob,
        summary="Give the node content under its own hash",
        tag="deploys",
        status=201,
        body=BodyKind.RAW,
        body_media=("application/octet-stream",),
        body_bytes_max=BLOB_BYTES_MAX,
        errors=(PayloadTooLargeError, StoreFullError),
        variables={"digest": "`sha256:` and 64 hex digits"},
        reply_media="",
        other_statuses={200: "The node had it already"},
    ),
    Route(
        method="HEAD",
        path="/v1/blobs/{digest}",
        handler=handlers.find_blob,
        summary="Whether the node has that content",
        tag="deploys",
        errors=(NotFoundError,),
        variables={"digest": "`sha256:` and 64 hex digits"},
        reply_media="",
    ),
    Route(
        method="POST",
        path="/v1/builds",
        handler=handlers.build_image,
        summary="Build an image from a tar; its last line has `image` or `error`",
        tag="deploys",
        reply_media=NDJSON,
        query=BuildQuery,
        body=BodyKind.RAW,
        body_media=("application/x-tar",),
        body_bytes_max=BUILD_BYTES_MAX,
        errors=(RuntimeFailedError, RuntimeUnavailableError, PayloadTooLargeError, UnsupportedMediaTypeError),
    ),
)
_ALLOCATIONS: Final = (
    Route(
        method="GET",
        path="/v1/allocations",
        handler=handlers.list_allocations,
        summary="Copies, by service and slot",
        tag="allocations",
        reply=AllocationsReply,
        query=AllocationsQuery,
        errors=(NotFoundError,),
    ),
    Route(
        method="GET",
        path="/v1/logs",
        handler=handlers.stream_logs,
        summary="Lines of output, one JSON object each; a failure is the last line, `error`",
        tag="allocations",
        reply=LogRecord,
        reply_media=NDJSON,
        query=LogsQuery,
        errors=_RUNTIME,
    ),
    Route(
        method="GET",
        path="/v1/stats",
        handler=handlers.show_stats,
        summary="What copies use now",
        tag="allocations",
        reply=StatsReply,
        query=StatsQuery,
        errors=_RUNTIME,
    ),
    Route(
        method="GET",
        path="/v1/allocations/{id}/exec",
        handler=open_exec,
        summary="Run a command inside a copy, over a WebSocket",
        tag="allocations",
        status=101,
        reply_media=WEBSOCKET,
        query=ExecQuery,
        errors=_RUNTIME,
        variables={"id": "the copy's id"},
    ),
)
_ACCESS: Final = (
    Route(
        method="POST",
        path="/v1/api-tokens",
        handler=access.create_api_token,
        summary="Make an API token known, by the hash of its secret",
        tag="access",
        reply=ApiTokenView,
        status=201,
        body=BodyKind.JSON,
        request=CreateApiTokenRequest,
        errors=(ConflictError, *WRITE_ERRORS),
    ),
    Route(
        method="GET",
        path="/v1/api-tokens",
        handler=access.list_api_tokens,
        summary="All API tokens, without their secrets",
        tag="access",
        reply=ApiTokensReply,
        query=ReadQuery,
    ),
    Route(
        method="DELETE",
        path="/v1/api-tokens/{id}",
        handler=access.revoke_api_token,
        summary="Let nobody in by a token any more; streams that it opened end within seconds",
        tag="access",
        status=204,
        query=RevokeQuery,
        errors=(NotFoundError, *WRITE_ERRORS),
        variables={"id": "the token's id"},
        reply_media="",
    ),
    Route(
        method="GET",
        path="/v1/audit",
        handler=access.list_audit,
        summary="Who asked for what, from where, and what came of it",
        tag="access",
        reply=AuditReply,
        query=AuditQuery,
    ),
)
ROUTES: Final[tuple[Route, ...]] = (
    *_CLUSTER,
    *EVENT_ROUTES,
    *ALERT_ROUTES,
    *CHANNEL_ROUTES,
    *TRUST_ROUTES,
    *UPKEEP_ROUTES,
    *LOCK_ROUTES,
    *GOSSIP_ROUTES,
    *_SERVICES,
    *READY_ROUTES,
    *_DEPLOYS,
    *SECRET_ROUTES,
    *SERIES_ROUTES,
    *_ALLOCATIONS,
    *_ACCESS,
    *_DOCUMENTS,
)
