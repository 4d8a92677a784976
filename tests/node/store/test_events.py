import threading
from collections.abc import AsyncIterator, Callable

import pytest
import trio
import trio.testing

from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.events import BUFFER_MAX, EventLog
from node.store.views import Database, WriteView
from orca.errors import InvalidRequestError, StoreFullError
from orca.model.event import EventKind, NodeEvent
from orca.model.ids import AllocationId, NodeId, ServiceId
from orca.model.units import WallMs

pytestmark = pytest.mark.integration
NODE = NodeId("n-a")
WEB, API = ServiceId("default/web"), ServiceId("default/api")


@pytest.fixture
async def roomy(directory: DataDirectory) -> AsyncIterator[Environment]:
    with Environment.open(directory, map_bytes_max=2**28) as environment:
        yield environment


def append(log: EventLog, number: int, service: ServiceId | None = None, allocation: str | None = None) -> None:
    log.append(
        EventKind.ALLOCATION_STARTED,
        f"event {number}",
        at_ms=WallMs(number),
        service=service,
        allocation=None if allocation is None else AllocationId(allocation),
    )


def numbers(events: list[NodeEvent]) -> list[int]:
    return [int(event.message.removeprefix("event ")) for event in events]


def read_all(log: EventLog) -> list[NodeEvent]:
    found: list[NodeEvent] = []
    while more := log.read(found[-1].sequence if found else 0, 1000):
        found += more
    return found


async def test_ten_thousand_events_are_kept_in_order_without_a_gap(roomy: Environment) -> None:
    log = EventLog(roomy, NODE)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        for number in range(10_000):
            append(log, number, WEB, f"allocation-{number % 7}")
        with trio.fail_after(60):
            await log.wait_after(9_999)
        nursery.cancel_scope.cancel()
    events = read_all(log)
    assert numbers(events) == list(range(10_000))
    assert [event.sequence for event in events] == list(range(1, 10_001))
    assert log.dropped == 0


async def test_numbers_go_on_after_a_restart(directory: DataDirectory) -> None:
    for start in range(3):
        with Environment.open(directory) as environment:
            log = EventLog(environment, NODE)
            assert log.last_sequence == start * 5
            async with trio.open_nursery() as nursery:
                await nursery.start(log.run)
                for number in range(5):
                    append(log, start * 5 + number)
                nursery.cancel_scope.cancel()
            assert [event.sequence for event in read_all(log)] == list(range(1, start * 5 + 6))
            assert numbers(read_all(log)) == list(range(start * 5 + 5))


async def test_events_appended_before_it_runs_and_at_its_end_are_written(environment: Environment) -> None:
    log = EventLog(environment, NODE)
    append(log, 0)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        await log.wait_after(0)
        append(log, 1)
        nursery.cancel_scope.cancel()
    assert numbers(read_all(log)) == [0, 1]


async def test_ring_keeps_the_newest_and_its_index_follows(environment: Environment) -> None:
    log = EventLog(environment, NODE, keep=30)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        for number in range(1000):
            append(log, number, WEB if number % 2 else API, f"a-{number}")
            if number % 100 == 0:
                await log.wait_after(number)
        await log.wait_after(999)
        nursery.cancel_scope.cancel()
    assert numbers(read_all(log)) == list(range(970, 1000))
    assert numbers(log.read(None, 1000, service=WEB)) == list(range(971, 1000, 2))
    assert log.read(None, 10, allocation=AllocationId("a-3")) == []
    assert environment.read(lambda view: view.count(Database.EVENT_INDEX)) == 60


async def test_reads_choose_by_number_service_and_allocation(environment: Environment) -> None:
    log = EventLog(environment, NODE)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        for number in range(20):
            append(log, number, (WEB, API, None)[number % 3], f"a-{number % 2}" if number % 3 < 2 else None)
        await log.wait_after(19)
        nursery.cancel_scope.cancel()
    assert numbers(log.read(None, 3)) == [17, 18, 19]
    assert numbers(log.read(None, 100)) == list(range(20))
    assert numbers(log.read(0, 3)) == [0, 1, 2]
    assert numbers(log.read(18, 3)) == [18, 19]
    assert log.read(20, 3) == log.read(10**18, 3) == log.read(10**30, 3) == []
    assert numbers(log.read(None, 2, service=WEB)) == [15, 18]
    assert numbers(log.read(4, 2, service=WEB)) == [6, 9]
    assert numbers(log.read(None, 100, allocation=AllocationId("a-1"))) == [1, 3, 7, 9, 13, 15, 19]
    assert numbers(log.read(0, 2, service=API, allocation=AllocationId("a-9"))) == []
    for after, limit in ((None, 0), (None, 1001), (-1, 5)):
        with pytest.raises(InvalidRequestError):
            log.read(after, limit)


