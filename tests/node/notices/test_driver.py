"""The notifier on trio: who leads tells, what is told is settled, what fails is tried again.

Alerts are worked out in a thread, which a virtual clock does not wait for: tests wait for looks and messages.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import trio
import trio.testing

from consensus.state.applying.notices import CLAIM_MS
from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import Command, PutChannel, PutDataKey, PutSecrets, SealedEntry, SettleNotices
from consensus.state.records import NoticeClaim, notice_key
from node.bell import Bell
from node.notices.driver import Notifier
from node.notices.words import Message
from orca.errors import NotAvailableError, NotDeliveredError
from orca.model.event import EventKind, NodeEvent, Severity
from orca.model.ids import ChannelName, NodeId, RequestId, SecretId, ServiceId
from orca.model.units import Instant, WallMs
from orca.model.view import MemberView
from tests.node.alerts.test_rules import History
from tests.node.scheduling import Admitted

FAILED = "rollout-failed:default/web"
OPS = ChannelName("ops")
NODE = NodeId("n-a")


class Timed(Admitted):
    """At the time of its world."""

    def __init__(self, wall: Callable[[], WallMs]) -> None:
        super().__init__()
        self._wall = wall

    def wall(self) -> WallMs:
        return self._wall()


class World:
    """A leader, what it decides in, and whom it tells. Time is trio's, so that a mock clock makes it."""

    def __init__(self) -> None:
        self.admitted = Timed(self.wall)
        self.is_leader = True
        self.refuses: Exception | None = None
        self.refuses_kind: type[Command] | None = None
        self.fails = 0
        self.sent: list[Message] = []
        self.noted: list[EventKind] = []
        self.news = Bell()
        self.is_ready = True
        self.is_blind = False
        self.history = History()
        self.looks = 0
        self.changed = Bell()
        stamp: dict[str, Any] = {"at_ms": WallMs(self.admitted.at_ms), "actor": "ann"}
        secret = SealedEntry(secret=SecretId("/notify.ops"), key_version=1, ciphertext=b"x" * 40)
        for command in (
            PutDataKey(version=1, wrapped={NODE: b"w"}, request_id=RequestId("a"), **stamp),
            PutSecrets(entries=(secret,), request_id=RequestId("b"), **stamp),
            PutChannel(channel=OPS, secret=secret.secret, request_id=RequestId("c"), **stamp),
        ):
            assert not self.admitted.apply(command).error

    # as a replica

    @property
    def state(self) -> ClusterState:
        return self.admitted.state

    async def propose(self, command: Command) -> Outcome:
        await trio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise self.refuses
        if self.refuses_kind is not None and isinstance(command, self.refuses_kind):
            raise NotAvailableError("no quorum")
        return self.admitted.apply(msgspec.structs.replace(command, at_ms=self.wall()))

    # as a clock

    def now(self) -> Instant:
        return Instant(trio.current_time() - self.started)

    def wall(self) -> WallMs:
        return WallMs(1_000_000 + round(self.now() * 1000))

    # as a feed and its surroundings

    @property
    def events(self) -> tuple[NodeEvent, ...]:
        self.looks += 1
        return tuple(self.history.events)

    async def run(self) -> None:
        await trio.sleep_forever()

    def open_feed(self) -> "World":
        return self

    def members(self) -> tuple[MemberView, ...]:
        return ()

    def address(self, secret: SecretId) -> str:
        return f"address of {secret}"

    def cluster_name(self) -> str:
        return "home"

    async def send(self, address: str, message: Message) -> None:
        assert address == "address of /notify.ops"
        await trio.sleep(1)
        if self.fails:
            self.fails -= 1
            raise NotDeliveredError("nobody is there")
        self.sent.append(message)

    def record(self, kind: EventKind, message: str, severity: Severity) -> None:
        assert OPS in message
        assert severity
        self.noted.append(kind)

    # what a test does

    started = 0.0

    def fail(self, *services: str) -> None:
        """A rollout of each fails, just now. Of all rules this one ends by no time."""
        for service in services or ("web",):
            self.history.tell(self.wall() / 1000, EventKind.ROLLOUT_FAILED, service=ServiceId(f"default/{service}"))
        self.news.ring()

    async def until(self, holds: Callable[[], bool]) -> None:
        with trio.fail_after(1_000_000):
            while not holds():  # noqa: ASYNC110 - time is what makes it hold
                await trio.sleep(0.5)

    async def look(self, times: int = 20) -> None:
        """Let so many looks happen, and what they lead to."""
        enough = self.looks + times
        await self.until(lambda: self.looks > enough)

    @property
    def titles(self) -> list[str]:
        return [one.title.removeprefix("[orca home] ") for one in self.sent]

    @property
    def firing(self) -> list[str]:
        return [one.alert for one in self.state.notices.values() if one.told is not None and one.claim is None]


