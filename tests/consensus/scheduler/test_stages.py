"""Revisions that stand beside the one before: canaries, blue and green, the way back, and pauses."""

from collections import Counter
from typing import Any

import pytest

from consensus.scheduler import stages
from orca.model.allocation import Allocation, DesiredStatus, Phase
from orca.model.spec import DeployStrategy, Resources
from orca.model.units import MilliCpu
from orca.model.view import RolloutState
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import World, make_node
from tests.consensus.scheduler.rollouts import NEVER, PROBED, rolled_out

CANARY: dict[str, Any] = {"strategy": DeployStrategy.CANARY, "canary_percent": 20}
BLUE_GREEN: dict[str, Any] = {"strategy": DeployStrategy.BLUE_GREEN}


def of_revision(world: World, revision: int) -> list[Allocation]:
    """The copies of a revision that are to run."""
    return [one for one in world.copies() if one.revision == revision and one.desired is DesiredStatus.RUNNING]


def weights(world: World) -> dict[int, int]:
    """Percent of the requests by revision, as the copies are that serve."""
    serving = [one for one in world.copies() if one.desired is DesiredStatus.RUNNING]
    ready = Counter(one.revision for one in serving if one.id in world.statuses and world.statuses[one.id].is_ready)
    return {int(one): percent for one, percent in stages.weights_of(world.record(), ready).items()}


def staged(deploy: dict[str, Any], image: str = "web:2", replicas: int = 3) -> World:
    """`web:1` serves, and `image` stands beside it as far as it gets by itself."""
    world = rolled_out(replicas=replicas)
    world.bad_images.add("web:bad")
    world.put(make_spec(image=image, replicas=replicas, deploy=deploy, **PROBED))
    world.settle()
    return world


def test_a_canary_takes_its_share_beside_all_that_served_and_waits() -> None:
    world = staged(CANARY)
    assert (len(of_revision(world, 1)), len(of_revision(world, 2))) == (3, 1)
    record = world.record()
    assert record.rollout.state is RolloutState.AWAITING
    assert record.rollout.message.startswith("1 new copy takes 20 % of requests; `orca promote web` goes on")
    assert weights(world) == {1: 80, 2: 20}
    world.at_ms += 3_600_000
    world.settle()
    assert world.record().rollout.state is RolloutState.AWAITING, "no deadline runs while it waits"


def test_a_promoted_canary_replaces_the_old_copies_one_by_one() -> None:
    world = staged(CANARY)
    assert not world.promote().error
    assert weights(world) == {}
    world.think_all()
    assert len(of_revision(world, 1)) >= 2
    world.settle()
    assert (len(of_revision(world, 1)), len(of_revision(world, 2))) == (0, 3)
    assert world.record().rollout.state is RolloutState.COMPLETED


def test_a_canary_that_never_gets_healthy_costs_no_old_copy_and_gets_no_request() -> None:
    world = staged(CANARY, image="web:bad")
    record = world.record()
    assert record.rollout.state is RolloutState.FAILED
    assert world.serving_base() == 3
    assert weights(world) == {1: 100, 2: 0}
    assert world.promote().error == "conflict"
    world.roll_back("default/web", 1)
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED
    assert [one.revision for one in world.copies()] == [3, 3, 3], "the copies that served belong to the way back"


@pytest.mark.parametrize("goes_back", [False, True])
def test_a_canary_that_loses_its_health_while_it_waits_fails_in_the_end_and_costs_no_old_copy(goes_back: bool) -> None:
    world = staged({**CANARY, "auto_rollback": goes_back, "deadline_s": 30.0})
    (canary,) = of_revision(world, 2)
    world.report(canary.id, Phase.RUNNING, is_ready=False)
    world.think_all()
    assert world.record().rollout.state is RolloutState.PROGRESSING
    assert world.promote().error == "conflict", "nobody promotes what is not well"
    world.at_ms += 29_999
    world.think_all()
    assert world.record().rollout.state is RolloutState.PROGRESSING
    world.at_ms += 1
    world.think_all()
    record = world.record()
    assert sum(one.revision != 2 for one in world.copies() if world.statuses[one.id].is_ready) == 3
    if goes_back:
        assert record.current.cause == "automatic rollback to 1"
        assert of_revision(world, 2) == []
    else:
        assert record.rollout.state is RolloutState.FAILED
        assert weights(world) == {1: 100, 2: 0}


def test_a_canary_that_is_well_again_in_time_waits_on_and_its_time_begins_anew() -> None:
    world = rolled_out(replicas=3)
    world.put(make_spec(image="web:2", replicas=3, deploy={**CANARY, "auto_promote_s": 600.0}, **PROBED))
    for _ in range(4):
        world.think_all()
        world.obey()
    world.think_all()
    (canary,) = of_revision(world, 2)
    world.at_ms += 500_000
    world.report(canary.id, Phase.RUNNING, is_ready=False)
    world.think_all()
    world.at_ms += 20_000
    world.make_ready(canary.id)
    world.mature()
    world.think_all()
    record = world.record()
    assert record.rollout.state is RolloutState.AWAITING
    assert world.plan is not None
    assert world.plan.wake_at_ms == world.at_ms + 600_000


