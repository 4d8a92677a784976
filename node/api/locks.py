"""Deploy locks: handlers and routes of `/v1/locks`."""

from typing import Final

import msgspec

from node.api.call import CHANGE_ERRORS, WRITE_ERRORS, BodyKind, Call, NoBody, NoQuery, Route
from node.api.params import ReleaseQuery
from orca.errors import ConflictError, InvalidRequestError
from orca.model.ids import ProjectName
from orca.model.lock_view import LockRequest, LocksReply

_PROJECT: Final = {"project": "the project whose deploys are locked"}


async def list_locks(call: Call[NoQuery, NoBody]) -> LocksReply:
    """`GET /v1/locks`."""
    reply = call.control.locks.list()
    return msgspec.structs.replace(reply, locks=tuple(one for one in reply.locks if call.caller.sees(one.project)))


async def acquire(call: Call[NoQuery, LockRequest]) -> LocksReply:
    """`POST /v1/locks`."""
    for project in call.body.projects:
        call.caller.check_project(project)
    return await call.control.locks.acquire(call.body, by=call.author)


async def release(call: Call[ReleaseQuery, NoBody]) -> LocksReply:
    """`DELETE /v1/locks/{project}`."""
    query = call.query
    return await call.control.locks.release(
        ProjectName(call.path["project"]), query.id, query.request_id, by=call.author
    )


LOCK_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/locks",
        handler=list_locks,
        summary="Who holds back deploys to which project",
        tag="deploys",
        reply=LocksReply,
    ),
    Route(
        method="POST",
        path="/v1/locks",
        handler=acquire,
        summary="Hold back all deploys to projects that do not name the lock",
        tag="deploys",
        reply=LocksReply,
        body=BodyKind.JSON,
        request=LockRequest,
        errors=(ConflictError, InvalidRequestError, *WRITE_ERRORS),
    ),
    Route(
        method="DELETE",
        path="/v1/locks/{project}",
        handler=release,
        summary="Let everybody deploy to a project again",
        tag="deploys",
        reply=LocksReply,
        query=ReleaseQuery,
        errors=CHANGE_ERRORS,
        variables=_PROJECT,
    ),
)
