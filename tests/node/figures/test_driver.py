"""Figures of a node from its sources to events; sources and clock are ours, the store is real."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from node.figures.driver import ASKS_A_S, Figures
from node.figures.store import SeriesStore
from node.proxy.latency import ServiceTraffic
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.events import EventLog
from orca.model.allocation import Allocation
from orca.model.event import EventKind, NodeEvent, Severity
from orca.model.ids import AllocationId, NodeId, ServiceId, SpecRevision
from orca.model.units import Instant, WallMs
from orca.model.view import StatsView

pytestmark = pytest.mark.integration
NODE, WEB = NodeId("n-1"), ServiceId("default/web")
NOON_MS = 1_700_000_040_000 // 60_000 * 60_000


class World:
    """Everything that is measured."""

    def __init__(self) -> None:
        self.at_s = 0.0
        self.own_figures: dict[str, float] = {"node_cpu_share": 0.5, "node_memory_share": 0.4}
        self.memory: dict[str, float] = {}
        self.traffic: dict[ServiceId, ServiceTraffic] = {}
        self.waiting: dict[ServiceId, float] = {}
        self.asked: list[int] = []
        self.offset_s: float | None = None

    def now(self) -> Instant:
        return Instant(self.at_s)

    def wall(self) -> WallMs:
        return WallMs(NOON_MS + round(self.at_s * 1000))

    def quick(self) -> Mapping[str, float]:
        return self.own_figures

    def slow(self) -> Mapping[str, float]:
        return {"disk_free_share": 0.5}

    def services(self) -> Mapping[ServiceId, ServiceTraffic]:
        return self.traffic

    def queues(self) -> Mapping[ServiceId, float]:
        return self.waiting

    def own(self) -> Sequence[Allocation]:
        return [
            Allocation(id=AllocationId(name), service=WEB, slot=0, node=NODE, revision=SpecRevision(1), template="t")
            for name in self.memory
        ]

    async def measure(self, copies: Sequence[Allocation]) -> tuple[StatsView, ...]:
        self.asked.append(len(copies))
        return tuple(
            StatsView(
                allocation=one.id,
                service=one.service,
                slot=one.slot,
                cpu_milli=250,
                memory_bytes=int(self.memory[one.id] * 1000),
                memory_bytes_max=1000,
            )
            for one in copies
        )

    async def peer(self) -> tuple[NodeId, float] | None:
        return None if self.offset_s is None else (NodeId("n-2"), self.offset_s)


class Noted(EventLog):
    """Events as they come; nobody writes them."""

    @property
    def told(self) -> list[NodeEvent]:
        return list(self._buffer)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    with DataDirectory.open(tmp_path / "data") as directory, Environment.open(directory) as opened:
        yield opened


@pytest.fixture
def world() -> World:
    return World()


def make(world: World, environment: Environment) -> tuple[Figures, Noted]:
    events = Noted(environment, NODE)
    figures = Figures("n1", world, SeriesStore(environment), events, world, world, world, peer_offset_s=world.peer)
    return figures, events


def tick(world: World, figures: Figures, seconds: int = 1) -> None:
    for _ in range(seconds):
        world.at_s += 1
        figures.tick()


def series(figures: Figures, name: str) -> float | None:
    minute = figures.recorder.minute()
    values = None if minute is None else minute.series.get(name)
    return None if values is None else [one for one in values if one == one][-1]  # noqa: PLR0124


async def test_all_that_is_measured_is_noted_each_second(world: World, environment: Environment) -> None:
    figures, _ = make(world, environment)
    world.memory["aaa"] = 0.5
    figures._used = {one.allocation: one for one in await world.measure(world.own())}
    world.traffic[WEB] = ServiceTraffic()
    tick(world, figures)
    for _ in range(7):
        world.traffic[WEB].add(200, 0.001)
    tick(world, figures)
    assert series(figures, "node_cpu_share node") == 0.5
    assert series(figures, "memory_bytes copy default/web 0 aaa") == 500.0
    assert series(figures, "cpu_milli copy default/web 0 aaa") == 250.0
    assert series(figures, "answers_per_s service default/web") == 7.0


async def test_what_goes_too_far_is_an_event_of_its_copy_and_so_is_its_end(
    world: World, environment: Environment
) -> None:
    figures, events = make(world, environment)
    for share, seconds in ((0.95, 70), (0.5, 70)):
        world.memory["aaa"] = share
        figures._used = {one.allocation: one for one in await world.measure(world.own())}
        tick(world, figures, seconds)
    raised, settled = events.told
    assert (raised.kind, raised.figure, raised.severity) == (
        EventKind.FIGURE_EXCEEDED, "memory_share", Severity.WARNING
    )  # fmt: skip
    assert (raised.service, raised.allocation) == (WEB, AllocationId("aaa"))
    assert raised.message == "web.1: 95 % of its memory limit in use"
    assert settled.kind is EventKind.FIGURE_SETTLED
    assert settled.message == "web.1: 50 % of its memory limit in use again"


async def test_errors_of_a_service_are_an_event_of_the_service(world: World, environment: Environment) -> None:
    figures, events = make(world, environment)
    traffic = world.traffic[WEB] = ServiceTraffic()
    for second in range(60):
        for _ in range(4):
            traffic.add(500 if second % 2 else 200, 0.001)
        if second % 5 == 0:
            figures._shares = figures._traffic.shares(world.services())
        tick(world, figures)
    (raised,) = events.told
    assert (raised.figure, raised.severity, raised.service, raised.allocation) == (
        "error_share", Severity.ERROR, WEB, None
    )  # fmt: skip


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(1_000_000):
        while not holds():  # noqa: ASYNC110 - a thread makes it hold, and the clock is virtual
            await trio.sleep(0.5)


async def test_a_minute_is_kept_many_copies_are_asked_by_turns_and_what_is_open_outlives_it(
    world: World, environment: Environment, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    world.memory = {f"a{number:03}": 0.99 for number in range(ASKS_A_S * 3)}
    world.own_figures["node_memory_share"] = 0.99
    store = SeriesStore(environment)

    class Timed(World):
        def now(self) -> Instant:
            return Instant(trio.current_time() - began)

        def wall(self) -> WallMs:
            return WallMs(NOON_MS + round((trio.current_time() - began) * 1000))

    timed = Timed()
    timed.memory, timed.own_figures, timed.offset_s = world.memory, world.own_figures, -30.0
    figures, events = make(timed, environment)
    nursery.start_soon(figures.run)
    await until(lambda: "node_memory_share" in {one.figure for one in store.load_open()})
    await until(lambda: any(one.figure == "clock_offset_s" for one in events.told))
    found: dict[str, object] = {}

    def kept() -> bool:
        found.update(store.read(0, NOON_MS, lambda _: True, by_seconds=False))
        return "memory_bytes copy default/web 0 a007" in found

    await until(kept)
    assert "node_cpu_share node" in found
    assert set(timed.asked) == {ASKS_A_S}
    nursery.cancel_scope.cancel()
