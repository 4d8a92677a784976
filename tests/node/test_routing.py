"""A table that remembers what it was made from is the one that is made from nothing, at every step."""

import random
from collections.abc import Callable

import pytest

from node.believed import Believed
from node.ingress import routed_services
from node.proxy.routes import RouteTable, build_route_table
from node.routing import Routing
from orca.model.allocation import Endpoint, Phase
from orca.model.ids import NodeId
from orca.model.spec import PortSpec, RouteSpec, ServiceSpec
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import World, make_node

OWN = NodeId("n-a")
ENDPOINTS = (Endpoint(port=80, host="10.0.0.2", host_port=8080),)


def spec(name: str, image: int = 1) -> ServiceSpec:
    routes = (RouteSpec(domain=f"{name}.example"),)
    return make_spec(name, f"web:{image}", replicas=2, routes=routes, ports=(PortSpec(port=80),))


class Node:
    """What a node knows, and the table that it last made."""

    def __init__(self) -> None:
        self.world = World(nodes=(make_node("a"), make_node("b")))
        self.beliefs = Believed()
        for node in self.world.nodes:
            self.beliefs.put_node(node)
        self.routing = Routing(OWN)
        self.table: RouteTable | None = None
        self.made = 0

    def look(self) -> None:
        """Make it again if it has to be, and compare it with one that remembers nothing."""
        for status in self.world.statuses.values():
            self.beliefs.put_status(status)
        for gone in [one for one in self.beliefs.statuses if one not in self.world.statuses]:
            self.beliefs.drop_status(gone)
        table = self.routing.changed(self.world.state, self.beliefs)
        if table is not None:
            self.table, self.made = table, self.made + 1
        whole = build_route_table(
            routed_services(self.world.state, self.beliefs.statuses, OWN, self.beliefs.nodes), self.beliefs.changes
        )
        assert self.table is not None
        assert self.table.routes() == whole.routes()

    def make_ready(self) -> None:
        for one in list(self.world.state.allocations):
            self.world.report(one, Phase.RUNNING, is_ready=True, endpoints=ENDPOINTS)


def test_what_changes_no_route_makes_no_table() -> None:
    node = Node()
    node.world.put(spec("web"), spec("api"))
    node.world.think_all()
    node.look()
    for one in list(node.world.state.allocations):
        node.world.report(one, Phase.PREPARING)
    node.look()
    assert node.made == 1, "nobody can be sent there yet"
    node.make_ready()
    node.look()
    node.look()
    assert node.made == 2


def test_a_node_that_is_not_heard_of_and_a_service_that_goes_change_the_table() -> None:
    node = Node()
    node.world.put(spec("web"), spec("api"))
    node.world.think_all()
    node.make_ready()
    node.look()
    node.beliefs.drop_node(NodeId("n-b"))
    node.look()
    node.beliefs.put_node(make_node("b"))
    node.look()
    node.world.remove("default/api")
    node.look()
    assert node.made == 4
    assert node.table is not None
    assert [route.service for route in node.table.routes()] == ["default/web"]


@pytest.mark.parametrize("seed", range(10))
def test_after_any_changes_it_is_the_table_that_is_made_from_nothing(seed: int) -> None:
    node, rng = Node(), random.Random(seed)
    world = node.world
    world.put(spec("web"), spec("api"))
    steps: list[Callable[[], object]] = [
        world.think,
        world.obey,
        node.make_ready,
        lambda: world.put(spec("web", rng.randrange(3))),
        lambda: world.put(spec("api", rng.randrange(3))),
        lambda: world.scale("default/web", rng.randrange(4)),
        lambda: world.stop("default/api"),
        lambda: world.start("default/api"),
    ]
    for _ in range(60):
        rng.choice(steps)()
        world.at_ms += 700
        node.look()
