"""What the scheduler does, one rule each."""

from typing import Any

import msgspec
import pytest

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.fleet import fleet_of
from consensus.scheduler.plan import make_plan, preview
from consensus.scheduler.rollout import HOPELESS_RESTARTS
from orca.model.allocation import DesiredStatus, Phase
from orca.model.spec import (
    DependencyCondition,
    MountSpec,
    PortSpec,
    Resources,
    RestartSpec,
    UpdateOrder,
)
from orca.model.units import MilliCpu, WallMs
from orca.model.view import RolloutState
from tests.consensus.intent import CountingIds, make_spec
from tests.consensus.scheduler.fake_world import World, make_node
from tests.consensus.scheduler.rollouts import NEVER, PROBED, depends, rolled_out, wanted


def test_missing_copies_are_placed_spread_over_the_nodes() -> None:
    world = World()
    world.put(make_spec(replicas=4))
    world.think_all()
    assert [one.slot for one in world.copies()] == [0, 1, 2, 3]
    assert sorted(one.node for one in world.copies()) == ["n-a", "n-a", "n-b", "n-b"]


def test_an_old_copy_goes_only_when_a_new_one_counts_in_its_place() -> None:
    world = rolled_out(replicas=2)
    world.put(make_spec(image="web:2", replicas=2, **PROBED))
    world.think_all()
    assert len(wanted(world)) == 3, "one more than wanted, and no old one less"
    (new,) = [one for one in world.copies() if one.revision == 2]
    world.report(new.id, Phase.RUNNING)
    world.think_all()
    assert len(wanted(world)) == 3, "it runs, but serves nobody yet"
    world.make_ready(new.id)
    world.think_all()
    assert len([one for one in world.copies() if one.desired is DesiredStatus.STOPPED]) == 1
    world.settle()
    assert [slot for slot, _ in wanted(world)] == [0, 1]
    assert all(one.revision == 2 for one in world.copies())


def test_a_copy_counts_once_it_was_ready_for_long_enough() -> None:
    world = rolled_out(replicas=1)
    world.put(make_spec(image="web:2", deploy={"min_healthy_time_s": 0.0015}, **PROBED))
    world.think_all()
    (new,) = [one for one in world.copies() if one.revision == 2]
    world.make_ready(new.id)
    world.think_all()
    assert len(wanted(world)) == 2
    assert world.plan is not None
    assert world.plan.wake_at_ms == world.at_ms + 2, "rounded up, so that it counts when it is looked at"
    world.at_ms += 2
    world.think_all()
    assert len(wanted(world)) == 1


def test_a_copy_that_nobody_asks_how_it_is_counts_after_a_second() -> None:
    world = World()
    world.put(make_spec())
    world.think_all()
    world.make_ready(*world.state.allocations)
    world.think_all()
    assert world.record().rollout.state is RolloutState.PROGRESSING
    world.at_ms += 1000
    world.think_all()
    assert world.record().rollout.state is RolloutState.COMPLETED


def test_a_command_that_ends_at_once_fails_its_rollout_although_it_was_ready_for_a_moment() -> None:
    world = World()
    world.put(make_spec())
    world.think_all()
    (copy,) = world.state.allocations
    for restarts in range(1, HOPELESS_RESTARTS + 1):
        world.make_ready(copy)
        world.think_all()
        world.at_ms += 200
        world.report(copy, Phase.BACKOFF, restarts=restarts, reason="exit code 127")
        world.think_all()
    assert world.record().rollout.state is RolloutState.FAILED
    assert world.record().rollout.message == "web.1 does not stay up: exit code 127"


def test_a_service_that_served_for_long_is_not_called_hopeless_after_some_restarts() -> None:
    world = rolled_out()
    (copy,) = world.state.allocations
    world.at_ms += 3_600_000
    world.report(copy, Phase.BACKOFF, restarts=50)
    world.scale("default/web", 2)
    world.think_all()
    assert world.record().rollout.state is RolloutState.PROGRESSING


def test_a_failed_rollout_leaves_what_works_and_moves_no_more() -> None:
    world = rolled_out(replicas=2)
    old = dict(world.state.allocations)
    world.bad_images.add("web:2")
    world.put(make_spec(image="web:2", replicas=2, **PROBED))
    world.settle()
    assert world.record().rollout.state is RolloutState.FAILED
    assert world.serving("default/web") == 2
    assert all(world.state.allocations[one].desired is DesiredStatus.RUNNING for one in old)
    before = world.image()
    world.at_ms += 10_000_000
    world.think_all()
    assert world.image() == before


