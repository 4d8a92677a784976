"""Only copies that are ready and wanted are routed to, old and new ones side by side."""

from typing import Any

import msgspec

from node.ingress import routed_services
from orca.model.allocation import Endpoint, Phase
from orca.model.ids import NodeId, ServiceId
from orca.model.ingress import IngressSpec
from orca.model.spec import PortSpec, Protocol, RouteSpec
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import World

OWN = NodeId("n-own")
ROUTED: dict[str, Any] = {"routes": (RouteSpec(domain="a.example"),), "ports": (PortSpec(port=80),)}


def endpoints() -> tuple[Endpoint, ...]:
    return (
        Endpoint(port=80, host="10.0.0.2", host_port=8080),
        Endpoint(port=53, host="10.0.0.2", host_port=53, protocol=Protocol.UDP),
    )


def targets(world: World) -> list[tuple[str, int]]:
    (service,) = routed_services(world.state, world.statuses, OWN)
    assert service.service == ServiceId("default/web")
    assert service.main_port == 80
    return [(target.allocation, target.host_port) for target in service.targets]


def test_copies_are_routed_to_while_they_are_ready_and_wanted() -> None:
    world = World()
    world.put(make_spec(replicas=2, **ROUTED), make_spec("internal", ports=(PortSpec(port=80),)))
    world.think_all()
    first, second = (one.id for one in world.copies())
    assert targets(world) == []
    for one in world.state.allocations:
        world.report(one, Phase.RUNNING, is_ready=True, endpoints=endpoints())
    assert targets(world) == [(first, 8080), (second, 8080)], "TCP only"
    world.report(first, Phase.RUNNING, is_ready=False, endpoints=endpoints())
    assert targets(world) == [(second, 8080)]
    world.stop("default/web")
    world.think_all()
    assert targets(world) == [], "a copy that is to stop gets no request any more"


def test_old_and_new_copies_serve_side_by_side_during_a_rollout() -> None:
    world = World()
    world.put(make_spec(**ROUTED))
    world.settle()
    world.put(make_spec(image="web:2", **ROUTED))
    world.think_all()
    for one in world.state.allocations:
        world.report(one, Phase.RUNNING, is_ready=True, endpoints=endpoints())
    assert len(targets(world)) == 2


def test_a_service_that_is_gone_has_no_route() -> None:
    world = World()
    world.put(make_spec(**ROUTED))
    world.settle()
    world.remove("default/web")
    assert routed_services(world.state, world.statuses, OWN) == ()


def test_endpoints_of_another_host_are_kept_as_they_are() -> None:
    world = World()
    world.put(make_spec(**ROUTED))
    world.think_all()
    (one,) = world.state.allocations
    other = msgspec.structs.replace(endpoints()[0], host="fd00::7")
    world.report(one, Phase.RUNNING, is_ready=True, endpoints=(other,))
    (service,) = routed_services(world.state, world.statuses, OWN)
    assert service.targets[0].host == "fd00::7"


def test_a_copy_of_another_node_is_told_from_one_of_this_node() -> None:
    world = World()
    world.put(make_spec(**ROUTED))
    world.think_all()
    (one,) = world.state.allocations.values()
    world.report(one.id, Phase.RUNNING, is_ready=True, endpoints=endpoints())
    for own, node in ((OWN, one.node), (one.node, None)):
        (service,) = routed_services(world.state, world.statuses, own)
        assert [target.node for target in service.targets] == [node]


def test_requests_may_wait_for_a_service_that_is_to_run_and_never_for_one_that_is_stopped() -> None:
    world = World()
    world.put(make_spec("web", replicas=1, ingress=IngressSpec(queue_timeout_s=7.0, queue_max=3), **ROUTED))
    (service,) = routed_services(world.state, world.statuses, OWN)
    assert (service.queue_timeout_s, service.queue_max) == (7.0, 3)
    world.stop("default/web")
    (service,) = routed_services(world.state, world.statuses, OWN)
    assert service.queue_timeout_s == 0.0


def test_a_node_that_is_not_heard_of_gets_no_requests_unless_nobody_else_could_answer() -> None:
    world = World()
    world.put(make_spec(replicas=2, **ROUTED))
    world.think_all()
    for one in world.state.allocations:
        world.report(one, Phase.RUNNING, is_ready=True, endpoints=endpoints())
    nodes = sorted(one.node for one in world.copies())
    for alive, expected in ((nodes, nodes), (nodes[:1], nodes[:1]), ([], nodes)):
        (service,) = routed_services(world.state, world.statuses, OWN, alive)
        assert sorted(str(target.node) for target in service.targets) == expected
