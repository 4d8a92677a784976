"""What waits for what, and when a job is done."""

from typing import Any

import msgspec
import pytest

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
from tests.consensus.scheduler.fake_world import PROBED, World, make_node, rolled_out, wanted
from tests.consensus.scheduler.rollouts import NEVER, 
NEVER = RestartSpec(policy=RestartPolicy.NEVER)


def test_a_job_that_becomes_a_service_gets_a_copy_that_runs() -> None:
    world = World()
    world.put(make_spec(restart=NEVER))
    world.settle()
    assert [world.phase(one) for one in world.copies()] == [Phase.COMPLETED]
    world.put(make_spec())
    world.settle()
    assert world.serving("default/web") == 1
    assert len(world.copies()) == 1


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