def test_a_base_that_loses_a_copy_is_no_fault_of_the_canary() -> None:
    world = staged(CANARY)
    world.report(of_revision(world, 1)[0].id, Phase.RUNNING, is_ready=False)
    world.think_all()
    assert world.record().rollout.state is RolloutState.AWAITING


def test_what_is_not_healthy_yet_is_not_promoted() -> None:
    world = rolled_out(replicas=2)
    assert "it is complete" in world.promote().message
    world.put(make_spec(image="web:2", replicas=2, deploy=CANARY, **PROBED))
    world.think_all()
    assert "it is not healthy yet" in world.promote().message
    assert world.serving_base() == 2


def test_a_copy_that_serves_beside_a_canary_is_made_again_when_it_is_lost() -> None:
    world = staged(CANARY)
    lost = of_revision(world, 1)[0]
    world.report(lost.id, Phase.FAILED)
    world.settle()
    alive = [one for one in of_revision(world, 1) if one.id != lost.id]
    assert len(alive) == 3, "of the revision that serves, not of the canary"
    assert len(of_revision(world, 2)) == 1


def test_room_for_one_goes_to_what_serves_and_not_to_the_canary() -> None:
    big: dict[str, Any] = {"resources": Resources(cpu_milli=MilliCpu(1000)), "replicas": 2, **PROBED}
    world = World(nodes=(make_node("a", cpu=2000),))
    world.put(make_spec(**big))
    world.settle()
    world.put(make_spec(image="web:2", deploy=CANARY, **big))
    world.think_all()
    assert of_revision(world, 2) == [], "there is no room"
    world.report(of_revision(world, 1)[0].id, Phase.FAILED)
    world.think_all()
    assert of_revision(world, 2) == []
    world.obey()
    assert world.serving_base() == 2


def test_a_next_canary_takes_the_place_of_the_one_before() -> None:
    world = staged(CANARY)
    world.put(make_spec(image="web:3", replicas=3, deploy=CANARY, **PROBED))
    world.settle()
    assert [len(of_revision(world, number)) for number in (1, 2, 3)] == [3, 0, 1]
    assert weights(world) == {1: 80, 3: 20}


def test_what_a_rollout_left_half_way_serves_until_the_base_is_whole_again() -> None:
    world = rolled_out(replicas=2)
    world.put(make_spec(image="web:2", replicas=2, deploy={"max_surge": 1}, **PROBED))
    world.think_all()
    world.obey()
    world.think_all()
    assert [len(of_revision(world, number)) for number in (1, 2)] == [1, 2]
    world.obey()
    world.put(make_spec(image="web:3", replicas=2, deploy=CANARY, **PROBED))
    world.think_all()
    assert sum(weights(world).values()) == 100
    assert weights(world)[2] > 0, "it serves, and takes its share of what is not the canary's"
    world.settle()
    assert [len(of_revision(world, number)) for number in (1, 2, 3)] == [2, 0, 1]
    assert weights(world) == {1: 80, 3: 20}


def test_scaling_beside_a_canary_scales_what_serves() -> None:
    world = staged(CANARY)
    world.scale("default/web", 5)
    world.settle()
    assert (len(of_revision(world, 1)), len(of_revision(world, 3))) == (5, 1)
    assert world.record().rollout.state is RolloutState.AWAITING


def test_scaling_down_with_the_canary_takes_what_is_too_much_of_what_serves() -> None:
    world = rolled_out(replicas=4)
    world.put(make_spec(image="web:2", replicas=2, deploy=CANARY, **PROBED))
    world.settle()
    assert (len(of_revision(world, 1)), len(of_revision(world, 2))) == (2, 1)


def test_nothing_stands_beside_a_revision_without_copies() -> None:
    world = rolled_out(replicas=0)
    world.put(make_spec(image="web:2", replicas=2, deploy=CANARY, **PROBED))
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED
    assert len(of_revision(world, 2)) == 2


def test_nothing_stands_beside_a_service_that_was_stopped() -> None:
    world = rolled_out(replicas=2)
    world.stop("default/web")
    world.settle()
    world.put(make_spec(image="web:2", replicas=2, deploy=CANARY, **PROBED))
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED
    assert [one.revision for one in world.copies()] == [2, 2]


def test_nothing_stands_beside_a_job() -> None:
    world = World()
    world.put(make_spec(replicas=3, restart=NEVER))
    world.settle()
    world.put(make_spec(image="web:2", replicas=2, deploy=CANARY, **PROBED))
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED
    assert len(of_revision(world, 2)) == 2


def test_a_restart_is_no_canary() -> None:
    world = staged(CANARY)
    world.promote()
    world.settle()
    world.restart("default/web")
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED


def test_green_runs_whole_without_requests_and_takes_them_all_at_once() -> None:
    world = staged(BLUE_GREEN)
    assert (len(of_revision(world, 1)), len(of_revision(world, 2))) == (3, 3)
    assert weights(world) == {1: 100, 2: 0}
    world.promote()
    assert weights(world) == {2: 100}
    world.settle()
    assert (len(of_revision(world, 1)), len(of_revision(world, 2))) == (0, 3)


def test_blue_is_kept_for_the_way_back_and_is_there_at_once() -> None:
    world = staged({**BLUE_GREEN, "keep_old_s": 600.0})
    world.promote()
    world.think_all()
    record = world.record()
    assert record.rollout.state is RolloutState.COMPLETED
    assert len(of_revision(world, 1)) == 3
    assert weights(world) == {2: 100}
    assert world.plan is not None
    assert world.plan.wake_at_ms == record.rollout.promoted_at_ms + 600_000  # type: ignore[operator] # it was
    world.roll_back("default/web", 1)
    assert sorted(one.revision for one in of_revision(world, 3)) == [3, 3, 3], "all that served is there"
    world.think_all()
    assert of_revision(world, 2) == []
    assert world.record().rollout.state is RolloutState.COMPLETED


def test_blue_goes_when_its_time_is_over() -> None:
    world = staged({**BLUE_GREEN, "keep_old_s": 600.0})
    world.promote()
    world.settle()
    assert (len(of_revision(world, 1)), len(of_revision(world, 2))) == (0, 3)


@pytest.mark.parametrize("way", [CANARY, BLUE_GREEN])
def test_what_is_healthy_promotes_itself_when_it_is_asked_to(way: dict[str, Any]) -> None:
    world = rolled_out(replicas=2)
    world.put(make_spec(image="web:2", replicas=2, deploy={**way, "auto_promote_s": 30.0}, **PROBED))
    for _ in range(4):
        world.think_all()
        world.obey()
    world.think_all()
    assert world.record().rollout.state is RolloutState.AWAITING
    assert world.plan is not None
    assert world.plan.wake_at_ms == world.at_ms + 30_000
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED
    assert len(of_revision(world, 2)) == 2


def test_a_failed_revision_goes_back_by_itself_once() -> None:
    world = staged({"auto_rollback": True}, image="web:bad")
    record = world.record()
    assert record.current.revision == 3
    assert record.current.cause == "automatic rollback to 1"
    assert record.rollout.state is RolloutState.COMPLETED
    assert "revision 2 failed: web.1 does not stay up: exit code 1; back to revision 1" in record.rollout.message
    assert [one.revision for one in world.copies()] == [3, 3, 3]
    assert world.serving("default/web") == 3


def test_a_revision_that_was_come_back_to_and_fails_stays_where_it_is() -> None:
    world = staged({"auto_rollback": True}, image="web:2")
    world.bad_images |= {"web:3", "web:2"}
    for one in list(world.statuses):
        del world.statuses[one]
    world.put(make_spec(image="web:3", replicas=3, deploy={"auto_rollback": True}, **PROBED))
    world.settle()
    record = world.record()
    assert record.current.cause == "automatic rollback to 2"
    assert record.current.revision == 4


def test_a_first_revision_that_fails_has_nowhere_to_go_back_to() -> None:
    world = World()
    world.bad_images.add("web:bad")
    world.put(make_spec(image="web:bad", deploy={"auto_rollback": True}, **PROBED))
    world.settle()
    assert (world.record().current.revision, world.record().rollout.state) == (1, RolloutState.FAILED)


def test_a_paused_rollout_starts_and_stops_nothing_and_its_deadline_waits() -> None:
    world = rolled_out(replicas=3)
    world.put(make_spec(image="web:2", replicas=3, **PROBED))
    world.think_all()
    world.obey()
    assert not world.pause().error
    world.settle()
    before = {one.id for one in world.copies()}
    world.at_ms += 3_600_000
    world.settle()
    assert {one.id for one in world.copies()} == before
    assert world.record().rollout.state is RolloutState.PROGRESSING
    world.resume()
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED
    assert not world.record().rollout.is_paused


def test_what_runs_is_healed_while_a_rollout_is_paused() -> None:
    world = rolled_out(replicas=3)
    world.put(make_spec(image="web:2", replicas=3, **PROBED))
    world.think_all()
    world.pause()
    world.settle()
    lost = of_revision(world, 1)[0]
    world.report(lost.id, Phase.FAILED)
    world.settle()
    running = [one for one in world.copies() if world.phase(one) is Phase.RUNNING]
    assert len(running) >= 3


def test_a_pause_ends_with_the_next_deploy() -> None:
    world = staged(CANARY)
    world.pause()
    world.put(make_spec(image="web:3", replicas=3, **PROBED))
    world.settle()
    assert world.record().rollout.state is RolloutState.COMPLETED


def test_there_is_nothing_to_pause_in_a_rollout_that_is_over() -> None:
    world = rolled_out()
    refused = world.pause()
    assert (refused.error, "that of revision 1 is complete" in refused.message) == ("conflict", True)
