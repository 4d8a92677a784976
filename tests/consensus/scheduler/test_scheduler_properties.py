"""What no plan may ever do, on any drawn cluster; and that columns and scalars choose the same nodes."""

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.feasible import Bounds, lasting_refusal, refusal
from consensus.scheduler.fleet import Fleet
from consensus.scheduler.plan import make_plan
from consensus.scheduler.rank import choose_nodes
from consensus.scheduler.site import sites_of
from consensus.state.allocations import AllocationTable
from consensus.state.cluster import ClusterState
from consensus.state.commands import CommitPlan
from consensus.state.records import DrainRecord, NodeRecord
from orca.model.ids import NodeId, ServiceId, ServiceName
from orca.model.node import NodeAvailability, NodeFacts
from orca.model.spec import PlacementSpec, PlacementStrategy, PortSpec, Preference, Resources, ServiceSpec
from orca.model.units import Bytes, MilliCpu, WallMs
from tests.consensus.intent import Cluster, CountingIds, make_spec
from tests.consensus.scheduler.fake_world import World, make_node

LABELS = st.dictionaries(st.sampled_from(["zone", "disk"]), st.sampled_from(["a", "b", "2", "10"]))
EXPRESSIONS = st.sampled_from(["disk == a", "disk != a", "zone in (a, b)", "!disk", "zone", "disk >= 3", "name ~ n1*"])
NAMES = st.sampled_from(["web", "api", "db"])
PLACEMENTS = st.builds(
    PlacementSpec,
    constraints=st.lists(EXPRESSIONS, max_size=2).map(tuple),
    prefer=st.lists(st.builds(Preference, match=EXPRESSIONS, weight=st.sampled_from([-9, 5, 50])), max_size=2).map(
        tuple
    ),
    spread=st.sampled_from([None, None, "zone"]),
    strategy=st.sampled_from(PlacementStrategy),
    copies_per_node_max=st.sampled_from([None, None, 1, 2]),
    apart_from=st.sampled_from([(), (), (ServiceName("db"),)]),
)


@st.composite
def specs(draw: st.DrawFn, name: str) -> ServiceSpec:
    resources = Resources(
        cpu_milli=MilliCpu(draw(st.sampled_from([100, 700, 1500]))),
        memory_bytes=draw(st.sampled_from([None, Bytes(2**20), Bytes(2**32)])),
    )
    ports = draw(st.sampled_from([(), (), (PortSpec(port=80, host_port=80),)]))
    fields: dict[str, Any] = {"ports": ports, "placement": draw(PLACEMENTS), "replicas": draw(st.integers(0, 5))}
    image = draw(st.sampled_from(["web:1", "web:2"]))
    return make_spec(name, image=image, resources=resources, **fields)


@st.composite
def nodes(draw: st.DrawFn) -> tuple[NodeFacts, ...]:
    count = draw(st.integers(1, 6))
    return tuple(
        make_node(
            f"n{number}",
            cpu=draw(st.sampled_from([0, 1000, 2000, 8000])),
            labels=draw(LABELS),
            accepts_work=draw(st.sampled_from([True, True, True, False])),
        )
        for number in range(count)
    )


def admit(state: ClusterState, facts: tuple[NodeFacts, ...], draw: random.Random) -> None:
    """Some nodes are cordoned or drained, some have labels of their own."""
    for one in facts:
        kind = draw.choice([NodeAvailability.ACTIVE, NodeAvailability.ACTIVE, *NodeAvailability])
        drain = None if kind is NodeAvailability.ACTIVE else DrainRecord(since_ms=WallMs(1), actor="ann")
        labels = draw.choice([{}, {}, {"disk": "a"}])
        state.nodes[one.id] = NodeRecord(
            id=one.id, name=one.name, admitted_at_ms=WallMs(1), availability=kind, drain=drain, labels=labels
        )


