"""What is said about alerts, over the API."""

from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from orca.client.answers import decoded
from orca.client.reads import target_of
from orca.client.wire import Caller
from orca.model.alert import (
    AcknowledgeRequest,
    AlertsReply,
    ResolveRequest,
    SilenceRequest,
    SilencesReply,
)
from orca.model.ids import ChannelName, RequestId, SilenceId
from orca.model.notice import ChannelRequest, ChannelsReply, ChannelTestReply

T = TypeVar("T")
R = TypeVar("R", AcknowledgeRequest, ResolveRequest, SilenceRequest, ChannelRequest)
TEST_TIMEOUT_S: Final = 60.0


class AlertCalls:
    """Acknowledges, resolves and silences; of a client (`NodeClient.about_alerts`)."""

    def __init__(self, caller: Caller, new_request_id: Callable[[], RequestId]) -> None:
        self._caller = caller
        self._new_request_id = new_request_id

    async def acknowledge(self, request: AcknowledgeRequest) -> AlertsReply:
        """Somebody sees to these."""
        return await self._post("/v1/alerts/ack", request, AlertsReply)

    async def resolve(self, request: ResolveRequest) -> AlertsReply:
        """These are over."""
        return await self._post("/v1/alerts/resolve", request, AlertsReply)

    async def silence(self, request: SilenceRequest) -> SilencesReply:
        """For a while nobody is told."""
        return await self._post("/v1/silences", request, SilencesReply)

    async def end_silence(self, silence: SilenceId) -> SilencesReply:
        """It is over before its time."""
        target = target_of(f"/v1/silences/{quote(silence, safe='')}", (("request_id", self._new_request_id()),))
        got = await self._caller.call("DELETE", target, is_write=True)
        return decoded(got.body, SilencesReply, f"DELETE {target}")

    async def put_channel(self, channel: ChannelName, request: ChannelRequest) -> ChannelsReply:
        """From now on it is told of alerts."""
        return await self._post(_channel(channel), request, ChannelsReply, method="PUT")

    async def remove_channel(self, channel: ChannelName) -> ChannelsReply:
        """It is told of nothing any more."""
        target = target_of(_channel(channel), (("request_id", self._new_request_id()),))
        got = await self._caller.call("DELETE", target, is_write=True)
        return decoded(got.body, ChannelsReply, f"DELETE {target}")

    async def test_channel(self, channel: ChannelName) -> ChannelTestReply:
        """Send it a message now; takes as long as that."""
        target = _channel(channel, "/test")
        got = await self._caller.call("POST", target, timeout_s=TEST_TIMEOUT_S)
        return decoded(got.body, ChannelTestReply, f"POST {target}")

    async def _post(self, target: str, request: R, reply: type[T], *, method: str = "POST") -> T:
        if request.request_id is None:
            request = msgspec.structs.replace(request, request_id=self._new_request_id())
        headers = (("content-type", "application/json"),)
        body = msgspec.json.encode(request)
        got = await self._caller.call(method, target, headers=headers, body=body, is_write=True)
        return decoded(got.body, reply, f"{method} {target}")


def _channel(channel: ChannelName, verb: str = "") -> str:
    return f"/v1/channels/{quote(channel, safe='')}{verb}"