def test_a_copy_that_recovers_after_its_rollout_failed_does_not_push_out_what_works() -> None:
    world = rolled_out(replicas=2)
    world.bad_images.add("web:2")
    world.put(make_spec(image="web:2", replicas=2, **PROBED))
    world.settle()
    (late,) = [one.id for one in world.copies() if one.revision == 2]
    world.make_ready(late)
    world.think_all()
    assert len(wanted(world)) == 3
    assert world.record().rollout.state is RolloutState.FAILED


def test_a_good_deploy_after_a_failed_one_leaves_exactly_its_own_copies() -> None:
    world = rolled_out(replicas=2)
    world.bad_images.add("web:2")
    world.put(make_spec(image="web:2", replicas=2, **PROBED))
    world.settle()
    world.put(make_spec(image="web:3", replicas=2, **PROBED))
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED
    assert [(one.slot, one.revision) for one in world.copies()] == [(0, 3), (1, 3)]


def test_a_rollback_takes_the_old_copies_over_as_they_are() -> None:
    world = rolled_out(replicas=2)
    old = set(world.state.allocations)
    world.bad_images.add("web:2")
    world.put(make_spec(image="web:2", replicas=2, **PROBED))
    world.settle()
    world.roll_back("default/web", 1)
    world.settle()
    assert set(world.state.allocations) == old
    assert world.record().rollout.state is RolloutState.COMPLETED


@pytest.mark.parametrize("forgotten", ["unknown", "pending"])
def test_copies_of_which_nothing_is_known_yet_are_not_taken_for_useless_ones(forgotten: str) -> None:
    """After a restart in the middle of a rollout the leader knows of no copy how it is."""
    world = rolled_out(replicas=3)
    world.put(make_spec(image="web:2", replicas=3, **PROBED))
    world.think_all()
    ids = list(world.statuses)
    world.statuses.clear()
    if forgotten == "pending":
        for one in ids:
            world.report(one, Phase.PENDING)
    world.think_all()
    assert len([one for one in world.copies() if one.revision == 1 and one.desired is DesiredStatus.RUNNING]) == 3


def test_where_two_cannot_run_side_by_side_the_old_one_stops_first() -> None:
    for fields in ({"ports": (PortSpec(port=80, host_port=80),)}, {"mounts": (MountSpec(target="/d", source="d"),)}):
        world = rolled_out(**fields)
        world.put(make_spec(image="web:2", **{**PROBED, **fields}))
        world.think_all()
        assert not wanted(world), "nothing new before the old one is gone"
        (old,) = world.copies()
        world.report(old.id, Phase.STOPPED)
        world.think_all()
        assert [one.revision for one in world.copies()] == [2]


def test_stop_first_takes_one_after_the_other() -> None:
    world = rolled_out(replicas=3, deploy={"order": UpdateOrder.STOP_FIRST})
    world.put(make_spec(image="web:2", replicas=3, deploy={"order": UpdateOrder.STOP_FIRST}, **PROBED))
    least = 3
    for _ in range(40):
        world.think_all()
        least = min(least, world.serving("default/web"))
        if not world.obey():
            break
    assert least == 2
    assert all(one.revision == 2 for one in world.copies())


def test_without_surge_an_old_copy_makes_room() -> None:
    deploy = {"max_surge": 0, "max_unavailable": 1}
    world = rolled_out(replicas=3, deploy=deploy)
    world.put(make_spec(image="web:2", replicas=3, deploy=deploy, **PROBED))
    world.think_all()
    assert len(wanted(world)) == 3
    world.settle()
    assert [one.revision for one in world.copies()] == [2, 2, 2]


def test_scaling_down_keeps_the_copies_that_serve() -> None:
    world = rolled_out(replicas=3)
    first = world.copies()[0].id
    world.report(first, Phase.BACKOFF, restarts=1)
    world.scale("default/web", 2)
    world.think_all()
    assert [slot for slot, _ in wanted(world)] == [1, 2]
    world.settle()
    world.scale("default/web", 3)
    world.think_all()
    assert [slot for slot, _ in wanted(world)] == [0, 1, 2]


def test_a_stopped_service_has_no_copies_and_a_started_one_has_them_again() -> None:
    world = rolled_out(replicas=2)
    world.stop("default/web")
    world.settle()
    assert not world.state.allocations
    assert world.record().rollout.state is RolloutState.COMPLETED
    world.start("default/web")
    world.settle()
    assert len(wanted(world)) == 2