@settings(max_examples=60, deadline=None)
@given(st.data(), nodes(), st.integers(0, 2**32))
def test_columns_and_scalars_choose_the_same_nodes(
    data: st.DataObject, facts: tuple[NodeFacts, ...], seed: int
) -> None:
    cluster, rng = Cluster(), random.Random(seed)
    admit(cluster.state, facts, rng)
    beliefs = Beliefs(nodes={one.id: one for one in facts})
    one_by_one, in_columns = Fleet(columns_from=10**9), Fleet(columns_from=0)
    for fleet in (one_by_one, in_columns):
        fleet.refresh(cluster.state, beliefs)
    for name in ("db", "web", "api", "web"):
        spec = data.draw(specs(name))
        bounds = data.draw(st.sampled_from([None, Bounds(frozenset({NodeId("n-n0"), NodeId("n-n1")}), "has no data")]))
        number = data.draw(st.integers(0, 9))
        chosen = choose_nodes(spec, one_by_one, number, bounds)
        assert choose_nodes(spec, in_columns, number, bounds) == chosen
        if len(chosen) < number:
            refused = [refusal(spec, site, one_by_one.usage(site.id), bounds) for site in one_by_one.sites]
            assert all(refused), "a node could have taken one more"


@settings(max_examples=40, deadline=None)
@given(st.data(), nodes(), st.integers(0, 2**32))
def test_a_plan_never_fills_over_and_every_copy_is_where_its_service_may_be(
    data: st.DataObject, facts: tuple[NodeFacts, ...], seed: int
) -> None:
    world = World(nodes=facts)  # looks after capacity, ports and slots at each plan
    admit(world.state, facts, random.Random(seed))
    for name in ("db", "web", "api"):
        world.put(data.draw(specs(name)))
        world.think()
    for _ in range(3):
        world.think()
        world.obey()
    for site in sites_of({one.id: one for one in facts}, world.state.nodes):
        for one in world.state.copies.of_node(site.id).values():
            spec = world.state.spec_of(one)
            assert lasting_refusal(spec, site) is None
            most = spec.placement.copies_per_node_max
            own = world.fleet().usage(site.id).copies[spec.id]
            assert most is None or own <= most


@settings(max_examples=40, deadline=None)
@given(st.data(), nodes(), st.integers(0, 2**32))
def test_the_same_facts_in_another_order_make_the_same_plan(
    data: st.DataObject, facts: tuple[NodeFacts, ...], seed: int
) -> None:
    world, rng = World(nodes=facts), random.Random(seed)
    admit(world.state, facts, rng)
    for name in ("db", "web", "api"):
        world.put(data.draw(specs(name)))
    world.think()
    world.obey()
    world.put(data.draw(specs("web")))

    def shuffled(table: dict[Any, Any]) -> dict[Any, Any]:
        items = list(table.items())
        rng.shuffle(items)
        return dict(items)

    state = msgspec.structs.replace(
        world.state,
        services=shuffled(world.state.services),
        nodes=shuffled(world.state.nodes),
        allocations=AllocationTable(shuffled(world.state.allocations)),
    )
    beliefs = Beliefs(nodes=shuffled(world.beliefs.nodes), statuses=shuffled(world.statuses))
    now = WallMs(world.at_ms)
    assert make_plan(state, beliefs, now, CountingIds()) == make_plan(world.state, world.beliefs, now, CountingIds())


def test_a_stale_plan_is_refused_as_a_whole() -> None:
    world = World()
    world.put(make_spec(replicas=2))
    plan = make_plan(world.state, world.beliefs, WallMs(world.at_ms), CountingIds()).command
    assert isinstance(plan, CommitPlan)
    world.scale("default/web", 1)
    outcome = world.apply(plan)
    assert outcome.error == "conflict"
    assert "what it was made from changed" in outcome.message
    assert not world.state.allocations_of(ServiceId("default/web"))


def test_copies_share_out_over_zones_then_nodes_and_packing_fills_one_node_first() -> None:
    zones = {"a": "x", "b": "x", "c": "y", "d": "y"}
    facts = tuple(make_node(name, labels={"zone": zone}) for name, zone in zones.items())
    state, beliefs = ClusterState(), Beliefs(nodes={one.id: one for one in facts})
    for columns_from in (0, 100):
        fleet = Fleet(columns_from)
        fleet.refresh(state, beliefs)
        spread = make_spec(placement=PlacementSpec(spread="zone"), resources=Resources(cpu_milli=MilliCpu(1000)))
        assert choose_nodes(spread, fleet, 5) == ["n-a", "n-c", "n-b", "n-d", "n-a"]
        fleet.refresh(state, beliefs)
        packed = make_spec(
            placement=PlacementSpec(strategy=PlacementStrategy.BIN_PACK),
            resources=Resources(cpu_milli=MilliCpu(2000)),
        )
        assert choose_nodes(packed, fleet, 5) == ["n-a", "n-a", "n-b", "n-b", "n-c"]
