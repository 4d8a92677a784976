"""Copies on nodes that are lost, come back, are drained or do not fit any more."""

from typing import Any

import pytest

from consensus.scheduler.whereabouts import UNHEARD_MS
from consensus.state.commands import AcquireLease, CordonNode, DrainNode, LabelNode, RemoveNode, UndrainNode
from orca.model.allocation import Allocation, DesiredStatus
from orca.model.ids import NodeId, RequestId, singleton_lease
from orca.model.spec import (
    DisconnectSpec,
    MountSpec,
    PlacementSpec,
    PortSpec,
    Resources,
    RestartPolicy,
    RestartSpec,
    ServiceMode,
    SingletonSpec,
)
from orca.model.units import MilliCpu, WallMs
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import make_node
from tests.consensus.scheduler.rollouts import PROBED
from tests.node.scheduling import Admitted

ABC = tuple(make_node(name, cpu=2000) for name in "abc")


def running(world: Admitted, service: str = "default/web") -> list[Allocation]:
    return [one for one in world.copies(service) if one.desired is DesiredStatus.RUNNING]


def where(world: Admitted, service: str = "default/web") -> list[str]:
    """The nodes of the wanted copies, by slot."""
    return [str(one.node) for one in running(world, service)]


def settled(**fields: Any) -> Admitted:
    world = Admitted(nodes=ABC)
    world.put(make_spec(**{"replicas": 3, **PROBED, **fields}))
    world.settle()
    assert len(running(world)) == fields.get("replicas", 3)
    return world


def order(world: Admitted, kind: Any, name: str, **fields: Any) -> None:
    outcome = world.apply(
        kind(
            node=NodeId(f"n-{name}"),
            request_id=RequestId(world.fresh()),
            at_ms=WallMs(world.at_ms),
            actor="ann",
            **fields,
        )
    )
    assert not outcome.error, outcome


def test_copies_of_a_dead_node_are_replaced_after_the_time_of_a_restart_and_not_before() -> None:
    world = settled()
    world.lose("b")
    assert not world.think(), "the daemon may just be restarted"
    assert world.plan is not None
    assert world.plan.wake_at_ms == world.at_ms + 3_000
    world.at_ms += 3_000
    world.think_all()
    assert sorted(where(world)) in (["n-a", "n-a", "n-b", "n-c"], ["n-a", "n-b", "n-c", "n-c"])
    world.settle()
    assert world.serving("default/web") >= 3


def test_of_two_healthy_copies_in_one_slot_the_newer_stays_when_the_node_returns_and_nothing_flaps() -> None:
    world = settled()
    old = {one.id for one in running(world)}
    world.lose("b")
    world.at_ms += 3_000
    world.settle()
    world.nodes, world.departed = ABC, {}
    world.settle()
    stayed = {one.id for one in running(world)}
    assert len(stayed) == 3
    assert len(stayed & old) == 2, "those that were never away go on, and the replacement with them"
    assert sorted({one.slot for one in running(world)}) == [0, 1, 2]
    assert not world.think()


def test_of_two_copies_of_a_singleton_the_one_that_has_the_lease_stays() -> None:
    """The other may not start: to take it would end what runs."""
    world = settled(replicas=1, singleton=SingletonSpec())
    (old,) = running(world)
    lease = singleton_lease(old.service)
    held = AcquireLease(lease=lease, node=old.node, holder=str(old.id), ttl_ms=15_000, clock_ms=0, at_ms=WallMs(0))
    assert not world.apply(held).error
    world.lose(str(old.node).removeprefix("n-"))
    world.at_ms += 3_000
    world.settle()
    world.nodes, world.departed = ABC, {}
    world.settle()
    assert [one.id for one in running(world)] == [old.id]


def test_a_new_version_of_a_singleton_is_placed_only_when_the_old_copy_has_stopped() -> None:
    world = settled(replicas=1, singleton=SingletonSpec())
    world.put(make_spec(replicas=1, singleton=SingletonSpec(), image="web:2", **PROBED))
    while world.think():
        assert len(world.copies("default/web")) == 1


