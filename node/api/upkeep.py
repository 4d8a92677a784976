"""Labels, cordons, drains, and why copies are where they are: handlers and routes."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from node.api.call import CHANGE_ERRORS, BodyKind, Call, NoBody, NoQuery, Route
from node.api.params import ReadQuery
from orca.errors import AmbiguousNameError, NotFoundError
from orca.model.ids import ProjectName, ServiceName, service_id
from orca.model.placement_view import (
    CordonRequest,
    DrainRequest,
    LabelRequest,
    NodeCareReply,
    UndrainRequest,
    WhyReply,
)


async def show_why(call: Call[ReadQuery, NoBody]) -> WhyReply:
    """`GET /v1/services/{project}/{name}/why`."""
    service = service_id(ProjectName(call.path["project"]), ServiceName(call.path["name"]))
    return call.control.upkeep.why(service)


async def show_care(call: Call[NoQuery, NoBody]) -> NodeCareReply:
    """`GET /v1/nodes/{node}`."""
    return call.control.upkeep.care(call.path["node"])


async def label(call: Call[NoQuery, LabelRequest]) -> NodeCareReply:
    """`POST /v1/nodes/{node}/label`."""
    return await call.control.upkeep.label(call.path["node"], call.body, by=call.author)


async def cordon(call: Call[NoQuery, CordonRequest]) -> NodeCareReply:
    """`POST /v1/nodes/{node}/cordon`."""
    return await call.control.upkeep.cordon(call.path["node"], call.body, by=call.author)


async def drain(call: Call[NoQuery, DrainRequest]) -> NodeCareReply:
    """`POST /v1/nodes/{node}/drain`."""
    return await call.control.upkeep.drain(call.path["node"], call.body, by=call.author)


async def undrain(call: Call[NoQuery, UndrainRequest]) -> NodeCareReply:
    """`POST /v1/nodes/{node}/undrain`."""
    return await call.control.upkeep.undrain(call.path["node"], call.body, by=call.author)


_NODE: Final = {"node": "the node's name or id"}


def _change(
    verb: str,
    handler: Callable[[Call[Any, Any]], Awaitable[NodeCareReply]],
    summary: str,
    request: type[msgspec.Struct],
    kind: BodyKind = BodyKind.JSON_OR_EMPTY,
) -> Route:
    return Route(
        method="POST",
        path=f"/v1/nodes/{{node}}/{verb}",
        handler=handler,
        summary=summary,
        tag="nodes",
        reply=NodeCareReply,
        body=kind,
        request=request,
        errors=(AmbiguousNameError, *CHANGE_ERRORS),
        variables=_NODE,
    )


UPKEEP_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/services/{project}/{name}/why",
        handler=show_why,
        summary="Why its copies are where they are, and which nodes could take one more",
        tag="services",
        reply=WhyReply,
        query=ReadQuery,
        errors=(NotFoundError,),
        variables={"project": "the service's project", "name": "the service's name"},
    ),
    Route(
        method="GET",
        path="/v1/nodes/{node}",
        handler=show_care,
        summary="What was decided about a node, and what is left on it",
        tag="nodes",
        reply=NodeCareReply,
        errors=(NotFoundError, AmbiguousNameError),
        variables=_NODE,
    ),
    _change("label", label, "Set and remove labels of a node", LabelRequest, BodyKind.JSON),
    _change("cordon", cordon, "Give a node no new work", CordonRequest),
    _change("drain", drain, "Move the work of a node to others, start-first", DrainRequest),
    _change("undrain", undrain, "Give a node work again", UndrainRequest),
)