async def test_reads_go_back_by_pages(environment: Environment) -> None:
    log = EventLog(environment, NODE)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        for number in range(20):
            append(log, number, (WEB, API)[number % 2])
        await log.wait_after(19)
        nursery.cancel_scope.cancel()
    newest = log.read(None, 3)
    assert numbers(log.read(None, 3, before=newest[0].sequence)) == [14, 15, 16]
    assert numbers(log.read(None, 3, service=WEB, before=newest[0].sequence)) == [12, 14, 16]
    assert numbers(log.read(0, 100, before=4)) == [0, 1, 2]
    assert log.read(None, 3, before=1) == log.read(None, 3, before=0) == log.read(5, 3, before=3) == []
    assert numbers(log.read(None, 2, before=10**30)) == [18, 19]
    with pytest.raises(InvalidRequestError):
        log.read(None, 3, before=-1)


async def test_reader_that_waits_is_woken_by_an_event_on_disk(environment: Environment) -> None:
    log = EventLog(environment, NODE)
    seen: list[int] = []

    async def follow() -> None:
        while len(seen) < 50:
            after = seen[-1] + 1 if seen else 0
            await log.wait_after(after)
            seen.extend(numbers(log.read(after, 7)))

    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        async with trio.open_nursery() as readers:
            readers.start_soon(follow)
            for number in range(50):
                append(log, number)
                if number % 9 == 0:
                    await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert seen == list(range(50))


async def test_events_wait_while_the_store_is_full_and_the_loss_is_told(
    environment: Environment, autojump_clock: trio.testing.MockClock
) -> None:
    """The node lives on: `append` never fails, `run` goes on, the newest events are kept."""
    fill(environment)
    log = EventLog(environment, NODE)
    extra = 700
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        for number in range(BUFFER_MAX + extra):
            append(log, number, WEB)
        await trio.sleep(20)
        assert log.last_sequence == 0
        assert log.dropped == extra
        append(log, BUFFER_MAX + extra)
        environment.write_blocking(lambda view: view.delete_range(Database.LOCAL))
        await trio.sleep(20)
        while not (newest := log.read(None, 100)) or newest[-1].message != f"event {BUFFER_MAX + extra}":
            await log.wait_after(log.last_sequence)
        nursery.cancel_scope.cancel()
    assert log.dropped == extra + 1
    assert numbers(newest) == list(range(BUFFER_MAX + extra - 99, BUFFER_MAX + extra + 1))


async def test_cancelling_during_a_write_neither_loses_nor_doubles_events(directory: DataDirectory) -> None:
    release = threading.Event()
    with Environment.open(directory) as environment:
        log = EventLog(environment, NODE)
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run)
            with trio.move_on_after(0):
                await environment.write(lambda view: release.wait(10))
            append(log, 0)
            await trio.testing.wait_all_tasks_blocked()
            append(log, 1)
            nursery.cancel_scope.cancel()
            release.set()
        assert numbers(read_all(log)) == [0, 1]


async def test_first_event_after_a_loss_says_how_many_went(roomy: Environment, autojump_clock: object) -> None:
    log = EventLog(roomy, NODE)
    for number in range(BUFFER_MAX + 3):
        append(log, number)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        await log.wait_after(BUFFER_MAX)
        nursery.cancel_scope.cancel()
    first, second, *_ = read_all(log)
    assert (first.kind, first.message) == (EventKind.STORE_FULL, "3 events were lost while the store took no writes.")
    assert second.message == "event 3"


async def test_ring_never_takes_more_than_a_quarter_of_the_store(environment: Environment) -> None:
    log = EventLog(environment, NODE)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        for number in range(2000):
            log.append(EventKind.ALLOCATION_EXITED, "x" * 5000, at_ms=WallMs(number), service=WEB)
            if number % 50 == 0:
                await log.wait_after(number)
        await log.wait_after(1999)
        nursery.cancel_scope.cancel()
    assert log.dropped == 0
    used = environment.read(lambda view: view.used_bytes(Database.EVENTS, Database.EVENT_INDEX))
    assert used <= 2**18
    newest = log.read(None, 5)
    assert [event.at_ms for event in newest] == list(range(1995, 2000))
    assert len(newest[0].message) == 4000
    assert newest[0].message.endswith("…")


async def test_unreadable_event_is_left_out(environment: Environment) -> None:
    log = EventLog(environment, NODE)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        for number in range(3):
            append(log, number, WEB)
        await log.wait_after(2)
        environment.write_blocking(lambda view: view.put(Database.EVENTS, (2).to_bytes(8, "big"), b"\xc1 no"))
        nursery.cancel_scope.cancel()
    assert numbers(log.read(None, 10)) == numbers(log.read(0, 10, service=WEB)) == [0, 2]


def fill(environment: Environment) -> None:
    """Leave no room at all: what is written is kept until it does not fit."""
    size, number = 2**18, 0
    while size >= 1:
        try:
            environment.write_blocking(_putting(b"fill-%d" % number, b"x" * size))
            number += 1
        except StoreFullError:
            size //= 2


def _putting(key: bytes, value: bytes) -> Callable[[WriteView], None]:
    return lambda view: view.put(Database.LOCAL, key, value)
