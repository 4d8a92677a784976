"""Works alerts out while this node leads, and tells channels; on trio."""

import math
from typing import Final, Protocol

import structlog
import trio

from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import ClaimNotices, Command, NoticeEntry, SettleNotices
from consensus.state.records import ChannelRecord, NoticeState
from node.alert_desk import AlertDesk
from node.alerts.handling import handled, resolutions
from node.alerts.rules import look
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
"""From one look to the next, at least; and this many times what the last one took, so that a long history does not
keep a core busy:"""
PAUSE_TIMES: Final = 5.0
WAITING_LOOK_S: Final = 2.0
"""While something is still to be told, is being told by another, or has vanished."""
IDLE_S: Final = 60.0
SETTLE_PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0)
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
        self._sent: dict[tuple[ChannelName, str], NoticeState] = {}
        """What was taken by a channel and could not be settled yet: it is not sent again from here."""

    @property
    def _is_on(self) -> bool:
        return self._replica.is_leader and bool(self._replica.state.channels)

    async def run(self) -> None:
        """Until cancelled. A message that is under way is sent and settled also when another node leads by then."""
        async with trio.open_nursery() as deliveries:
            while True:
                heard = self._changed.rings
                if not self._is_on:
                    await self._changed.wait(heard, IDLE_S)
                    await trio.sleep(PAUSE_S)  # an idle leader applies little, a busy one much
                    continue
                feed = self._around.open_feed()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(feed.run)
                    nursery.start_soon(self._pass_on, feed.news)
                    await self._lead(feed, deliveries)
                    nursery.cancel_scope.cancel()

    async def _lead(self, feed: Feed, deliveries: trio.Nursery) -> None:
        vanishing = Vanishing()
        while self._is_on:
            heard, began = feed.news.rings, self._clock.now()
            wait_s = IDLE_S
            if feed.is_ready:
                alerts, wait_s = await self._evaluate(feed)
                told = told_of(self._replica.state.notices)
                gone = vanishing.look(told, alerts, self._clock.now(), is_blind=feed.is_blind)
                is_due = self._tell(alerts, gone, feed.news, deliveries)
                is_claimed = any(one.claim is not None for one in self._replica.state.notices.values())
                if is_due or is_claimed or vanishing.is_counting:
                    wait_s = min(wait_s, WAITING_LOOK_S)
            await trio.sleep(max(PAUSE_S, PAUSE_TIMES * (self._clock.now() - began)))
            await feed.news.wait(heard, wait_s)

    async def _pass_on(self, wake: Bell) -> None:
        """Look again when something was said about alerts, or of channels; most of what is applied is neither."""
        known: tuple[object, ...] = ()
        while True:
            heard, state = self._changed.rings, self._replica.state
            tables = (state.channels, state.silences, state.alert_marks)
            present = tuple(one for table in tables for one in table.values())
            if present != known or not self._replica.is_leader:
                known = present
                wake.ring()
            await self._changed.wait(heard)
            await trio.sleep(PAUSE_S)

    async def _evaluate(self, feed: Feed) -> tuple[tuple[AlertView, ...], float]:
        """The alerts, and the seconds until time alone makes others of them."""
        members = self._around.members()
        names = {one.id: one.name for one in members if one.id is not None}
        present = frozenset(one.name for one in members)
        marks, now_ms = dict(self._desk.marks), self._clock.wall()
        found, wakes_ms = await trio.to_thread.run_sync(look, feed.events, now_ms, names, present, resolutions(marks))
        silences = self._desk.silences()
        ends = [wakes_ms, *(one.ends_at_ms for one in silences)]
        ends += [one.acknowledged.ends_at_ms for one in marks.values() if one.acknowledged is not None]
        wait_ms = min((one - now_ms for one in ends if one is not None and one > now_ms), default=math.inf)
        return handled(found, marks, silences, now_ms), min(IDLE_S, wait_ms / 1000)

    def _tell(self, alerts: tuple[AlertView, ...], gone: set[str], wake: Bell, nursery: trio.Nursery) -> bool:
        """Begin to tell what is due; whether anything is."""
        state, now = self._replica.state, self._clock.now()
        found = due(
            alerts, state.channels.values(), state.notices, gone=gone, now_ms=self._clock.wall(), node=self._node
        )
        for name, notices in found.items():
            pace = self._paces.setdefault(name, Pace(self._rng))
            if name not in self._busy and pace.wait_s(now) <= 0:
                self._busy.add(name)
                nursery.start_soon(self._deliver, state.channels[name], notices, pace, wake)
        return bool(found)

    async def _deliver(self, channel: ChannelRecord, notices: tuple[Notice, ...], pace: Pace, wake: Bell) -> None:
        unsent = tuple(one for one in notices if self._sent.get((channel.name, one.alert)) != one.state)
        try:
            if unsent:
                await self._claim(channel.name, unsent)
                message = message_of(unsent, self._around.cluster_name())
                try:
                    await self._around.send(self._around.address(channel.secret), message)
                except OrcaError as error:
                    self._note_failure(channel.name, pace, error)
                    return
                self._sent |= {(channel.name, one.alert): one.state for one in unsent}
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
        """Whoever leads by now takes it. Raises OrcaError when nobody did for as long as a claim nearly lasts."""
        alerts = tuple(one.alert for one in notices)
        for pause_s in (*SETTLE_PAUSES_S, None):
            command = SettleNotices(channel=channel, node=self._node, alerts=alerts, at_ms=self._clock.wall())
            try:
                raise_refusal(await self._replica.propose(command))
            except OrcaError:
                if pause_s is None:
                    raise
                await trio.sleep(pause_s)
            else:
                break
        for alert in alerts:
            self._sent.pop((channel, alert), None)

    def _note_failure(self, channel: ChannelName, pace: Pace, error: OrcaError) -> None:
        if not pace.failures:
            text = f"the channel {channel} took no message: {error.message}; it is tried again"
            self._around.record(EventKind.NOTIFY_FAILED, text, Severity.WARNING)
        pace.failed(self._clock.now())

    def _note_success(self, channel: ChannelName, pace: Pace) -> None:
        if pace.failures:
            self._around.record(EventKind.NOTIFY_RESTORED, f"the channel {channel} takes messages again", Severity.INFO)
        pace.sent(self._clock.now())
