"""Where copies go, and why not elsewhere."""

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
def test_missing_copies_are_placed_spread_over_the_nodes() -> None:
    world = World()
    world.put(make_spec(replicas=4))
    world.think_all()
    assert [one.slot for one in world.copies()] == [0, 1, 2, 3]
    assert sorted(one.node for one in world.copies()) == ["n-a", "n-a", "n-b", "n-b"]


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
