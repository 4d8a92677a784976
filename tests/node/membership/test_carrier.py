"""Frames to other nodes: in order, bounded, and tried again."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock, memory_stream_pair

from node.membership.carrier import FRAMES_MAX, FactCarrier
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from orca.errors import NodeUnreachableError
from orca.model.ids import NodeId

A = NodeId("n-a")


class Peer:
    """A peer that can be away; `far` is its end of the connection."""

    def __init__(self) -> None:
        self.is_away = False
        self.attempts = 0
        self.far: FrameStream | None = None

    @asynccontextmanager
    async def connect(self, node: NodeId, purpose: Purpose) -> AsyncIterator[FrameStream]:
        assert (node, purpose) == (A, Purpose.FACTS)
        self.attempts += 1
        if self.is_away:
            raise NodeUnreachableError("nobody is there")
        near, far = memory_stream_pair()
        self.far = FrameStream(far)
        yield FrameStream(near)

    async def take(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            await trio.testing.wait_all_tasks_blocked()
            assert self.far is not None
            found += await self.far.receive_some()
        return found


async def test_frames_arrive_in_order_over_one_connection(autojump_clock: MockClock) -> None:
    del autojump_clock
    peer = Peer()
    carrier = FactCarrier(peer.connect, random.Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(carrier.run)
        carrier.send(A, b"one")
        carrier.send(A, b"")
        assert await peer.take(2) == [b"one", b""]
        carrier.send(A, b"two")
        assert await peer.take(1) == [b"two"]
        assert peer.attempts == 1
        nursery.cancel_scope.cancel()


async def test_what_waits_is_bounded_and_the_oldest_goes_first(autojump_clock: MockClock) -> None:
    del autojump_clock
    peer = Peer()
    carrier = FactCarrier(peer.connect, random.Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(carrier.run)
        frames = [str(number).encode() for number in range(FRAMES_MAX + 10)]
        for frame in frames:
            carrier.send(A, frame)
        assert await peer.take(FRAMES_MAX) == frames[10:]
        nursery.cancel_scope.cancel()


async def test_a_peer_that_is_away_is_tried_ever_more_rarely_and_gets_what_is_new_when_it_is_back(
    autojump_clock: MockClock,
) -> None:
    del autojump_clock
    peer = Peer()
    peer.is_away = True
    carrier = FactCarrier(peer.connect, random.Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(carrier.run)
        for _ in range(60):
            carrier.send(A, b"stale")
            await trio.sleep(1)
        assert 15 <= peer.attempts <= 30, "about each 3 s in the end"
        peer.is_away = False
        await trio.sleep(5)
        carrier.send(A, b"new")
        await trio.testing.wait_all_tasks_blocked()
        while b"new" not in await peer.take(1):
            pass
        nursery.cancel_scope.cancel()


async def test_nothing_is_carried_before_it_runs() -> None:
    peer = Peer()
    FactCarrier(peer.connect, random.Random(1)).send(A, b"early")
    await trio.testing.wait_all_tasks_blocked()
    assert peer.attempts == 0
