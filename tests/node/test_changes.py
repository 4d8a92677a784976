"""From requests to commands: what is refused, what a plan says, where a rollback goes."""

import pytest

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.fleet import fleet_of
from consensus.state.cluster import Outcome
from node import changes
from orca.errors import ConflictError, InvalidRequestError, InvalidSpecError, NotFoundError, OrcaError
from orca.model.ids import BlobDigest, ProjectName, RequestId, ServiceId, SpecRevision, StateRevision
from orca.model.spec import FileSpec, Resources, RouteSpec, ServiceSpec, WasmModule
from orca.model.trust import Author
from orca.model.units import MilliCpu, WallMs
from orca.model.view import ChangeAction, DeployRequest, RollbackRequest, RolloutState
from tests.consensus.intent import Cluster, make_spec
from tests.consensus.scheduler.fake_world import World, make_node

NOW = WallMs(5)
BELIEFS = Beliefs(nodes={make_node("a").id: make_node("a")})


def put(cluster: Cluster, *specs: ServiceSpec, prune: bool = False) -> Outcome:
    request = DeployRequest(specs=specs, prune=prune)
    return cluster.apply(changes.put_command(request, RequestId(f"r{cluster.index}"), Author(actor="ann"), NOW))


def plan(cluster: Cluster, *specs: ServiceSpec, prune: bool = False) -> list[tuple[str, ChangeAction, bool]]:
    found = changes.plan_services(
        cluster.state, fleet_of(cluster.state, BELIEFS), DeployRequest(specs=specs, prune=prune)
    )
    return [(str(one.service), one.action, one.replaces_copies) for one in found]


def test_a_deploy_without_services_and_one_with_far_too_many_are_refused() -> None:
    state = Cluster().state
    with pytest.raises(InvalidRequestError, match="at least one"):
        changes.check_specs(state, (), lambda _: True)
    many = tuple(make_spec(f"s{number}") for number in range(changes.SERVICES_MAX + 1))
    with pytest.raises(InvalidRequestError, match="1001 services"):
        changes.check_specs(state, many, lambda _: True)


def test_contents_that_the_node_does_not_have_are_named_all_at_once() -> None:
    module, file = BlobDigest("sha256:" + "a" * 64), BlobDigest("sha256:" + "b" * 64)
    wasm = ServiceSpec(name=make_spec("calc").name, source=WasmModule(module=module))
    web = make_spec(files=(FileSpec(target="/f", content=file),))
    assert changes.blobs_of(wasm) == (module,)
    with pytest.raises(InvalidRequestError) as caught:
        changes.check_specs(Cluster().state, (wasm, web), lambda _: False)
    assert module in caught.value.message
    assert file in caught.value.message


def test_a_spec_that_contradicts_a_service_that_runs_is_refused_and_one_that_replaces_it_is_not() -> None:
    cluster = Cluster()
    route = RouteSpec(domain="a.example")
    put(cluster, make_spec("web", routes=(route,), ports=()))
    with pytest.raises(InvalidSpecError, match="nothing was changed"):
        changes.check_specs(cluster.state, (make_spec("api", routes=(route,)),), lambda _: True)


def test_a_plan_says_what_the_deploy_then_does() -> None:
    cluster = Cluster()
    put(cluster, make_spec("web"), make_spec("db"), make_spec("old"))
    asked = (make_spec("web", "web:2"), make_spec("db"), make_spec("new"))
    planned = plan(cluster, *asked, prune=True)
    assert planned == [
        ("default/web", ChangeAction.UPDATE, True),
        ("default/db", ChangeAction.NOTHING, False),
        ("default/new", ChangeAction.CREATE, False),
        ("default/old", ChangeAction.REMOVE, False),
    ]
    outcome = put(cluster, *asked, prune=True)
    assert [(str(one.service), one.action) for one in outcome.changes] == [one[:2] for one in planned]


def test_more_copies_of_the_same_replace_nothing() -> None:
    cluster = Cluster()
    put(cluster, make_spec())
    assert plan(cluster, make_spec(replicas=3)) == [("default/web", ChangeAction.UPDATE, False)]
    (found,) = changes.plan_services(
        cluster.state, fleet_of(cluster.state, BELIEFS), DeployRequest(specs=(make_spec(replicas=3),))
    )
    assert [(one.node, one.copies) for one in found.placements] == [("n-a", 2)]


def test_a_restarted_service_is_not_replaced_again_by_a_deploy_of_the_same() -> None:
    cluster = Cluster()
    put(cluster, make_spec())
    cluster.restart("default/web")
    assert plan(cluster, make_spec()) == [("default/web", ChangeAction.NOTHING, False)]


def test_the_plan_after_a_failure_says_that_it_is_tried_again() -> None:
    world = World(nodes=(make_node("a"),))
    world.bad_images.add("web:1")
    put(world, make_spec())
    world.settle()
    assert world.record().rollout.state is RolloutState.FAILED
    assert plan(world, make_spec()) == [("default/web", ChangeAction.UPDATE, True)]


def test_what_does_not_fit_is_said_before_anything_is_changed() -> None:
    spec = make_spec(resources=Resources(cpu_milli=MilliCpu(10**6)))
    (found,) = changes.plan_services(Cluster().state, fleet_of(Cluster().state, BELIEFS), DeployRequest(specs=(spec,)))
    assert found.placements[0].node is None
    assert "a copy wants 1000" in found.placements[0].reason


def test_a_prune_touches_only_the_projects_that_the_deploy_names() -> None:
    cluster = Cluster()
    put(cluster, make_spec("a", project=ProjectName("one")), make_spec("b", project=ProjectName("two")))
    put(cluster, make_spec("c", project=ProjectName("one")), prune=True)
    assert sorted(cluster.state.services) == ["one/c", "two/b"]


def rollback(cluster: Cluster, revision: int | None = None) -> int:
    request = RollbackRequest(revision=None if revision is None else SpecRevision(revision))
    return int(changes.rollback_command(cluster.record(), request, RequestId("x"), Author(actor="ann"), NOW).to)


def test_a_rollback_goes_to_the_newest_revision_that_asked_for_something_else() -> None:
    cluster = Cluster()
    put(cluster, make_spec(image="web:1"))
    with pytest.raises(NotFoundError, match="no earlier revision"):
        rollback(cluster)
    put(cluster, make_spec(image="web:2"))
    cluster.restart("default/web")
    assert rollback(cluster) == 1
    assert rollback(cluster, 2) == 2


def test_an_unknown_service_is_refused_with_those_that_there_are() -> None:
    cluster = Cluster()
    with pytest.raises(NotFoundError, match="there are: none"):
        changes.existing(cluster.state, ServiceId("default/web"))
    put(cluster, make_spec("api"))
    with pytest.raises(NotFoundError, match="there are: api"):
        changes.existing(cluster.state, ServiceId("default/web"))


def test_a_refusal_becomes_the_error_that_it_names() -> None:
    changes.raise_refusal(Outcome(revision=StateRevision(1)))
    with pytest.raises(ConflictError, match="taken"):
        changes.raise_refusal(Outcome(revision=StateRevision(1), error="conflict", message="taken"))
    with pytest.raises(OrcaError):
        changes.raise_refusal(Outcome(revision=StateRevision(1), error="of the future", message="x"))