def test_copies_of_a_removed_service_are_forgotten_when_their_nodes_say_that_they_ended() -> None:
    world = rolled_out(replicas=2)
    world.remove("default/web")
    world.think_all()
    assert len(world.state.allocations) == 2
    world.settle()
    assert not world.state.allocations
    assert not world.state.removed


def test_a_deploy_deadline_that_passes_fails_the_rollout_and_says_who_is_late() -> None:
    world = World()
    world.put(make_spec(replicas=2, deploy={"deadline_s": 10}, **PROBED))
    world.think_all()
    first, second = world.copies()
    world.make_ready(first.id)
    world.report(second.id, Phase.RUNNING)
    world.at_ms += 5000
    world.think_all()
    assert world.plan is not None
    assert world.plan.wake_at_ms == world.at_ms + 10_000, "progress moves the deadline on"
    world.at_ms += 10_000
    world.think_all()
    assert world.record().rollout.state is RolloutState.FAILED
    assert world.record().rollout.message == "not healthy in time: web.2 is running"


def test_time_in_which_nobody_led_is_not_held_against_a_rollout() -> None:
    world = World()
    world.put(make_spec(deploy={"deadline_s": 10}, **PROBED))
    world.think_all()
    world.at_ms += 3_600_000
    since = WallMs(world.at_ms - 4000)
    plan = make_plan(world.state, world.beliefs, WallMs(world.at_ms), world.ids, leads_since_ms=since)
    assert plan.command is None
    assert plan.wake_at_ms == world.at_ms + 6000


def test_the_plan_that_gives_a_rollout_up_moves_nothing_for_it() -> None:
    world = rolled_out(replicas=2)
    world.put(make_spec(image="web:2", replicas=2, deploy={"deadline_s": 10}, **PROBED))
    world.at_ms += 10_000
    world.think_all()
    assert world.record().rollout.state is RolloutState.FAILED
    assert [one.revision for one in world.copies()] == [1, 1]


def test_a_job_that_becomes_a_service_gets_a_copy_that_runs() -> None:
    world = World()
    world.put(make_spec(restart=NEVER))
    world.settle()
    assert [world.phase(one) for one in world.copies()] == [Phase.COMPLETED]
    world.put(make_spec())
    world.settle()
    assert world.serving("default/web") == 1
    assert len(world.copies()) == 1


def test_a_pull_extends_the_deadline() -> None:
    world = World()
    world.put(make_spec(deploy={"deadline_s": 10}, **PROBED))
    world.think_all()
    (copy,) = world.state.allocations
    world.report(copy, Phase.PREPARING)
    for _ in range(5):
        world.at_ms += 10_000
        world.think_all()
        assert world.record().rollout.state is RolloutState.PROGRESSING
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED


def test_a_copy_that_is_ready_at_the_deadline_gets_the_time_to_prove_it() -> None:
    world = World()
    world.put(make_spec(deploy={"deadline_s": 10, "min_healthy_time_s": 8}, **PROBED))
    world.think_all()
    world.at_ms += 6000
    (copy,) = world.state.allocations
    world.make_ready(copy)
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED
    assert world.at_ms == 1_000_000 + 14_000


@pytest.mark.parametrize("condition", DependencyCondition)
def test_a_first_copy_waits_for_what_it_depends_on(condition: DependencyCondition) -> None:
    world = World()
    db = make_spec("db", restart=NEVER if condition is DependencyCondition.COMPLETED else RestartSpec(), **PROBED)
    world.put(make_spec("web", **depends(condition), **PROBED), db)
    world.think_all()
    assert not wanted(world)
    assert world.plan is not None
    assert world.plan.blocked == {"default/web": f"waits for db to be {condition.value}"}
    (copy,) = world.copies("default/db")
    world.report(copy.id, Phase.RUNNING)
    world.think_all()
    assert bool(wanted(world)) == (condition is DependencyCondition.STARTED)
    world.make_ready(copy.id)
    world.think_all()
    assert bool(wanted(world)) == (condition is not DependencyCondition.COMPLETED)
    world.report(copy.id, Phase.COMPLETED)
    world.think_all()
    assert wanted(world)


def test_a_dependency_that_is_still_on_its_way_moves_the_deadline_and_a_failed_one_does_not() -> None:
    world = World()
    slow = {"deploy": {"deadline_s": 10}, **PROBED}
    world.put(make_spec("web", **depends(DependencyCondition.HEALTHY), **slow), make_spec("db", **slow))
    world.think_all()
    (copy,) = world.copies("default/db")
    world.report(copy.id, Phase.PREPARING)
    for _ in range(3):
        world.at_ms += 10_000
        world.think_all()
        assert world.record().rollout.state is RolloutState.PROGRESSING
    world.report(copy.id, Phase.BACKOFF, restarts=HOPELESS_RESTARTS, reason="no")
    world.think_all()
    world.at_ms += 10_000
    world.think_all()
    assert world.record("default/db").rollout.state is RolloutState.FAILED
    assert world.record().rollout.state is RolloutState.FAILED
    assert world.record().rollout.message == "waits for db to be healthy"


