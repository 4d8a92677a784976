"""Leases of singletons: never two holders, whatever the clocks and the network do; and one in the end."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from node.singletons.keeper import KILL_MARGIN_S, RENEWALS, STOP_MARGIN_S
from tests.node.singletons.world import LEASE, LEASE_S, Machine, World


def settled(seed: int = 1) -> tuple[World, Machine]:
    """Three nodes, and a copy that runs on the first."""
    world = World(random.Random(seed))
    holder = world.machines[0]
    world.place(holder)
    world.advance(20.0)
    assert holder.running is not None
    return world, holder


def test_a_lease_is_kept_for_as_long_as_it_is_renewed() -> None:
    world, holder = settled()
    fence = holder.running and holder.running.fence
    world.advance(300.0)
    assert holder.running is not None
    assert holder.running.fence == fence, "the same lease all the time"
    assert len(world.fences) == 1


def test_a_node_that_is_cut_off_stops_its_copy_before_the_next_one_starts() -> None:
    world, holder = settled()
    world.lead(world.machines[1])
    successor = world.machines[2]
    holder.is_cut = True
    world.place(successor)
    cut_at = world.now
    while holder.runs():
        world.advance(0.1)
        assert world.now < cut_at + LEASE_S, "it is stopped before its lease ends"
    assert not successor.runs()
    while not successor.runs():
        world.advance(0.1)
        assert world.now < cut_at + 3 * LEASE_S, "the successor starts"
    assert world.fences == sorted(set(world.fences))
    assert len(world.fences) == 2


def test_a_copy_that_is_stopped_gives_its_lease_back_at_once() -> None:
    world, holder = settled()
    assert holder.running is not None
    successor = world.machines[1]
    holder.placed[holder.running.allocation] = False
    world.place(successor)
    while holder.runs():
        world.advance(0.1)
    stopped_at = world.now
    while not successor.runs():
        world.advance(0.1)
        assert world.now < stopped_at + LEASE_S, "nobody waits for the lease to run out"


def test_a_daemon_that_comes_back_in_time_goes_on_with_the_same_lease() -> None:
    world, holder = settled()
    copy = holder.running
    world.crash(holder)
    world.advance(4.0)
    assert holder.running is copy, "nothing is done to it while the daemon is away"
    world.restart(holder)
    world.advance(60.0)
    assert holder.running is copy
    assert len(world.fences) == 1


def test_the_copy_of_a_daemon_that_stays_away_is_dead_before_its_lease_ends() -> None:
    world, holder = settled()
    world.lead(world.machines[1])
    world.crash(holder)
    crashed_at = world.now
    while holder.runs():
        world.advance(0.1)
        assert world.now < crashed_at + LEASE_S
    assert LEASE in world.state.leases, "dead before anybody else could have it"


def test_there_is_time_to_stop_in_even_when_a_renewal_fails() -> None:
    assert LEASE_S * 0.95 - LEASE_S / 3 - STOP_MARGIN_S > 2 * LEASE_S / 5, "two renewals are tried before it stops"
    assert KILL_MARGIN_S < STOP_MARGIN_S


def test_a_lease_that_the_leader_does_not_know_any_more_is_lost_at_once() -> None:
    world, holder = settled()
    assert holder.running is not None
    copy = holder.running.allocation
    world.state.leases.clear()
    world.advance(LEASE_S / RENEWALS + 1.0)
    assert copy not in holder.placed or holder.keeper.permit(copy).is_over


def test_what_waits_for_another_copys_lease_says_so_and_asks_when_it_is_free() -> None:
    world, holder = settled()
    assert holder.running is not None
    waiting = world.place(world.machines[1])
    world.advance(1.0)
    permit = world.machines[1].keeper.permit(waiting)
    assert permit.fence is None
    assert f"{holder.running.allocation} has it" in permit.why


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_there_are_never_two_and_in_the_end_one(seed: int) -> None:
    """Placements that contradict each other, cuts, crashes, changes of leader: `World.advance` looks all the time."""
    rng = random.Random(seed)
    world = World(rng)
    world.is_rough = True
    for _ in range(40):
        machine = rng.choice(world.machines)
        match rng.randrange(8):
            case 0:
                world.place(machine)
            case 1:
                for name in machine.placed:
                    machine.placed[name] = rng.random() < 0.5
            case 2:
                machine.is_cut = True
            case 3:
                machine.is_cut = False
            case 4:
                world.crash(machine)
            case 5:
                world.restart(machine)
            case 6:
                world.lead(machine)
            case _:
                pass
        world.advance(rng.choice((0.1, 1.0, 4.0, 20.0)))
    world.is_rough = False
    for machine in world.machines:
        world.restart(machine)
        machine.is_cut = False
        for name in machine.placed:
            machine.placed[name] = False
    world.advance(40.0)
    last = world.machines[rng.randrange(3)]
    world.place(last)
    world.advance(30.0)
    assert last.running is not None, "when all is well again it runs"
