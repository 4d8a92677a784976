"""The driver's one timer, on trio's virtual clock."""

import math
import socket
from collections.abc import Sequence

import trio
import trio.testing

from gossip.driver import GossipDriver, StreamInput, open_sockets
from gossip.events import DatagramReceived, StallNoticed, Tick
from orca.model.units import Instant, WallMs


class VirtualClock:
    def now(self) -> Instant:
        return Instant(trio.current_time())

    def wall(self) -> WallMs:
        return WallMs(0)


class Alarm:
    """A machine whose events are times: each sets the deadline."""

    def __init__(self, deadline: float) -> None:
        self.due = Instant(deadline)
        self.ticks: list[float] = []
        self.stalls = 0

    def step(self, event: object, now: Instant) -> Sequence[object]:
        match event:
            case Tick():
                self.ticks.append(now)
                self.due = Instant(math.inf)
            case StallNoticed():
                self.stalls += 1
            case float():
                self.due = Instant(event)
            case DatagramReceived():
                self.due = Instant(math.inf)
            case _:
                raise AssertionError(f"{event} was not sent")
        return []

    def deadline(self) -> Instant:
        return self.due

    def stream_input(self) -> StreamInput:
        raise AssertionError("nobody connects")


async def test_the_timer_follows_the_deadline_to_both_sides(autojump_clock: trio.testing.MockClock) -> None:
    began_at = trio.current_time()
    alarm = Alarm(began_at + 10)
    driver = GossipDriver(alarm, VirtualClock(), publish=lambda _: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run, await open_sockets("127.0.0.1", 0))
        driver.tell(began_at + 2.0)
        await trio.sleep(3)
        driver.tell(began_at + 5.0)
        driver.tell(began_at + 7.0)
        await trio.sleep(97)
        driver.tell(began_at - 1.0)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert [at - began_at for at in alarm.ticks] == [2.0, 7.0, 100.0]
    assert alarm.stalls == 0, "a deadline that had passed when it was set is nobody's delay"


async def test_a_loop_that_stood_still_is_noticed_whatever_is_read_first(mock_clock: trio.testing.MockClock) -> None:
    """In each round either the timer's task or the reader's has its turn first, by chance."""
    for _ in range(12):
        alarm = Alarm(trio.current_time() + 1)
        driver, sockets = (
            GossipDriver(alarm, VirtualClock(), publish=lambda _: None),
            await open_sockets("127.0.0.1", 0),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(driver.run, sockets)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(b"what makes the deadline void", sockets.address)
                mock_clock.jump(3)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        assert driver.datagrams_received == 1
        assert alarm.stalls == 1