@contextmanager
def notifying(world: World, nursery: trio.Nursery) -> Iterator[None]:
    world.started = trio.current_time()
    notifier = Notifier(
        NODE,
        world,
        random.Random(1),
        world,
        world.admitted.alerts,
        world,
        changed=world.changed,
    )
    nursery.start_soon(notifier.run)
    yield
    nursery.cancel_scope.cancel()


async def test_an_alert_is_told_settled_and_told_to_be_over(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()
    with notifying(world, nursery):
        await world.look()
        assert world.sent == []
        world.fail()
        await world.until(lambda: world.firing == [FAILED])
        assert world.titles == [f"error: {FAILED}"]
        await world.look()
        assert len(world.sent) == 1, "it is told once"
        world.history.tell(world.wall() / 1000, EventKind.SERVICE_REMOVED)
        world.news.ring()
        await world.until(lambda: not world.state.notices)
        assert world.titles[1:] == [f"over: {FAILED}"]


async def test_who_does_not_lead_tells_nothing_and_who_leads_next_tells_nothing_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()
    world.is_leader = False
    with notifying(world, nursery):
        world.fail()
        await trio.sleep(120)
        assert (world.sent, world.looks) == ([], 0)
        world.is_leader = True
        world.fail()
        world.changed.ring()
        await world.until(lambda: world.firing == [FAILED])
        for leads in (False, True):
            world.is_leader = leads
            world.changed.ring()
            await trio.sleep(30)
        world.fail()
        await world.look()
        assert len(world.sent) == 1


async def test_what_fails_is_tried_again_and_told_in_the_history_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()
    world.fails = 3
    with notifying(world, nursery):
        world.fail()
        await world.until(lambda: len(world.firing) == 1)
        assert world.titles == [f"error: {FAILED}"]
        assert world.noted == [EventKind.NOTIFY_FAILED, EventKind.NOTIFY_RESTORED]


async def test_nothing_is_sent_that_could_not_be_claimed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()
    world.refuses = NotAvailableError("no quorum")
    with notifying(world, nursery):
        world.fail()
        await world.look()
        assert world.sent == []
        world.refuses = None
        await world.until(lambda: len(world.firing) == 1)
        assert len(world.sent) == 1


async def test_what_was_taken_is_not_sent_again_because_that_could_not_be_written_down(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()
    world.refuses_kind = SettleNotices
    with notifying(world, nursery):
        world.fail()
        await world.until(lambda: len(world.sent) == 1)
        await world.look(40)
        assert len(world.sent) == 1
        assert world.firing == []
        world.is_leader = False
        world.refuses_kind = None
        world.changed.ring()
        await world.until(lambda: not world.is_leader)
        world.is_leader = True
        world.changed.ring()
        await world.until(lambda: world.firing == [FAILED])
        assert len(world.sent) == 1


async def test_what_another_node_may_have_told_is_told_again_after_a_minute_under_the_same_identity(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()
    with notifying(world, nursery):
        world.fail()
        await world.until(lambda: world.firing == [FAILED])
        (first,) = world.sent
        # As if another had claimed it, sent it and died.
        (record,) = world.state.notices.values()
        assert record.told is not None
        claim = NoticeClaim(node=NodeId("n-b"), at_ms=world.wall(), state=record.told)
        key = notice_key(OPS, FAILED)
        world.state.notices[key] = msgspec.structs.replace(record, told=None, claim=claim)
        world.news.ring()
        await world.until(lambda: len(world.sent) == 2)
        assert world.sent[1].identity == first.identity
        assert world.wall() >= claim.at_ms + CLAIM_MS
        await world.until(lambda: world.firing == [FAILED])


async def test_many_at_once_go_into_few_messages(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    with notifying(world, nursery):
        world.fail()
        await world.until(lambda: len(world.firing) == 1)
        world.fail(*(f"s{number}" for number in range(300)))
        await world.until(lambda: len(world.firing) == 301)
        assert world.titles == [f"error: {FAILED}", "300 alerts"]
        assert notice_key(OPS, "rollout-failed:default/s7") in world.state.notices
