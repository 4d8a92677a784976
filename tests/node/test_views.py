"""What is shown is what is known: without a belief a copy is pending."""

from consensus.state.cluster import ClusterState
from consensus.state.commands import AcquireLease, AdmitNode
from node.views import allocation_view, node_views, revision_views, service_view
from orca.model.allocation import Phase
from orca.model.holding import LeaseView
from orca.model.ids import BlobDigest, singleton_lease
from orca.model.spec import RestartPolicy, RestartSpec, ServiceSpec, SingletonSpec, WasmModule
from orca.model.units import WallMs
from orca.model.view import NodeView, RolloutState, ServiceView
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import World, make_node


def view(world: World, blocked: str = "") -> ServiceView:
    return service_view(world.state, world.record(), world.statuses, blocked)


def test_a_copy_of_which_nothing_is_known_is_pending() -> None:
    world = World()
    world.put(make_spec())
    world.think_all()
    (copy,) = view(world).allocations
    assert (copy.phase, copy.is_ready) == (Phase.PENDING, False)


def test_the_status_of_a_copy_is_shown_whole() -> None:
    world = World()
    world.put(make_spec(replicas=2))
    world.think_all()
    first, second = world.copies()
    world.report(first.id, Phase.BACKOFF, restarts=3, reason="exit code 1", exit_code=1)
    world.make_ready(second.id)
    shown = view(world)
    assert (shown.ready, shown.replicas, shown.restarts) == (1, 2, 3)
    copy = shown.allocations[0]
    assert (copy.phase, copy.reason, copy.exit_code, copy.restarts) == (Phase.BACKOFF, "exit code 1", 1, 3)
    alone = allocation_view(first, world.record().spec, world.statuses[first.id])
    assert alone == copy


def test_the_lease_of_a_singleton_is_shown_with_its_service_and_with_the_copy_that_has_it() -> None:
    world = World()
    world.put(make_spec(singleton=SingletonSpec()))
    world.think_all()
    (one,) = world.copies()
    assert view(world).lease is None
    world.apply(AdmitNode(node=one.node, name="first", at_ms=WallMs(0)))
    lease = singleton_lease(one.service)
    held = world.apply(
        AcquireLease(lease=lease, node=one.node, holder=str(one.id), ttl_ms=15_000, clock_ms=0, at_ms=WallMs(0))
    )
    fence = held.leases[0].epoch
    shown = view(world)
    assert shown.lease == LeaseView(allocation=one.id, node=one.node, fence=fence, node_name="first")
    assert [copy.fence for copy in shown.allocations] == [fence]


def test_a_job_that_is_done_counts_as_ready() -> None:
    world = World()
    world.put(make_spec(restart=RestartSpec(policy=RestartPolicy.NEVER)))
    world.settle()
    assert view(world).ready == 1
    assert view(world).is_job


def test_why_a_service_waits_is_said_while_its_rollout_goes_on() -> None:
    world = World(nodes=(make_node("a", accepts_work=False, refusal="is drained"),))
    world.put(make_spec(deploy={"deadline_s": 10}))
    world.think_all()
    assert view(world, "no node").rollout.message == "no node"
    world.settle()
    shown = view(world)
    assert shown.rollout.state is RolloutState.FAILED
    assert "is drained" in shown.rollout.message


def test_a_copy_of_an_older_revision_is_shown_with_the_runtime_that_runs_it() -> None:
    world = World()
    world.put(make_spec())
    world.settle()
    module = WasmModule(module=BlobDigest("sha256:" + "a" * 64))
    world.put(ServiceSpec(name=make_spec().name, source=module))
    world.think_all()
    assert [copy.runtime.value for copy in view(world).allocations] == ["docker", "wasm"]
    assert view(world).workload == "sha256:aaaaaaaaaaaa"


def test_history_shows_the_newest_first_with_what_each_changed() -> None:
    world = World()
    world.put(make_spec(), note="first try")
    world.scale("default/web", 3)
    world.put(make_spec(image="web:2", replicas=3))
    shown = revision_views(world.record())
    assert [one.revision for one in shown] == [3, 2, 1]
    assert [one.is_current for one in shown] == [True, False, False]
    assert [one.cause for one in shown] == ["deploy", "scale 1 to 3", "deploy: first try"]
    assert [[field.key for field in one.fields] for one in shown] == [["source.image"], ["replicas"], []]


def test_a_node_shows_itself_first_and_then_whoever_else_lives() -> None:
    nodes = {name: make_node(name) for name in ("c", "a", "b")}
    own = NodeView(facts=nodes["b"], is_leader=False, allocations=0, started_at_ms=WallMs(5))
    alive = {facts.id: facts for facts in nodes.values()}
    views = node_views(ClusterState(), own, alive, nodes["c"].id)
    assert [view.facts.name for view in views] == ["b", "a", "c"]
    assert [view.is_leader for view in views] == [False, False, True]
    assert views[1].started_at_ms is None, "only a node itself knows"
