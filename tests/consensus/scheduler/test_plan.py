"""What the scheduler does, one rule each."""

from typing import Any

import msgspec
import pytest

from consensus.scheduler.plan import make_plan, preview
from consensus.scheduler.rollout import HOPELESS_RESTARTS
from orca.model.allocation import DesiredStatus, Phase
from orca.model.ids import ServiceId, ServiceName
from orca.model.node import RuntimeState
from orca.model.spec import (
    DependencyCondition,
    DependencySpec,
    HttpCheck,
    MountSpec,
    PlacementSpec,
    PortSpec,
    ProbeSpec,
    Resources,
    RestartPolicy,
    RestartSpec,
    RuntimeKind,
    UpdateOrder,
)
from orca.model.units import Bytes, MilliCpu, WallMs
from orca.model.view import RolloutState
from tests.consensus.intent import CountingIds, make_spec
from tests.consensus.scheduler.fake_world import World, make_node

PROBED: dict[str, Any] = {"readiness": ProbeSpec(check=HttpCheck(path="/"))}
NEVER = RestartSpec(policy=RestartPolicy.NEVER)


def wanted(world: World, service: str = "default/web") -> list[tuple[int, str]]:
    """Slot and template of the copies that are to run."""
    copies = world.copies(service)
    return [(one.slot, one.template) for one in copies if one.desired is DesiredStatus.RUNNING]


def rolled_out(**fields: Any) -> World:
    """`web:1` runs and serves everywhere."""
    world = World()
    world.put(make_spec(**{**PROBED, **fields}))
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED
    return world


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


def test_a_copy_that_no_node_can_take_is_blocked_with_every_reason() -> None:
    world = World(nodes=(make_node("a", cpu=100), make_node("b", accepts_work=False, refusal="is drained")))
    world.put(make_spec(resources=Resources(cpu_milli=MilliCpu(200)), deploy={"deadline_s": 10}))
    world.think_all()
    reason = "no node can take it: a has 0.1 of 0.1 cpu left, a copy wants 0.2; b is drained"
    assert world.plan is not None
    assert world.plan.blocked == {"default/web": reason}
    world.settle()
    assert world.record().rollout.message == reason
    world.nodes = (make_node("a", cpu=300),)
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED, "room was found later"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"placement": PlacementSpec(node="b")}, "is not the node b that placement.node names"),
        ({"placement": PlacementSpec(labels={"disk": "ssd"})}, "label disk is hdd, placement.labels wants ssd"),
        ({"placement": PlacementSpec(spread="zone")}, "has no label zone to spread over"),
        (
            {"resources": Resources(memory_bytes=Bytes(2**34))},
            "has 8.0 GiB of 8.0 GiB memory left, a copy wants 16 GiB",
        ),
    ],
)
def test_every_refusal_has_its_reason(fields: dict[str, Any], reason: str) -> None:
    world = World(nodes=(make_node("a", labels={"disk": "hdd"}),))
    world.put(make_spec(**fields))
    world.think_all()
    assert world.plan is not None
    assert world.plan.blocked[ServiceId("default/web")] == f"no node can take it: a {reason}"


def test_a_node_whose_engine_is_away_takes_nothing_and_keeps_what_it_has() -> None:
    world = rolled_out()
    away = tuple(RuntimeState(kind=kind, is_available=False, reason="it hangs") for kind in RuntimeKind)
    world.nodes = (make_node("a", runtimes=away),)
    world.scale("default/web", 2)
    world.think_all()
    assert len(wanted(world)) == 1
    assert world.plan is not None
    assert "docker is not available there: it hangs" in world.plan.blocked[ServiceId("default/web")]


def test_no_host_port_is_given_twice_and_it_is_free_when_its_holder_has_ended() -> None:
    world = World(nodes=(make_node("a"),))
    port = (PortSpec(port=80, host_port=80),)
    world.put(make_spec("web", ports=port))
    world.settle()
    world.put(make_spec("api", ports=port))
    world.think_all()
    assert world.plan is not None
    assert "host port 80/tcp is taken by default/web" in world.plan.blocked[ServiceId("default/api")]
    world.remove("default/web")
    world.settle()
    assert len(wanted(world, "default/api")) == 1


def test_a_node_that_knows_nothing_of_its_own_size_breaks_nothing() -> None:
    world = World(nodes=(make_node("a", cpu=0, memory=0),))
    world.put(make_spec())
    world.think_all()
    assert len(wanted(world)) == 1


def test_zones_are_filled_evenly() -> None:
    zones = {"a": "x", "b": "x", "c": "y"}
    world = World(nodes=tuple(make_node(name, labels={"zone": zone}) for name, zone in zones.items()))
    world.put(make_spec(replicas=4, placement=PlacementSpec(spread="zone")))
    world.think_all()
    assert sorted(one.node for one in world.copies()) == ["n-a", "n-b", "n-c", "n-c"]


def depends(condition: DependencyCondition) -> dict[str, Any]:
    return {"depends_on": (DependencySpec(service=ServiceName("db"), condition=condition),)}


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
    found = preview(world.state, world.beliefs, spec, 5)
    assert [(one.node, one.copies) for one in found] == [("n-a", 2), ("n-b", 1), (None, 2)]
    assert "cpu left" in found[-1].reason
    assert (
        preview(world.state, msgspec.structs.replace(world.beliefs, nodes={}), spec, 1)[0].reason == "no node is alive"
    )


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
