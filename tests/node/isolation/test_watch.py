"""What a node that is cut off has to stop, and what it may start."""

from node.isolation.watch import IsolationWatch, with_isolation
from node.reconciler.events import Permit
from orca.model.ids import AllocationId, LeaseEpoch

A, B = AllocationId("a"), AllocationId("b")
COPIES = {A: 10.0, B: 60.0}


def over(permits: dict[AllocationId, Permit]) -> list[AllocationId]:
    return [name for name, one in permits.items() if one.is_over]


def test_each_copy_stops_when_the_group_was_not_heard_for_as_long_as_its_service_says() -> None:
    watch = IsolationWatch()
    assert over(watch.permits(COPIES, 9.9, has_heard=True)) == []
    permits = watch.permits(COPIES, 10.0, has_heard=True)
    assert over(permits) == [A]
    assert permits[A].why == "its node has not heard from the group for 10s"
    assert over(watch.permits(COPIES, 60.0, has_heard=True)) == [A, B]


def test_what_was_stopped_does_not_start_again_when_the_group_is_heard() -> None:
    watch = IsolationWatch()
    watch.permits(COPIES, 30.0, has_heard=True)
    assert over(watch.permits(COPIES, 0.0, has_heard=True)) == [A]
    assert over(watch.permits({B: 60.0}, 0.0, has_heard=True)) == []
    assert over(watch.permits(COPIES, 0.0, has_heard=True)) == [], "what is not placed here any more is forgotten"


def test_nothing_starts_before_the_group_was_heard_once() -> None:
    watch = IsolationWatch()
    assert all(one.must_wait and not one.is_over for one in watch.permits(COPIES, 1.0, has_heard=False).values())
    assert watch.permits(COPIES, 0.0, has_heard=True) == {A: Permit(), B: Permit()}


def test_a_singleton_that_is_over_by_either_is_over() -> None:
    lease, lost = Permit(fence=LeaseEpoch(7)), Permit(is_over=True, why="lost")
    cut, waiting = Permit(is_over=True, why="cut off"), Permit(must_wait=True)
    assert with_isolation({A: lease}, {A: cut})[A] is cut
    assert with_isolation({A: lost}, {A: waiting})[A] is lost
    assert with_isolation({A: lease}, {A: waiting})[A] is lease
    assert with_isolation({A: lease}, {B: waiting}) == {A: lease, B: waiting}
