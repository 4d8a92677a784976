"""Members and gossip: handlers of `/v1/nodes` and `/v1/gossip`."""

from functools import partial

from node.api.call import Call, NoBody, NoQuery
from orca.http import Response
from orca.model.view import (
    GossipReply,
    KeysReply,
    NodesReply,
    RotateRequest,
    UserEventRequest,
)


async def list_nodes(call: Call[NoQuery, NoBody]) -> NodesReply:
    """`GET /v1/nodes`."""
    membership = call.control.membership
    return NodesReply(
        observation=call.control.observation(), members=membership.members(), health_score=membership.health_score
    )


async def show_gossip(call: Call[NoQuery, NoBody]) -> GossipReply:
    """`GET /v1/gossip`."""
    return call.control.membership.describe(partial(GossipReply, observation=call.control.observation()))


async def pause(call: Call[NoQuery, NoBody]) -> GossipReply:
    """`POST /v1/gossip/pause`."""
    call.control.membership.pause(is_paused=True)
    return await show_gossip(call)


async def resume(call: Call[NoQuery, NoBody]) -> GossipReply:
    """`POST /v1/gossip/resume`."""
    call.control.membership.pause(is_paused=False)
    return await show_gossip(call)


async def send_event(call: Call[NoQuery, UserEventRequest]) -> Response:
    """`POST /v1/gossip/events`."""
    await call.control.membership.send_event(call.body.name, call.body.payload)
    return Response(status=202)


async def list_keys(call: Call[NoQuery, NoBody]) -> KeysReply:
    """`GET /v1/gossip/keys`."""
    report = await call.control.membership.list_keys()
    return KeysReply(observation=call.control.observation(), reports=(report,))


async def rotate_keys(call: Call[NoQuery, RotateRequest]) -> KeysReply:
    """`POST /v1/gossip/keys/rotate`: answers when every step is done, or one of them cannot be."""
    request = call.body
    reports, end = await call.control.membership.rotate_keys(request.key, allow_absent=request.allow_absent)
    return KeysReply(observation=call.control.observation(), reports=reports, is_done=end.is_done, reason=end.reason)
