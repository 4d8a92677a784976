from simulations.clock import DriftingClock
from simulations.world import World


def test_actions_run_in_order_of_time_and_then_of_asking() -> None:
    world, seen = World(1), list[str]()
    world.at(2.0, lambda: seen.append("late"))
    world.at(1.0, lambda: seen.append("first"))
    world.at(1.0, lambda: seen.append("second"))
    world.run(3.0)
    assert seen == ["first", "second", "late"]
    assert world.now == 3.0


def test_a_cancelled_timer_does_not_ring() -> None:
    world, seen = World(1), list[str]()
    timer = world.after(1.0, lambda: seen.append("no"))
    timer.cancel()
    world.run(2.0)
    assert seen == []


def test_an_action_in_the_past_happens_now() -> None:
    world, seen = World(1), list[float]()

    def ask_too_late() -> None:
        world.at(1.0, lambda: seen.append(world.now))

    world.at(5.0, ask_too_late)
    world.run(6.0)
    assert seen == [5.0]


def test_a_run_stops_after_the_action_that_ends_it() -> None:
    world, seen = World(1), list[int]()
    for number in range(5):
        world.at(number, lambda number=number: seen.append(number))  # type: ignore[misc]
    world.run(10.0, lambda: len(seen) == 2)
    assert (seen, world.now) == ([0, 1], 1.0)


def test_streams_of_chance_do_not_disturb_each_other() -> None:
    one, other = World(7), World(7)
    one.chance("network").random()
    assert one.chance("disk").random() == other.chance("disk").random()
    assert one.chance("disk").random() != one.chance("network").random()
    assert World(8).chance("disk").random() != other.chance("disk").random()


def test_the_digest_is_the_same_with_and_without_a_trace() -> None:
    lines: list[str] = []
    quiet, loud = World(1), World(1, lines.append)
    for world in (quiet, loud):
        world.note("a -> b", b"payload", lambda: "in words")
    assert quiet.digest() == loud.digest()
    assert lines == ["0.000000 a -> b in words"]
    loud.note("a -> b", b"another")
    assert quiet.digest() != loud.digest()


def test_a_drifting_clock_goes_its_own_way_and_back() -> None:
    clock = DriftingClock()
    clock.set(10.0, rate=1.1, start=500.0)
    assert clock.local(20.0) == 511.0
    assert clock.world(511.0) == 20.0
    clock.set(20.0, rate=0.5)
    assert clock.local(22.0) == 512.0
