"""One function a route: takes the checked call, asks the node, gives its answer."""

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import trio

from node.api.call import (
    BLOB_BYTES_MAX,
    BUILD_BYTES_MAX,
    JSON,
    JSON_BYTES_MAX,
    Call,
    NoBody,
    NoQuery,
    check_content_type,
    decode_json,
)
from node.api.caller import Caller
from node.api.control import Control
from node.api.everywhere import gather_stats, open_logs
from node.api.params import (
    AllocationsQuery,
    BuildQuery,
    LogsQuery,
    ReadQuery,
    RemoveQuery,
    ServicesQuery,
    SpecsQuery,
    StatsQuery,
)
from node.api.secrets import check_secrets
from node.api.silences import known_nodes, mark_copies, mark_services
from node.api.sse import error_line, lines_response
from orca.errors import InvalidRequestError, NotFoundError, OrcaError
from orca.http import Response, StreamResponse
from orca.model.doctor import DoctorReply
from orca.model.ids import BlobDigest, ProjectName, ServiceId, ServiceName, display_name, service_id
from orca.model.quorum_view import QuorumReply, RecoverRequest
from orca.model.view import (
    AllocationsReply,
    ChangeReply,
    ChangeRequest,
    DeployRequest,
    HistoryReply,
    ImageBuild,
    LogRecord,
    NodeView,
    PlanReply,
    RollbackRequest,
    ScaleRequest,
    ServiceReply,
    ServicesReply,
    StatsReply,
    StatusReply,
)

if TYPE_CHECKING:
    from orca.specs.load import LoadedFile

R = TypeVar("R", StatusReply, ServicesReply)
TOML: Final = "application/toml"
YAML: Final = "application/yaml"
SPECS_MEDIA: Final = (JSON, TOML, YAML)
BATCH_BYTES: Final = 32 * 1024
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ARGUMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


# Reads


async def show_health(call: Call[NoQuery, NoBody]) -> Response:
    """The node's loop turns."""
    return Response(headers=(("content-type", "text/plain; charset=utf-8"),), body=b"ok\n")


async def show_status(call: Call[ReadQuery, NoBody]) -> StatusReply:
    """`GET /v1/status`."""
    reply = seen_by(call.caller, call.control, await call.control.status())
    return msgspec.structs.replace(reply, locks=tuple(one for one in reply.locks if call.caller.sees(one.project)))


def seen_by(caller: Caller, control: Control, reply: R) -> R:
    """`reply` with the services that `caller` may see, and with the age of what is old about them."""
    kept = tuple(one for one in reply.services if caller.sees(one.project))
    marked = mark_services(kept, known_nodes(control.membership.members()))
    return msgspec.structs.replace(reply, services=marked)


async def show_node(call: Call[NoQuery, NoBody]) -> NodeView:
    """`GET /v1/node`."""
    return call.control.node()


async def show_quorum(call: Call[ReadQuery, NoBody]) -> QuorumReply:
    """`GET /v1/quorum`."""
    return call.control.quorum.describe(call.control.observation())


async def examine_nodes(call: Call[NoQuery, NoBody]) -> DoctorReply:
    """`GET /v1/doctor`: answers when every node has, or its time is over."""
    return await call.control.examine()


async def recover_quorum(call: Call[NoQuery, RecoverRequest]) -> QuorumReply:
    """`POST /v1/quorum/recover`: answers when this node leads a group of its own."""
    await call.control.quorum.recover(is_forced=call.body.force)
    return call.control.quorum.describe(call.control.observation())


async def list_services(call: Call[ServicesQuery, NoBody]) -> ServicesReply:
    """`GET /v1/services`."""
    return seen_by(call.caller, call.control, await call.control.services(call.query.project))


async def show_service(call: Call[ReadQuery, NoBody]) -> ServiceReply:
    """`GET /v1/services/{project}/{name}`."""
    reply = call.control.service(_service(call))
    (marked,) = mark_services((reply.service,), known_nodes(call.control.membership.members()))
    return msgspec.structs.replace(reply, service=marked)


async def show_history(call: Call[ReadQuery, NoBody]) -> HistoryReply:
    """`GET …/history`."""
    return call.control.history(_service(call))


