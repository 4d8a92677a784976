"""Bells: who waits is woken, and a ring is not missed by who was looking meanwhile."""

import math

import trio
import trio.testing

from node.bell import Bell


async def test_everybody_who_waits_is_woken(autojump_clock: trio.testing.MockClock) -> None:
    bell, woken = Bell(), []

    async def wait(name: str) -> None:
        await bell.wait(bell.rings)
        woken.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "one")
        nursery.start_soon(wait, "other")
        await trio.testing.wait_all_tasks_blocked()
        assert not woken
        bell.ring()
    assert sorted(woken) == ["one", "other"]


async def test_a_ring_while_somebody_looks_is_not_missed(autojump_clock: trio.testing.MockClock) -> None:
    bell = Bell()
    heard = bell.rings
    bell.ring()
    with trio.fail_after(1):
        await bell.wait(heard)


async def test_who_waits_for_a_while_goes_on_without_a_ring(autojump_clock: trio.testing.MockClock) -> None:
    bell, began_at = Bell(), trio.current_time()
    await bell.wait(bell.rings, 7.0)
    await bell.wait(bell.rings, -math.inf)
    assert trio.current_time() - began_at == 7.0
