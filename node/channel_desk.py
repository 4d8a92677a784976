"""Channels as people make, list and try them: the door between the API and the log. No answer holds an address."""

from collections.abc import Awaitable, Callable

from consensus.state.cluster import ClusterState
from consensus.state.commands import PutChannel, RemoveChannel
from consensus.state.records import ChannelRecord
from node import changes
from node.locks import Log
from node.notices.words import Message, test_message
from node.upkeep import Observer
from orca.errors import NotFoundError
from orca.model.ids import ChannelName, NodeId, RequestId, SecretId
from orca.model.notice import ChannelRequest, ChannelsReply, ChannelTestReply, ChannelView
from orca.model.trust import Author
from orca.sources import Clock, IdSource


class ChannelDesk:
    """`address` opens a secret on this node, `send` sends; both are set before anybody asks for a test."""

    address: Callable[[SecretId], str]
    send: Callable[[str, Message], Awaitable[None]]

    def __init__(
        self, node: NodeId, cluster: str, replica: Log, clock: Clock, ids: IdSource, observer: Observer
    ) -> None:
        self._node = node
        self._cluster = cluster
        self._replica = replica
        self._clock = clock
        self._ids = ids
        self._observer = observer

    @property
    def _state(self) -> ClusterState:
        return self._replica.state

    def cluster_name(self) -> str:
        """What the cluster is called in messages."""
        return self._state.settings.name or self._cluster

    def list(self) -> ChannelsReply:
        """All, by name."""
        return self._reply(*(self._state.channels[name] for name in sorted(self._state.channels)))

    def told(self) -> dict[str, tuple[ChannelName, ...]]:
        """Which channels were told that which alert fires, and not yet that it is over."""
        found: dict[str, tuple[ChannelName, ...]] = {}
        for one in self._state.notices.values():
            if one.told is not None and one.told.is_firing:
                found[one.alert] = tuple(sorted((*found.get(one.alert, ()), one.channel)))
        return found

    async def put(
        self, channel: ChannelName, secret: SecretId, request: ChannelRequest, *, by: Author
    ) -> ChannelsReply:
        """Make or change it; its address is the value of `secret`, which is there."""
        now_ms = self._clock.wall()
        command = PutChannel(
            request_id=self._request_id(request.request_id),
            at_ms=now_ms,
            actor=by.actor,
            origin=by.origin,
            channel=channel,
            secret=secret,
            severity=request.severity,
            project=request.project,
        )
        changes.raise_refusal(await self._replica.propose(command))
        made = ChannelRecord(
            name=channel,
            secret=secret,
            severity=request.severity,
            project=request.project,
            created_at_ms=now_ms,
            created_by=by.actor,
        )
        return self._reply(self._state.channels.get(channel, made))

    async def remove(self, channel: ChannelName, request_id: RequestId | None, *, by: Author) -> ChannelsReply:
        """Tell it of nothing any more. Raises NotFoundError."""
        known = self._state.channels.get(channel)
        command = RemoveChannel(
            request_id=self._request_id(request_id),
            at_ms=self._clock.wall(),
            actor=by.actor,
            origin=by.origin,
            channel=channel,
        )
        changes.raise_refusal(await self._replica.propose(command))
        return self._reply(*(() if known is None else (known,)))

    async def test(self, channel: ChannelName) -> ChannelTestReply:
        """Send a message now. Raises NotFoundError, NotDeliveredError, NotAvailableError."""
        known = self._state.channels.get(channel)
        if known is None:
            present = ", ".join(sorted(self._state.channels)) or "none"
            raise NotFoundError(f"there is no channel {channel[:80]!r}; there are: {present}")
        record = self._state.nodes.get(self._node)
        name = str(self._node) if record is None else record.name
        await self.send(self.address(known.secret), test_message(self.cluster_name(), channel, name))
        return ChannelTestReply(observation=self._observer.observation(), channel=channel, node=self._node)

    def _request_id(self, given: RequestId | None) -> RequestId:
        return RequestId(self._ids.fresh()) if given is None else given

    def _reply(self, *channels: ChannelRecord) -> ChannelsReply:
        views = tuple(self._view(one) for one in channels)
        return ChannelsReply(observation=self._observer.observation(), channels=views)

    def _view(self, channel: ChannelRecord) -> ChannelView:
        notices = [one for one in self._state.notices.values() if one.channel == channel.name]
        return ChannelView(
            name=channel.name,
            secret=channel.secret,
            severity=channel.severity,
            project=channel.project,
            created_at_ms=channel.created_at_ms,
            created_by=channel.created_by,
            firing=sum(one.told is not None and one.told.is_firing for one in notices),
            waiting=sum(one.claim is not None for one in notices),
        )