async def list_allocations(call: Call[AllocationsQuery, NoBody]) -> AllocationsReply:
    """`GET /v1/allocations`."""
    reply = await call.control.allocations(call.query.service)
    kept = tuple(one for one in reply.allocations if call.caller.sees_service(one.service))
    marked = mark_copies(kept, known_nodes(call.control.membership.members()))
    return msgspec.structs.replace(reply, allocations=marked)


async def show_stats(call: Call[StatsQuery, NoBody]) -> StatsReply:
    """`GET /v1/stats`."""
    return StatsReply(observation=call.control.observation(), stats=await gather_stats(call))


# Changes


async def deploy(call: Call[SpecsQuery, NoBody]) -> ChangeReply:
    """`POST /v1/deploys`: contents that a service file carries are stored before its specs."""
    request, blobs = await _read_specs(call)
    call.subject = ", ".join(display_name(spec.id) for spec in request.specs[:5])
    _check_projects(call.caller, request)
    for digest, content in blobs.items():
        if not call.control.has_blob(digest):
            await call.control.put_blob(digest, _Once(content))
    return await call.control.deploy(request, by=call.author)


async def plan(call: Call[SpecsQuery, NoBody]) -> PlanReply:
    """`POST /v1/plan`: stores nothing."""
    request, _ = await _read_specs(call)
    _check_projects(call.caller, request)
    return call.control.plan(request)


async def scale(call: Call[NoQuery, ScaleRequest]) -> ChangeReply:
    """`POST …/scale`."""
    if call.body.replicas < 0:
        raise InvalidRequestError(f"replicas is {call.body.replicas}; it must be 0 or more")
    return await call.control.scale(_service(call), call.body, by=call.author)


async def stop(call: Call[NoQuery, ChangeRequest]) -> ChangeReply:
    """`POST …/stop`."""
    return await call.control.stop(_service(call), call.body, by=call.author)


async def start(call: Call[NoQuery, ChangeRequest]) -> ChangeReply:
    """`POST …/start`."""
    return await call.control.start(_service(call), call.body, by=call.author)


async def restart(call: Call[NoQuery, ChangeRequest]) -> ChangeReply:
    """`POST …/restart`."""
    return await call.control.restart(_service(call), call.body, by=call.author)


async def promote(call: Call[NoQuery, ChangeRequest]) -> ChangeReply:
    """`POST …/promote`."""
    return await call.control.promote(_service(call), call.body, by=call.author)


async def pause_rollout(call: Call[NoQuery, ChangeRequest]) -> ChangeReply:
    """`POST …/pause`."""
    return await call.control.pause(_service(call), call.body, by=call.author)


async def resume_rollout(call: Call[NoQuery, ChangeRequest]) -> ChangeReply:
    """`POST …/resume`."""
    return await call.control.resume(_service(call), call.body, by=call.author)


async def rollback(call: Call[NoQuery, RollbackRequest]) -> ChangeReply:
    """`POST …/rollback`."""
    return await call.control.rollback(_service(call), call.body, by=call.author)


async def remove(call: Call[RemoveQuery, NoBody]) -> ChangeReply:
    """`DELETE /v1/services/{project}/{name}`."""
    request = ChangeRequest(request_id=call.query.request_id)
    return await call.control.remove(_service(call), request, by=call.author)


# Contents and images


async def put_blob(call: Call[NoQuery, NoBody]) -> Response:
    """`PUT /v1/blobs/{digest}`: 201 when it is new, 200 when it was there."""
    is_new = await call.control.put_blob(_digest(call), call.request.chunks(BLOB_BYTES_MAX))
    return Response(status=201 if is_new else 200)


async def find_blob(call: Call[NoQuery, NoBody]) -> Response:
    """`HEAD /v1/blobs/{digest}`."""
    digest = _digest(call)
    if not call.control.has_blob(digest):
        raise NotFoundError(f"the node has no content {digest}")
    return Response()


async def build_image(call: Call[BuildQuery, NoBody]) -> StreamResponse:
    """`POST /v1/builds`: the builder's lines, then the image or the error."""
    check_content_type(call.request, ("application/x-tar",))
    query = call.query
    order = ImageBuild(
        tag=query.tag, dockerfile=query.dockerfile, target=query.target, args=dict(map(_argument, query.arg))
    )
    return lines_response(_build(call, order))


# Logs


async def stream_logs(call: Call[LogsQuery, NoBody]) -> StreamResponse:
    """`GET /v1/logs`."""
    return lines_response(_logs(call))


