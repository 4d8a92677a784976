"""Works alerts out while this node leads, and tells channels; on trio."""

from typing import Final, Protocol

import structlog
import trio

from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import ClaimNotices, Command, NoticeEntry, SettleNotices
from consensus.state.records import ChannelRecord
from node.alert_desk import AlertDesk
from node.alerts.handling import handled, resolutions
from node.alerts.rules import evaluate
from node.bell import Bell
from node.changes import raise_refusal
from node.notices.decide import Notice, Vanishing, due, told_of
from node.notices.pace import Pace
from node.notices.words import Message, message_of
from orca.errors import OrcaError
from orca.model.alert import AlertView
from orca.model.event import EventKind, NodeEvent, Severity
from orca.model.ids import ChannelName, NodeId, SecretId
from orca.model.view import MemberView
from orca.sources import Clock, Rng

PAUSE_S: Final = 0.25
"""From one look to the next, at least."""
LOOK_S: Final = 5.0
"""Holds end, calms are over and silences end by time alone."""
IDLE_S: Final = 60.0
_log = structlog.get_logger("orca.notices")


class Feed(Protocol):
    """The histories of all nodes; `node.alert_feed` has it."""

    news: Bell
    is_ready: bool

    @property
    def events(self) -> tuple[NodeEvent, ...]:
        """As of now."""
        ...

    @property
    def is_blind(self) -> bool:
        """Whether some node's history is missing."""
        ...

    async def run(self) -> None:
        """Follow them until cancelled."""
        ...


class Group(Protocol):
    """What of a replica is needed here."""

    @property
    def state(self) -> ClusterState:
        """The applied state."""
        ...

    @property
    def is_leader(self) -> bool:
        """Whether this node decides."""
        ...

    async def propose(self, command: Command) -> Outcome:
        """Have it committed and applied."""
        ...


class Surroundings(Protocol):
    """What the notifier needs of the node around it."""

    def open_feed(self) -> Feed:
        """A feed that nobody follows yet."""
        ...

    def members(self) -> tuple[MemberView, ...]:
        """Who is there, as gossip knows."""
        ...

    def address(self, secret: SecretId) -> str:
        """The value of a secret. Raises NotAvailableError."""
        ...

    def cluster_name(self) -> str:
        """What the cluster is called in messages."""
        ...

    async def send(self, address: str, message: Message) -> None:
        """Send it. Raises NotDeliveredError."""
        ...

    def record(self, kind: EventKind, message: str, severity: Severity) -> None:
        """Note something in the node's history."""
        ...


class Notifier:
    """Tells channels while this node leads. `changed` is rung when the state, or who leads, is another than it was."""

    def __init__(
        self,
        node: NodeId,
        clock: Clock,
        rng: Rng,
        replica: Group,
        desk: AlertDesk,
        around: Surroundings,
        *,
        changed: Bell,
    ) -> None:
        self._node = node
        self._clock = clock
        self._rng = rng
        self._replica = replica
        self._desk = desk
        self._around = around
        self._changed = changed
        self._paces: dict[ChannelName, Pace] = {}
        self._busy: set[ChannelName] = set()

    @property
    def _is_on(self) -> bool:
        return self._replica.is_leader and bool(self._replica.state.channels)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            heard = self._changed.rings
            if not self._is_on:
                await self._changed.wait(heard, IDLE_S)
                await trio.sleep(PAUSE_S)  # an idle leader applies little, a busy one much
                continue
            feed = self._around.open_feed()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(feed.run)
                await self._lead(feed, nursery)
                nursery.cancel_scope.cancel()

    async def _lead(self, feed: Feed, nursery: trio.Nursery) -> None:
        vanishing = Vanishing()
        while self._is_on:
            heard = feed.news.rings
            if feed.is_ready:
                alerts = await self._evaluate(feed)
                told = told_of(self._replica.state.notices)
                gone = vanishing.look(told, alerts, self._clock.now(), is_blind=feed.is_blind)
                self._tell(alerts, gone, feed.news, nursery)
            await trio.sleep(PAUSE_S)
            await feed.news.wait(heard, LOOK_S - PAUSE_S)

    async def _evaluate(self, feed: Feed) -> tuple[AlertView, ...]:
        members = self._around.members()
        names = {one.id: one.name for one in members if one.id is not None}
        present = frozenset(one.name for one in members)
        marks, now_ms = dict(self._desk.marks), self._clock.wall()
        found = await trio.to_thread.run_sync(evaluate, feed.events, now_ms, names, present, resolutions(marks))
        return handled(found, marks, self._desk.silences(), now_ms)

    def _tell(self, alerts: tuple[AlertView, ...], gone: set[str], wake: Bell, nursery: trio.Nursery) -> None:
        state, now = self._replica.state, self._clock.now()
        found = due(
            alerts, state.channels.values(), state.notices, gone=gone, now_ms=self._clock.wall(), node=self._node
        )
        for name, notices in found.items():
            pace = self._paces.setdefault(name, Pace(self._rng))
            if name not in self._busy and pace.wait_s(now) <= 0:
                self._busy.add(name)
                nursery.start_soon(self._deliver, state.channels[name], notices, pace, wake)

    async def _deliver(self, channel: ChannelRecord, notices: tuple[Notice, ...], pace: Pace, wake: Bell) -> None:
        try:
            await self._claim(channel.name, notices)
            message = message_of(notices, self._around.cluster_name())
            try:
                await self._around.send(self._around.address(channel.secret), message)
            except OrcaError as error:
                self._note_failure(channel.name, pace, error)
                return
            self._note_success(channel.name, pace)
            await self._settle(channel.name, notices)
        except OrcaError as error:
            # Another leader, no quorum, or somebody else tells it: the next look decides anew.
            _log.info("a notice waits", channel=channel.name, reason=error.message)
            pace.failed(self._clock.now())
        finally:
            self._busy.discard(channel.name)
            wake.ring()

    async def _claim(self, channel: ChannelName, notices: tuple[Notice, ...]) -> None:
        entries = tuple(
            NoticeEntry(
                alert=one.alert,
                is_firing=one.state.is_firing,
                severity=one.state.severity,
                since_ms=one.state.since_ms,
            )
            for one in notices
        )
        command = ClaimNotices(channel=channel, node=self._node, entries=entries, at_ms=self._clock.wall())
        raise_refusal(await self._replica.propose(command))

    async def _settle(self, channel: ChannelName, notices: tuple[Notice, ...]) -> None:
        alerts = tuple(one.alert for one in notices)
        command = SettleNotices(channel=channel, node=self._node, alerts=alerts, at_ms=self._clock.wall())
        raise_refusal(await self._replica.propose(command))

    def _note_failure(self, channel: ChannelName, pace: Pace, error: OrcaError) -> None:
        if not pace.failures:
            text = f"the channel {channel} took no message: {error.message}; it is tried again"
            self._around.record(EventKind.NOTIFY_FAILED, text, Severity.WARNING)
        pace.failed(self._clock.now())

    def _note_success(self, channel: ChannelName, pace: Pace) -> None:
        if pace.failures:
            self._around.record(EventKind.NOTIFY_RESTORED, f"the channel {channel} takes messages again", Severity.INFO)
        pace.sent(self._clock.now())
