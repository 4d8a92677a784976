"""Names and ports at which members live, one life after the other, real agents or ours."""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import trio

from gossip.messages import Address
from gossip.serf import EventRequested, LeaveRequested, RotationEnded, RotationRequested, UserEventReceived
from gossip.serf.effects import StatusChanged
from simulations.bench.gossip_members import Sight, parse_serf
from tests.gossip.live.member import LiveMember, live_member
from tests.ports import free_port
from tests.serf_agent import HOST, Agent, running_agent

Record: TypeAlias = Callable[[int], tuple[list[Sight], int]]
"""What was seen from a place in a member's record on, and the next place."""
WATCH_S = 0.05
ROTATION_S = 60.0
_TRIES = 5


@dataclass
class Life:
    """From a member's join to its end, in seconds of the trio clock."""

    began_at: float
    ended_at: float = float("inf")

    def covers(self, start: float, end: float) -> bool:
        """Whether it lived all that time."""
        return self.began_at <= start and end <= self.ended_at


@dataclass(frozen=True)
class Sighting:
    """`observer` saw something at a time."""

    at: float
    observer: str
    sight: Sight


class Slot:
    """Where a member lives; `tell` gets what it sees, as it sees it."""

    def __init__(self, name: str, nursery: trio.Nursery, tell: Callable[[Sighting], None]) -> None:
        self.name = name
        self.port = free_port()
        self.lives: list[Life] = []
        self._nursery = nursery
        self._tell = tell
        self._stop = trio.Event()
        self._is_over = trio.Event()

    @property
    def is_up(self) -> bool:
        """Whether somebody lives here now."""
        return bool(self.lives) and self.lives[-1].ended_at == float("inf")

    def was_up(self, start: float, end: float) -> bool:
        """Whether one life covers all that time."""
        return any(life.covers(start, end) for life in self.lives)

    async def start(self, key: bytes, join: "Slot | None") -> None:
        """A new life, which has joined when this returns."""
        assert not self.is_up, f"{self.name} lives"
        self._stop, self._is_over = trio.Event(), trio.Event()
        await self._nursery.start(self._live, key)
        if join is not None:
            await self.join(Address(HOST, join.port))
        self.lives.append(Life(trio.current_time()))

    async def kill(self) -> None:
        """End like `kill -9`."""
        self.lives[-1].ended_at = trio.current_time()
        self._stop.set()
        await self._is_over.wait()

    async def leave(self) -> None:
        """Say farewell, then end."""
        self.lives[-1].ended_at = trio.current_time()
        await self.say_farewell()
        self._stop.set()
        await self._is_over.wait()

    async def _live(self, key: bytes, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with self.member(key) as record, trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, record)
            task_status.started()
            await self._stop.wait()
            nursery.cancel_scope.cancel()
        self._is_over.set()

    async def _watch(self, record: Record) -> None:
        place = 0
        while True:
            sights, place = record(place)
            for sight in sights:
                self._tell(Sighting(trio.current_time(), self.name, sight))
            await trio.sleep(WATCH_S)

    def member(self, key: bytes) -> AbstractAsyncContextManager[Record]:
        """A life: what it sees."""
        raise NotImplementedError

    async def join(self, address: Address) -> None:
        """Meet whoever lives there."""
        raise NotImplementedError

    async def say_farewell(self) -> None:
        """Leave gracefully; returns when that is over."""
        raise NotImplementedError

    async def send(self, event: str) -> None:
        """A user event."""
        raise NotImplementedError

    async def statuses(self) -> dict[str, str]:
        """What it believes of all members."""
        raise NotImplementedError

    async def rotate(self, old: bytes, new: bytes) -> None:
        """Have the whole cluster use `new` in place of `old`."""
        raise NotImplementedError

    async def keys(self) -> set[str]:
        """Its keys, as text."""
        raise NotImplementedError


class RealSlot(Slot):
    """A real Serf agent, spoken to by the real command."""

    agent: Agent

    @asynccontextmanager
    async def member(self, key: bytes) -> AsyncIterator[Record]:
        async with running_agent(self.name, encrypt=text_of(key), port=self.port) as self.agent:
            lines = self.agent.lines

            def record(place: int) -> tuple[list[Sight], int]:
                end = len(lines)
                return [sight for line in lines[place:end] if (sight := _sight_in(line)) is not None], end

            yield record

    async def join(self, address: Address) -> None:
        await self.agent.command("join", "-replay", str(address))  # it wants what was said before, as ours do

    async def say_farewell(self) -> None:
        await self.agent.command("leave")

    async def send(self, event: str) -> None:
        await self.agent.command("event", "-coalesce=false", event)

    async def statuses(self) -> dict[str, str]:
        return await self.agent.members()

    async def rotate(self, old: bytes, new: bytes) -> None:
        for step in (("-install", text_of(new)), ("-use", text_of(new)), ("-remove", text_of(old))):
            await self._insist("keys", *step)

    async def keys(self) -> set[str]:
        listed = await self._insist("keys", "-list")
        return {words[0] for line in listed.splitlines() if len(words := line.split()) == 2 and words[1][:1] == "["}

    async def _insist(self, *words: str) -> str:
        """A query is sent twice by each agent and missed now and then; whoever gave the command gives it again."""
        for attempt in range(1, _TRIES + 1):
            try:
                return await self.agent.command(*words)
            except AssertionError as error:
                if attempt == _TRIES or "nodes reported success" not in str(error):
                    raise
        raise AssertionError("unreachable")


class OwnSlot(Slot):
    """A member of ours."""

    live: LiveMember

    @asynccontextmanager
    async def member(self, key: bytes) -> AsyncIterator[Record]:
        async with live_member(self.name, keys=(key,), port=self.port) as self.live:
            news = self.live.news

            def record(place: int) -> tuple[list[Sight], int]:
                end = len(news)
                return [sight for one in news[place:end] for sight in _sights_of(one)], end

            yield record

    async def join(self, address: Address) -> None:
        await self.live.join(address)

    async def say_farewell(self) -> None:
        self.live.driver.tell(LeaveRequested())
        await self.live.leaves()

    async def send(self, event: str) -> None:
        self.live.driver.tell(EventRequested(name=event))

    async def statuses(self) -> dict[str, str]:
        return self.live.statuses()

    async def rotate(self, old: bytes, new: bytes) -> None:
        place = len(self.live.news)

        def ends() -> list[RotationEnded]:
            return [one for one in self.live.news[place:] if isinstance(one, RotationEnded)]

        self.live.driver.tell(RotationRequested(key=new))
        await self.live.until(ends, "the end of the rotation", ROTATION_S)
        assert ends()[0].is_done, f"{self.name}: the rotation stopped: {ends()[0]}"

    async def keys(self) -> set[str]:
        assert self.live.ring is not None
        return {text_of(key) for key in self.live.ring.keys}


def text_of(key: bytes) -> str:
    """A key as the command line takes it."""
    return base64.b64encode(key).decode()


def _sight_in(line: str) -> Sight | None:
    """Events as the agent delivers them, once each, whether they came in a packet or with a push/pull."""
    _, is_event, event = line.partition("Received event: user-event: ")
    if is_event:
        return ("event", event.strip())
    sight = parse_serf(line)
    return None if sight is None or sight[0] == "event" else sight


def _sights_of(news: object) -> list[Sight]:
    match news:
        case StatusChanged(change=change, members=members):
            return [(change.value, member.node) for member in members]
        case UserEventReceived(name=name):
            return [("event", name)]
        case _:
            return []