@contextlib.asynccontextmanager
async def _logs(call: Call[LogsQuery, NoBody]) -> AsyncGenerator[AsyncIterator[bytes], None]:
    async with (
        open_logs(call) as records,
        aclosing(_log_lines(records, 0 if call.query.follow else BATCH_BYTES)) as lines,
    ):
        yield lines


async def _log_lines(records: AsyncIterator[LogRecord], batch_bytes: int) -> AsyncGenerator[bytes, None]:
    """Records as lines of JSON, in pieces of about `batch_bytes` (0: each at once)."""
    encoder = msgspec.json.Encoder()
    batch = bytearray()
    failure: OrcaError | None = None
    try:
        async for record in records:
            batch += encoder.encode(record)
            batch += b"\n"
            if len(batch) >= batch_bytes:
                yield bytes(batch)
                batch.clear()
    except OrcaError as error:
        failure = error
    if batch:
        yield bytes(batch)
    if failure is not None:
        yield error_line(failure)


@contextlib.asynccontextmanager
async def _build(call: Call[BuildQuery, NoBody], order: ImageBuild) -> AsyncGenerator[AsyncIterator[bytes], None]:
    async with (
        call.control.build(call.request.chunks(BUILD_BYTES_MAX), order) as lines,
        aclosing(_build_lines(lines, order.tag)) as pieces,
    ):
        yield pieces


async def _build_lines(lines: AsyncIterator[str], tag: str) -> AsyncGenerator[bytes, None]:
    try:
        async for line in lines:
            yield msgspec.json.encode({"line": line}) + b"\n"
    except OrcaError as error:
        yield error_line(error)
    else:
        yield msgspec.json.encode({"image": tag}) + b"\n"


# Parts of a call


def _service(call: Call[Any, Any]) -> ServiceId:
    project, name = call.path["project"], call.path["name"]
    if "/" in project or "/" in name:
        raise InvalidRequestError(f"{project}/{name} is no service: names have no slash")
    return service_id(ProjectName(project), ServiceName(name))


def _digest(call: Call[Any, Any]) -> BlobDigest:
    text = call.path["digest"]
    if _DIGEST.fullmatch(text) is None:
        raise InvalidRequestError(f"{text[:80]!r} is no digest; it must be sha256: and 64 lower-case hex digits")
    return BlobDigest(text)


def _argument(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or _ARGUMENT_NAME.fullmatch(name) is None:
        raise InvalidRequestError(f"the build argument {text[:80]!r} is not of the form NAME=value")
    return name, value


async def _read_specs(call: Call[SpecsQuery, NoBody]) -> tuple[DeployRequest, dict[BlobDigest, bytes]]:
    """The specs of a JSON body, or of a service file as it is written."""
    media = check_content_type(call.request, SPECS_MEDIA)
    content = await call.request.read(JSON_BYTES_MAX)
    if media == JSON:
        if call.query.project is not None:
            raise InvalidRequestError(
                "the query parameter 'project' goes with TOML and YAML; in JSON each spec has one"
            )
        return await decode_json(content, DeployRequest), {}
    filename = "service.toml" if media == TOML else "compose.yaml"
    loaded = await trio.to_thread.run_sync(partial(_load, content, filename, call.query.project))
    if loaded.builds:
        raise InvalidRequestError(
            "the file has images to build, and their directories did not come with it",
            hint="use `orca deploy`, or POST /v1/builds first and name the image in the file",
        )
    return DeployRequest(specs=loaded.specs, secrets=loaded.secrets), loaded.blobs


def _load(content: bytes, filename: str, project: ProjectName | None) -> "LoadedFile":
    from orca.specs.load import load_text  # what reads files, YAML among it, is 2.5 MB that most nodes never need

    return load_text(content, filename=filename, project=project)


def _check_projects(caller: Caller, request: DeployRequest) -> None:
    """All or none: a deploy that touches one foreign project is refused whole."""
    for project in dict.fromkeys(spec.project for spec in request.specs):
        caller.check_project(project)
    check_secrets(caller, request.secrets)


class _Once(AsyncIterator[bytes]):
    """An iterator of one piece."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content

    async def __anext__(self) -> bytes:
        content, self._content = self._content, None
        if content is None:
            raise StopAsyncIteration
        return content
