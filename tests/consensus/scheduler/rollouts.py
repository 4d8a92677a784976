"""Services on their way: what several tests of the scheduler begin with."""

from typing import Any

from orca.model.allocation import DesiredStatus
from orca.model.ids import ServiceName
from orca.model.spec import (
    DependencyCondition,
    DependencySpec,
    HttpCheck,
    ProbeSpec,
    RestartPolicy,
    RestartSpec,
)
from orca.model.view import RolloutState
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import World

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


def depends(condition: DependencyCondition) -> dict[str, Any]:
    return {"depends_on": (DependencySpec(service=ServiceName("db"), condition=condition),)}