def test_a_returning_copy_that_serves_is_kept_while_its_replacement_does_not() -> None:
    world = settled()
    world.lose("b")
    world.at_ms += 3_000
    world.think_all()
    world.nodes, world.departed = ABC, {}
    world.think_all()
    assert where(world) == ["n-a", "n-b", "n-c"], "the new copy had not started"


def test_of_two_copies_in_one_slot_both_go_on_while_one_of_them_serves_in_place_of_another_that_is_lost() -> None:
    """One node comes back just as another goes: what the first brings along must not stop before there is a new one."""
    world = settled()
    world.lose("b")
    world.at_ms += 3_000
    world.settle()
    world.nodes, world.departed = ABC, {}
    doubled = {one.id for one in running(world)}
    world.lose("c")
    world.think_all()
    serving = {one.id for one in running(world) if one.node != "n-c"}
    assert len(serving & doubled) == 3, "two beside each other, and they serve"
    world.at_ms += 3_000
    world.settle()
    there = [one for one in running(world) if one.node != "n-c"]
    assert sorted(one.slot for one in there) == [0, 1, 2], "the new copy is healthy, so the second in a slot has gone"


def test_a_service_that_keeps_its_copies_waits_for_their_node() -> None:
    world = settled(disconnect=DisconnectSpec(replace_after_s=None))
    world.lose("b")
    world.at_ms += 10**9
    assert not world.think()
    assert where(world) == ["n-a", "n-b", "n-c"]


def test_a_leader_that_never_heard_of_a_node_waits_longer_before_it_takes_it_for_gone() -> None:
    world = settled()
    world.nodes = ABC[:2]  # and `departed` does not say since when
    world.planner.plan(world.state, world.beliefs, WallMs(world.at_ms), world.ids, leads_since_ms=WallMs(world.at_ms))
    late = world.at_ms + UNHEARD_MS + 3_000
    for at_ms, count in ((late - 1, 0), (late, 1)):
        plan = world.planner.plan(
            world.state, world.beliefs, WallMs(at_ms), world.ids, leads_since_ms=WallMs(world.at_ms)
        )
        assert len(() if plan.command is None else plan.command.placements) == count


def test_a_drain_starts_copies_elsewhere_before_it_stops_them_and_leaves_the_others_alone() -> None:
    world = settled()
    before = {one.id: one.node for one in running(world)}
    order(world, DrainNode, "b", reason="new disk")
    world.think_all()
    assert len(running(world)) == 4, "one more, and none less"
    world.settle()
    after = {one.id: one.node for one in running(world)}
    assert "n-b" not in after.values()
    assert len(after) == 3
    assert all(one in after for one, node in before.items() if node != "n-b"), "minimal movement"
    assert not world.state.copies.of_node(NodeId("n-b"))
    order(world, UndrainNode, "b")
    assert not world.think(), "nothing moves back by itself"


def test_a_drain_without_room_elsewhere_waits_and_its_deadline_does_not() -> None:
    world = settled(resources=Resources(cpu_milli=MilliCpu(1500)))
    order(world, DrainNode, "b", deadline_at_ms=WallMs(world.at_ms + 60_000))
    world.think_all()
    assert where(world) == ["n-a", "n-b", "n-c"]
    assert world.plan is not None
    assert world.plan.wake_at_ms == world.at_ms + 60_000
    assert "cpu left" in world.plan.blocked[make_spec().id]
    world.at_ms += 60_000
    world.think_all()
    assert where(world) == ["n-a", "n-c"]


@pytest.mark.parametrize("fields", [{"ports": (PortSpec(port=80, host_port=80),)}, {"mounts": ()}])
def test_what_cannot_run_twice_on_a_node_goes_only_when_another_node_can_take_it(fields: dict[str, Any]) -> None:
    world = settled(**fields)
    order(world, DrainNode, "b")
    world.settle()
    if fields.get("ports"):
        assert where(world) == ["n-a", "n-b", "n-c"], "all host ports are taken, so it goes on"
        world.scale("default/web", 2)
        world.settle()
    assert "n-b" not in where(world) or len(where(world)) == 2


