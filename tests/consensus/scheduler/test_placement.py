"""Which node takes a copy, and why others do not."""

from typing import Any

import pytest

from consensus.state.records import NodeRecord
from orca.model.ids import NodeId, ServiceId
from orca.model.node import RuntimeState
from orca.model.spec import (
    PlacementSpec,
    PortSpec,
    Resources,
    RuntimeKind,
    ServiceSpec,
)
from orca.model.units import Bytes, MilliCpu, WallMs
from orca.model.view import RolloutState
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import World, make_node
from tests.consensus.scheduler.rollouts import rolled_out, wanted


def test_a_copy_that_no_node_can_take_is_blocked_with_every_reason() -> None:
    world = World(nodes=(make_node("a", cpu=100), make_node("b", accepts_work=False, refusal="is drained")))
    world.put(make_spec(resources=Resources(cpu_milli=MilliCpu(200)), deploy={"deadline_s": 10}))
    world.think_all()
    reason = "no node can take it: a has 0.1 cpu, a copy wants 0.2; b is drained"
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
            "has 8.0 GiB memory, a copy wants 16 GiB",
        ),
    ],
)
def test_every_refusal_has_its_reason(fields: dict[str, Any], reason: str) -> None:
    world = World(nodes=(make_node("a", labels={"disk": "hdd"}),))
    world.put(make_spec(**fields))
    world.think_all()
    assert world.plan is not None
    assert world.plan.blocked[ServiceId("default/web")] == f"no node can take it: a {reason}"


def waited_ms(world: World, spec: ServiceSpec) -> int:
    """For how long a rollout that no node can take is waited for."""
    world.put(spec)
    world.settle()
    rollout = world.record().rollout
    assert rollout.state is RolloutState.FAILED
    assert rollout.message.startswith("no node can take it: a ")
    assert rollout.ended_at_ms is not None
    return rollout.ended_at_ms - rollout.started_at_ms


TOO_LARGE = Resources(memory_bytes=Bytes(2**34))
NO_ENGINE = (RuntimeState(kind=RuntimeKind.DOCKER, is_available=False, reason="nobody listens"),)
ONLY_WASM = (RuntimeState(kind=RuntimeKind.WASM, is_available=True),)


def test_nobody_waits_for_what_no_node_will_ever_take() -> None:
    assert waited_ms(World(nodes=(make_node("a"),)), make_spec(resources=TOO_LARGE)) == 3_000
    assert waited_ms(World(nodes=(make_node("a", runtimes=ONLY_WASM),)), make_spec()) == 3_000
    assert waited_ms(World(nodes=(make_node("a"),)), make_spec(placement=PlacementSpec(node="b"))) == 3_000


def test_an_engine_that_is_away_has_the_time_of_a_restart() -> None:
    assert waited_ms(World(nodes=(make_node("a", runtimes=NO_ENGINE),)), make_spec()) == 15_000
    nodes = (make_node("a", runtimes=NO_ENGINE), make_node("b", memory=2**20))
    spec = make_spec(resources=Resources(memory_bytes=Bytes(2**30)))
    assert waited_ms(World(nodes=nodes), spec) == 15_000, "b will never take it, but a may"


def test_what_others_may_free_is_waited_for_as_long_as_the_deadline_says() -> None:
    world = World(nodes=(make_node("a", cpu=1000), make_node("b", accepts_work=False, refusal="is drained")))
    world.put(make_spec("big", resources=Resources(cpu_milli=MilliCpu(900))))
    world.settle()
    spec = make_spec(resources=Resources(cpu_milli=MilliCpu(200)), deploy={"deadline_s": 40})
    assert waited_ms(world, spec) == 40_000


def test_a_node_that_is_away_may_be_the_one_that_takes_it() -> None:
    world = World(nodes=(make_node("a"),))
    world.state.nodes[NodeId("n-b")] = NodeRecord(id=NodeId("n-b"), name="b", admitted_at_ms=WallMs(0))
    assert waited_ms(world, make_spec(resources=TOO_LARGE, deploy={"deadline_s": 40})) == 40_000


def test_a_rollout_that_has_begun_survives_an_engine_that_is_away_for_a_while() -> None:
    world = World(nodes=(make_node("a"),))
    world.put(make_spec(replicas=2, deploy={"deadline_s": 40, "max_surge": 1}))
    world.settle()
    world.put(make_spec(replicas=2, image="web:2", deploy={"deadline_s": 40, "max_surge": 1}))
    world.think_all()
    world.at_ms += 20_000
    world.nodes = (make_node("a", runtimes=NO_ENGINE),)
    world.think_all()
    assert world.record().rollout.state is RolloutState.PROGRESSING


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