def test_a_serving_copy_is_not_stopped_for_one_that_must_wait_for_its_dependency() -> None:
    port = {"ports": (PortSpec(port=80, host_port=80),), **PROBED}
    world = rolled_out(**port)
    world.put(make_spec(image="web:2", **port, **depends(DependencyCondition.HEALTHY)))
    world.think_all()
    assert world.serving("default/web") == 1
    world.put(make_spec("db", **PROBED))
    world.settle()
    assert [one.revision for one in world.copies()] == [2]


def test_a_job_is_done_when_it_has_ended_well_and_takes_the_time_it_takes() -> None:
    world = World()
    world.put(make_spec(restart=NEVER, deploy={"deadline_s": 10}))
    world.think_all()
    (copy,) = world.state.allocations
    world.make_ready(copy)
    for _ in range(5):
        world.at_ms += 10_000
        world.think_all()
        assert world.record().rollout.state is RolloutState.PROGRESSING
    world.report(copy, Phase.COMPLETED)
    world.think_all()
    assert world.record().rollout.state is RolloutState.COMPLETED
    assert not world.think()


def test_a_job_that_fails_fails_its_rollout_also_when_it_ran_well_at_first() -> None:
    world = World()
    world.put(make_spec(restart=NEVER, ports=(PortSpec(port=80),), **PROBED))
    world.think_all()
    (copy,) = world.state.allocations
    world.make_ready(copy)
    world.think_all()
    assert world.record().rollout.state is RolloutState.COMPLETED
    world.report(copy, Phase.FAILED, reason="exit code 3")
    world.think_all()
    assert world.record().rollout.state is RolloutState.FAILED
    assert world.record().rollout.message == "web.1 failed: exit code 3"
    world.put(make_spec(restart=NEVER, ports=(PortSpec(port=80),), **PROBED))
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED, "a deploy of the same tries again"


def test_a_plan_is_cut_to_its_size_and_the_rest_follows() -> None:
    world = World(nodes=(make_node("a"),))
    world.put(*(make_spec(f"s{number}", replicas=3) for number in range(4)))
    sizes = []
    while True:
        plan = make_plan(world.state, world.beliefs, WallMs(world.at_ms), world.ids, changes_max=5)
        if plan.command is None or not plan.command.placements:
            break
        sizes.append(len(plan.command.placements))
        world.apply(plan.command)
    assert sizes == [5, 5, 2]


def test_a_preview_says_where_copies_would_go_and_why_the_rest_would_not() -> None:
    world = World(nodes=(make_node("a", cpu=1000), make_node("b", cpu=500)))
    spec = make_spec(resources=Resources(cpu_milli=MilliCpu(500)))
    found = preview(world.state, world.fleet(), spec, 5)
    assert [(one.node, one.copies) for one in found] == [("n-a", 2), ("n-b", 1), (None, 2)]
    assert "cpu left" in found[-1].reason
    assert preview(world.state, fleet_of(world.state, Beliefs()), spec, 1)[0].reason == "no node is alive"


def test_a_thousand_services_are_planned_without_looking_at_all_copies_for_each() -> None:
    """Counts work instead of time: the copies are passed over a fixed number of times a plan."""
    world = World(nodes=(make_node("a"),))
    world.put(*(make_spec(f"s{number}", replicas=2) for number in range(300)))
    world.think_all()

    class Counted(dict):  # type: ignore[type-arg]
        passes = 0

        def values(self) -> Any:
            self.passes += 1
            return super().values()

    counted = Counted(world.state.allocations)
    state = msgspec.structs.replace(world.state, allocations=counted)
    make_plan(state, world.beliefs, WallMs(world.at_ms), CountingIds())
    assert counted.passes < 10


def test_copies_of_an_image_that_is_on_no_node_are_spread_whatever_was_planned_and_dropped_before() -> None:
    world = World()
    world.put(make_spec(image="web:0"))
    world.think()
    world.remove("default/web")
    world.put(make_spec(image="web:1", replicas=2))
    world.at_ms += 200_000  # longer than the deadline: the first plan gives the rollout up, with what it placed
    world.think()
    world.think()
    assert sorted(one.node for one in world.copies() if one.revision == 2) == ["n-a", "n-b"]
