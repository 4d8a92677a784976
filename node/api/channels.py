"""Channels: handlers and routes of `/v1/channels`. Addresses come in, and none ever goes out."""

from typing import Any, Final

from node.api.call import CHANGE_ERRORS, BodyKind, Call, NoBody, NoQuery, Route
from node.api.params import EndQuery
from node.api.secrets import pass_on
from orca.errors import InvalidRequestError, NotDeliveredError, NotFoundError
from orca.model.ids import ChannelName, RequestId, SecretId
from orca.model.notice import CHANNEL_NAME, ChannelRequest, ChannelsReply, ChannelTestReply, channel_secret

_CHANNEL: Final = {"channel": "the channel's name"}


def _name(call: Call[Any, Any]) -> ChannelName:
    return ChannelName(call.path["channel"])


async def list_channels(call: Call[NoQuery, NoBody]) -> ChannelsReply:
    """`GET /v1/channels`."""
    return call.control.channels.list()


async def put_channel(call: Call[NoQuery, ChannelRequest]) -> ChannelsReply:
    """`PUT /v1/channels/{channel}`: the address is sealed first, so a channel without one is never there."""
    control, request, name = call.control, call.body, _name(call)
    if not CHANNEL_NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{name[:80]!r} cannot be the name of a channel; 1 to 64 letters, digits, '_', '.' and '-' are"
        )
    if bool(request.address) == bool(request.secret):
        raise InvalidRequestError("a channel has either an `address` or the `secret` that holds one")
    if request.address and "://" not in request.address:
        raise InvalidRequestError("the address has no scheme; one is like json://host/path or slack://…")
    if request.secret:
        return await control.channels.put(name, request.secret, request, by=call.author)
    reply = await pass_on(call, lambda member: member.about_alerts.put_channel(name, request))
    if reply is not None:
        return reply
    secret, request_id = channel_secret(name), control.request_id(request.request_id)
    value = {secret: request.address.encode()}
    await control.secrets.set(value, request_id=RequestId(f"{request_id}/address"), by=call.author)
    return await control.channels.put(name, secret, request, by=call.author)


async def remove_channel(call: Call[EndQuery, NoBody]) -> ChannelsReply:
    """`DELETE /v1/channels/{channel}`: the address goes with it, unless it stands in a secret of another name."""
    control, name = call.control, _name(call)
    request_id = control.request_id(call.query.request_id)
    reply = await control.channels.remove(name, request_id, by=call.author)
    own: SecretId = channel_secret(name)
    if any(one.secret == own for one in reply.channels):
        await control.secrets.remove((own,), request_id=RequestId(f"{request_id}/address"), by=call.author)
    return reply


async def test_channel(call: Call[NoQuery, NoBody]) -> ChannelTestReply:
    """`POST /v1/channels/{channel}/test`: from the node that is asked, on a worker from a member."""
    name = _name(call)
    reply = await pass_on(call, lambda member: member.about_alerts.test_channel(name))
    return reply if reply is not None else await call.control.channels.test(name)


CHANNEL_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/channels",
        handler=list_channels,
        summary="Who is told of alerts; never an address",
        tag="alerts",
        reply=ChannelsReply,
    ),
    Route(
        method="PUT",
        path="/v1/channels/{channel}",
        handler=put_channel,
        summary="Tell a channel of alerts from now on, or change that",
        tag="alerts",
        reply=ChannelsReply,
        body=BodyKind.JSON,
        request=ChannelRequest,
        errors=(InvalidRequestError, *CHANGE_ERRORS),
        variables=_CHANNEL,
    ),
    Route(
        method="DELETE",
        path="/v1/channels/{channel}",
        handler=remove_channel,
        summary="Tell a channel of nothing any more, and forget its address",
        tag="alerts",
        reply=ChannelsReply,
        query=EndQuery,
        errors=CHANGE_ERRORS,
        variables=_CHANNEL,
    ),
    Route(
        method="POST",
        path="/v1/channels/{channel}/test",
        handler=test_channel,
        summary="Send a channel a message now",
        tag="alerts",
        reply=ChannelTestReply,
        errors=(NotFoundError, NotDeliveredError),
        variables=_CHANNEL,
    ),
)
