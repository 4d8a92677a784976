"""Members and gossip: handlers of `/v1/nodes` and `/v1/gossip`."""

from functools import partial
from typing import Final

from node.api.call import BodyKind, Call, NoBody, NoQuery, Route
from orca.errors import ConflictError, NotAvailableError, PayloadTooLargeError, UnsupportedMediaTypeError
from orca.http import Response
from orca.model.view import (
    GossipKeyReply,
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


async def show_key(call: Call[NoQuery, NoBody]) -> GossipKeyReply:
    """`GET /v1/gossip/key`."""
    return GossipKeyReply(observation=call.control.observation(), key=await call.control.membership.show_key())


async def rotate_keys(call: Call[NoQuery, RotateRequest]) -> KeysReply:
    """`POST /v1/gossip/keys/rotate`: answers when every step is done, or one of them cannot be."""
    request = call.body
    reports, end = await call.control.membership.rotate_keys(request.key, allow_absent=request.allow_absent)
    return KeysReply(observation=call.control.observation(), reports=reports, is_done=end.is_done, reason=end.reason)


GOSSIP_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/gossip",
        handler=show_gossip,
        summary="How gossip is doing on this node: counters, drops by cause, queues",
        tag="gossip",
        reply=GossipReply,
    ),
    Route(
        method="POST",
        path="/v1/gossip/pause",
        handler=pause,
        summary="Stop the exchange of facts with this node; membership goes on",
        tag="gossip",
        reply=GossipReply,
    ),
    Route(
        method="POST",
        path="/v1/gossip/resume",
        handler=resume,
        summary="Let the exchange of facts go on",
        tag="gossip",
        reply=GossipReply,
    ),
    Route(
        method="POST",
        path="/v1/gossip/events",
        handler=send_event,
        summary="Tell every member an event; answered when it is on its way",
        tag="gossip",
        status=202,
        body=BodyKind.JSON,
        request=UserEventRequest,
        errors=(PayloadTooLargeError, UnsupportedMediaTypeError),
        reply_media="",
    ),
    Route(
        method="GET",
        path="/v1/gossip/keys",
        handler=list_keys,
        summary="Which keys the members have, by fingerprint",
        tag="gossip",
        reply=KeysReply,
        errors=(NotAvailableError,),
    ),
    Route(
        method="GET",
        path="/v1/gossip/key",
        handler=show_key,
        summary="The key that seals gossip, for a Serf agent that is to join; the audit notes who saw it",
        tag="gossip",
        reply=GossipKeyReply,
        errors=(NotAvailableError,),
    ),
    Route(
        method="POST",
        path="/v1/gossip/keys/rotate",
        handler=rotate_keys,
        summary="Replace the keys of all members, step by step; answered when that is done or cannot be",
        tag="gossip",
        reply=KeysReply,
        body=BodyKind.JSON_OR_EMPTY,
        request=RotateRequest,
        errors=(ConflictError, NotAvailableError, UnsupportedMediaTypeError, PayloadTooLargeError),
    ),
)