def test_a_job_on_a_drained_node_may_run_to_its_end() -> None:
    world = Admitted(nodes=ABC)
    world.put(make_spec(restart=RestartSpec(policy=RestartPolicy.NEVER)))
    world.think_all()
    (name,) = where(world)
    order(world, DrainNode, name.removeprefix("n-"))
    assert not world.think()
    assert where(world) == [name]


def test_a_cordoned_node_keeps_what_it_has_and_gets_nothing() -> None:
    world = settled()
    order(world, CordonNode, "b", reason="noisy")
    world.scale("default/web", 7)
    world.settle()
    assert where(world).count("n-b") == 1


def test_copies_leave_a_node_whose_labels_do_not_fit_any_more() -> None:
    world = Admitted(nodes=ABC)
    for name in "ab":
        order(world, LabelNode, name, labels={"disk": "ssd"})
    world.put(make_spec(replicas=2, placement=PlacementSpec(constraints=("disk == ssd",)), **PROBED))
    world.settle()
    assert sorted(where(world)) == ["n-a", "n-b"]
    order(world, LabelNode, "c", labels={"disk": "ssd"})
    order(world, LabelNode, "a", remove=("disk",))
    world.settle()
    assert sorted(where(world)) == ["n-b", "n-c"]


def test_a_copy_goes_where_its_volume_is_and_waits_for_that_node() -> None:
    world = settled(replicas=2, mounts=(MountSpec(target="/d", source="data"),))
    first = where(world)
    world.put(make_spec(image="web:2", replicas=2, mounts=(MountSpec(target="/d", source="data"),), **PROBED))
    world.settle()
    assert where(world) == first, "a new revision finds the data of the old one"
    lost = first[1].removeprefix("n-")
    world.lose(lost)
    world.at_ms += 60_000
    world.think_all()
    assert where(world) == first
    assert world.plan is not None
    assert "does not have the data of volume default/data" in world.plan.blocked[make_spec().id]
    order(world, RemoveNode, lost, is_forced=True)
    world.settle()
    assert len(set(where(world))) == 2, "the data is given up with the node"
    assert first[1] not in where(world)


def test_services_that_share_a_volume_share_its_node_also_after_a_removal() -> None:
    world = settled(replicas=1, mounts=(MountSpec(target="/d", source="data"),))
    (home,) = where(world)
    world.put(make_spec("api", replicas=3, mounts=(MountSpec(target="/d", source="data"),), **PROBED))
    world.settle()
    assert set(where(world, "default/api")) == {home}
    world.remove("default/web")
    world.settle()
    world.put(make_spec("web", mounts=(MountSpec(target="/d", source="data"),), **PROBED))
    world.settle()
    assert where(world) == [home]


def test_a_global_service_runs_once_on_each_node_that_may_take_it() -> None:
    world = Admitted(nodes=ABC)
    order(world, LabelNode, "a", labels={"gpu": "1"})
    world.put(make_spec(mode=ServiceMode.GLOBAL, placement=PlacementSpec(constraints=("!gpu",)), **PROBED))
    world.settle()
    assert sorted(where(world)) == ["n-b", "n-c"]
    world.nodes = (*ABC, make_node("d"))
    world.settle()
    assert sorted(where(world)) == ["n-b", "n-c", "n-d"], "a node that joins gets its copy"
    order(world, DrainNode, "c")
    world.settle()
    assert sorted(where(world)) == ["n-b", "n-d"]
    order(world, UndrainNode, "c")
    world.put(make_spec(image="web:2", mode=ServiceMode.GLOBAL, **PROBED))
    world.settle()
    assert sorted(where(world)) == ["n-a", "n-b", "n-c", "n-d"]
    assert {one.template for one in running(world)} == {world.record().current.template}
