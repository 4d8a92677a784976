"""A copy of a singleton runs under its lease, and under no other."""

import msgspec

from node.reconciler.events import Action, Assignment, HealthVerdict, Permit
from node.runtime.base import InstanceState
from orca.model.allocation import DesiredStatus, Phase
from orca.model.ids import AllocationId, LeaseEpoch
from orca.model.spec import SingletonSpec
from tests.node.reconciler.model_world import Thing, World, make_assignment

A = AllocationId("a")
SEVEN, NINE = LeaseEpoch(7), LeaseEpoch(9)


def singleton(permit: Permit, desired: DesiredStatus = DesiredStatus.RUNNING) -> Assignment:
    plain = make_assignment("a", desired=desired)
    spec = msgspec.structs.replace(plain.spec, singleton=SingletonSpec(lease_s=15.0), stop_timeout_s=30.0)
    return msgspec.structs.replace(plain, spec=spec, permit=permit)


def running() -> World:
    world = World()
    world.assign(singleton(Permit(fence=SEVEN)))
    world.settle()
    world.verdict(A, HealthVerdict.READY)
    assert world.things[A].fence == SEVEN
    return world


def test_it_is_prepared_without_a_lease_and_launched_only_under_one() -> None:
    world = World()
    world.assign(singleton(Permit(why="it waits for its lease: b has it")))
    world.settle()
    assert A not in world.things
    assert (world.statuses[A].phase, world.statuses[A].reason) == (Phase.PENDING, "it waits for its lease: b has it")
    world.assign(singleton(Permit(fence=SEVEN)))
    world.settle()
    assert world.things[A].state is InstanceState.RUNNING
    assert world.statuses[A].phase is Phase.RUNNING


def test_one_that_lost_its_lease_is_stopped_without_a_drain_and_in_the_time_that_is_left() -> None:
    world = running()
    world.assign(singleton(Permit(is_over=True, why="its lease could not be renewed")))
    order = world.in_flight[A]
    assert (order.action, order.timeout_s) == (Action.STOP, 5.0), "a third of the lease, not its own 30 s"
    world.settle()
    assert A not in world.things
    assert (world.statuses[A].phase, world.statuses[A].reason) == (Phase.STOPPED, "its lease could not be renewed")


def test_a_drain_that_is_on_its_way_is_cut_short_when_the_lease_is_lost() -> None:
    world = running()
    world.assign(singleton(Permit(fence=SEVEN), DesiredStatus.STOPPED))
    assert world.in_flight[A].action is Action.DRAIN
    world.assign(singleton(Permit(is_over=True), DesiredStatus.STOPPED))
    assert A in world.cancelled
    world.end_action(A)
    assert (world.in_flight[A].action, world.in_flight[A].timeout_s) == (Action.STOP, 5.0)


def test_a_launch_that_ends_after_the_lease_was_lost_is_stopped() -> None:
    world = World()
    world.come_up()
    world.answer_list()
    world.assign(singleton(Permit(fence=SEVEN)))
    world.end_action(A)
    assert world.in_flight[A].action is Action.LAUNCH
    world.assign(singleton(Permit(is_over=True)))
    world.end_action(A)
    assert world.in_flight[A].action is Action.STOP
    world.settle()
    assert A not in world.things


def test_one_that_dies_runs_again_under_the_same_lease() -> None:
    world = running()
    world.exit(A, 1)
    world.settle()
    assert world.things[A] == Thing(InstanceState.RUNNING, None, 2, SEVEN)


def test_one_of_an_earlier_agent_is_left_alone_until_its_lease_is_known_and_then_adopted() -> None:
    world = running()
    world.wanted[A] = singleton(Permit(may_stay=True))
    world.restart()
    world.settle()
    assert world.things[A].state is InstanceState.RUNNING
    assert world.statuses[A].phase is not Phase.RUNNING, "nobody vouches for it yet"
    world.assign(singleton(Permit(fence=SEVEN)))
    world.settle()
    assert world.statuses[A].phase is Phase.RUNNING
    assert (world.things[A].run, world.things[A].fence) == (1, SEVEN), "it was kept"


def test_one_of_an_earlier_agent_that_nobody_vouches_for_is_stopped() -> None:
    world = running()
    world.wanted[A] = singleton(Permit())
    world.restart()
    world.settle()
    assert world.things[A].state is InstanceState.EXITED
    assert A in world.statuses


def test_one_that_was_made_under_another_lease_is_made_anew() -> None:
    world = running()
    world.wanted[A] = singleton(Permit(may_stay=True))
    world.restart()
    world.settle()
    world.assign(singleton(Permit(fence=NINE)))
    world.settle()
    while world.things[A].state is not InstanceState.RUNNING:
        world.tick()
        world.settle()
    assert world.things[A].fence == NINE
    assert world.statuses[A].phase is Phase.RUNNING


def test_a_copy_that_may_not_run_any_more_and_has_no_lease_is_drained_first() -> None:
    world = World()
    world.assign(make_assignment("a"))
    world.settle()
    world.verdict(A, HealthVerdict.READY)
    world.assign(msgspec.structs.replace(make_assignment("a"), permit=Permit(is_over=True, why="cut off")))
    assert world.in_flight[A].action is Action.DRAIN
    world.settle()
    assert (world.statuses[A].phase, world.statuses[A].reason) == (Phase.STOPPED, "cut off")


def test_a_copy_that_must_wait_is_prepared_and_launched_later() -> None:
    world = World()
    waiting = Permit(must_wait=True, why="the group was not heard")
    world.assign(msgspec.structs.replace(make_assignment("a"), permit=waiting))
    world.settle()
    assert (A in world.things, world.statuses[A].reason) == (False, "the group was not heard")
    world.assign(make_assignment("a"))
    world.settle()
    assert world.statuses[A].phase is Phase.RUNNING
