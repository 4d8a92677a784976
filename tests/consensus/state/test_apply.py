"""What each command does to the state, and what refuses it."""

from typing import Any

import msgspec
import pytest

from consensus.state.apply import REVISIONS_KEPT, apply
from consensus.state.cluster import REQUESTS_KEPT, TRIMMED_AT_ONCE
from consensus.state.commands import AdmitNode, CommitPlan, RolloutUpdate, StopService
from orca.model.allocation import Allocation, DesiredStatus
from orca.model.ids import AllocationId, LogIndex, NodeId, RequestId, ServiceId, SpecRevision, StateRevision
from orca.model.spec import RouteSpec
from orca.model.units import WallMs
from orca.model.view import ChangeAction, RolloutState
from tests.consensus.intent import Cluster, make_spec

WEB = ServiceId("default/web")


def place(cluster: Cluster, *slots: int, service: str = "default/web") -> list[AllocationId]:
    """Place copies of the newest revision and give their ids."""
    record = cluster.record(service)
    made = [
        Allocation(
            id=AllocationId(f"{record.id}-{record.current.revision}-{slot}-{cluster.index}"),
            service=record.id,
            revision=record.current.revision,
            template=record.current.template,
            slot=slot,
            node=NodeId("n-1"),
        )
        for slot in slots
    ]
    outcome = cluster.apply(plan(cluster, placements=tuple(made)))
    assert not outcome.error
    return [one.id for one in made]


def plan(cluster: Cluster, **fields: object) -> CommitPlan:
    base = StateRevision(cluster.state.revision)
    return msgspec.structs.replace(CommitPlan(base=base, at_ms=WallMs(cluster.at_ms)), **fields)


def fail_rollout(cluster: Cluster) -> None:
    record = cluster.record()
    update = RolloutUpdate(
        service=WEB,
        revision=record.current.revision,
        state=RolloutState.FAILED,
        healthy=0,
        deadline_at_ms=WallMs(0),
        message="no",
    )
    assert not cluster.apply(plan(cluster, rollouts=(update,))).error


def actions(outcome: object) -> list[tuple[str, ChangeAction, int]]:
    changes = outcome.changes  # type: ignore[attr-defined]
    return [(str(one.service), one.action, int(one.revision)) for one in changes]


def test_a_deploy_creates_updates_and_leaves_alone() -> None:
    cluster = Cluster()
    web, db = make_spec("web"), make_spec("db")
    first = cluster.put(web, db)
    assert actions(first) == [("default/web", ChangeAction.CREATE, 1), ("default/db", ChangeAction.CREATE, 1)]
    second = cluster.put(make_spec("web", "web:2"), db)
    assert actions(second) == [("default/web", ChangeAction.UPDATE, 2), ("default/db", ChangeAction.NOTHING, 1)]
    assert second.revision == 2
    third = cluster.put(make_spec("web", "web:2"), db)
    assert third.revision == 2, "a deploy without effect is no new state"


def test_the_same_request_is_carried_out_once_and_answered_from_the_first_time() -> None:
    cluster = Cluster()
    first = cluster.put(make_spec(image="web:1"), request_id=RequestId("x"))
    cluster.put(make_spec(image="web:2"))
    before = cluster.image()
    again = cluster.put(make_spec(image="web:1"), request_id=RequestId("x"))
    assert again == first
    assert cluster.image() == before


def test_a_refusal_is_remembered_under_its_request_too() -> None:
    cluster = Cluster()
    stop = StopService(request_id=RequestId("x"), at_ms=WallMs(0), actor="ann", service=WEB)
    assert cluster.apply(stop).error == "not_found"
    cluster.put(make_spec())
    assert cluster.apply(stop).error == "not_found", "the caller was told that it did not happen"


def test_the_window_of_requests_is_bounded() -> None:
    cluster = Cluster()
    for number in range(REQUESTS_KEPT + TRIMMED_AT_ONCE):
        stop = StopService(request_id=RequestId(f"x{number}"), at_ms=WallMs(0), actor="ann", service=WEB)
        apply(cluster.state, LogIndex(number), stop)
    assert len(cluster.state.requests) == REQUESTS_KEPT
    assert RequestId(f"x{TRIMMED_AT_ONCE - 1}") not in cluster.state.requests


def test_a_deploy_that_takes_a_route_of_another_service_changes_nothing_at_all() -> None:
    cluster = Cluster()
    cluster.put(make_spec("web", routes=(RouteSpec(domain="a.example", path="/x"),)))
    before = cluster.image()
    refused = cluster.put(make_spec("db"), make_spec("api", routes=(RouteSpec(domain="a.example", path="/x/"),)))
    assert refused.error == "conflict"
    assert "web" in refused.message
    assert "api" in refused.message
    assert cluster.image() == before


def test_a_route_moves_when_its_holder_leaves_in_the_same_deploy() -> None:
    cluster = Cluster()
    route = RouteSpec(domain="a.example")
    cluster.put(make_spec("web", routes=(route,)))
    moved = cluster.put(make_spec("api", routes=(route,)), prune=("default",))
    assert not moved.error
    assert list(cluster.state.services) == ["default/api"]


def test_a_deploy_that_names_a_service_twice_is_refused() -> None:
    cluster = Cluster()
    assert cluster.put(make_spec("web"), make_spec("web", "web:2")).error == "invalid_spec"
    assert not cluster.state.services


@pytest.mark.parametrize(
    "fields", [{"replicas": -1}, {"replicas": 10_001}, *({"deploy": {"deadline_s": one}} for one in (-1.0, 1e300))]
)
def test_a_spec_that_no_replica_could_count_with_is_refused(fields: dict[str, Any]) -> None:
    cluster = Cluster()
    assert cluster.put(make_spec("db"), make_spec(**fields)).error == "invalid_spec"
    assert not cluster.state.services


def test_copies_whose_template_is_the_same_belong_to_the_new_revision() -> None:
    cluster = Cluster()
    cluster.put(make_spec(replicas=1))
    (copy,) = place(cluster, 0)
    cluster.scale("default/web", 3)
    assert cluster.state.allocations[copy].revision == 2
    cluster.put(make_spec(image="web:2", replicas=3))
    assert cluster.state.allocations[copy].revision == 2, "another template: it stays what it is"
    cluster.roll_back("default/web", 2)
    assert cluster.state.allocations[copy].revision == 4


def test_a_restart_wants_new_copies_and_a_deploy_of_the_same_spec_keeps_those() -> None:
    cluster = Cluster()
    spec = make_spec()
    cluster.put(spec)
    (old,) = place(cluster, 0)
    cluster.restart("default/web")
    present = cluster.record().current.template
    assert cluster.state.allocations[old].template != present
    cluster.put(msgspec.structs.replace(spec, replicas=2))
    assert cluster.record().current.template == present


def test_a_deploy_after_a_failure_tries_again_with_new_copies() -> None:
    cluster = Cluster()
    cluster.put(make_spec())
    (old,) = place(cluster, 0)
    fail_rollout(cluster)
    outcome = cluster.put(make_spec())
    assert actions(outcome) == [("default/web", ChangeAction.UPDATE, 2)]
    assert cluster.record().current.template != cluster.state.allocations[old].template
    assert cluster.record().rollout.state is RolloutState.PROGRESSING


def test_stop_and_start_keep_the_revision_and_say_when_there_is_nothing_to_do() -> None:
    cluster = Cluster()
    cluster.put(make_spec(replicas=2))
    assert actions(cluster.stop("default/web")) == [("default/web", ChangeAction.UPDATE, 1)]
    assert cluster.record().replicas == 0
    assert actions(cluster.stop("default/web")) == [("default/web", ChangeAction.NOTHING, 1)]
    cluster.scale("default/web", 4)
    assert cluster.record().replicas == 0, "scaling does not start what was stopped"
    cluster.start("default/web")
    assert cluster.record().replicas == 4


def test_a_deploy_of_the_same_spec_starts_what_was_stopped() -> None:
    cluster = Cluster()
    cluster.put(make_spec())
    cluster.stop("default/web")
    assert actions(cluster.put(make_spec())) == [("default/web", ChangeAction.UPDATE, 2)]
    assert not cluster.record().is_stopped


def test_a_rollback_to_what_is_not_kept_names_what_is() -> None:
    cluster = Cluster()
    cluster.put(make_spec())
    cluster.put(make_spec(image="web:2"))
    outcome = cluster.roll_back("default/web", 9)
    assert outcome.error == "not_found"
    assert "1, 2" in outcome.message
    assert cluster.roll_back("default/web", 2).error == "conflict"


def test_a_rollback_that_would_take_a_route_back_from_another_service_is_refused() -> None:
    cluster = Cluster()
    route = RouteSpec(domain="a.example")
    cluster.put(make_spec("web", routes=(route,)))
    cluster.put(make_spec("web", image="web:2"))
    cluster.put(make_spec("api", routes=(route,)))
    assert cluster.roll_back("default/web", 1).error == "conflict"
    assert cluster.record().current.revision == 2


def test_fewer_than_no_copies_cannot_be_asked_for() -> None:
    cluster = Cluster()
    cluster.put(make_spec())
    assert cluster.scale("default/web", -1).error == "invalid_request"
    assert cluster.record().replicas == 1


def test_only_the_last_revisions_and_those_in_use_are_kept() -> None:
    cluster = Cluster()
    cluster.put(make_spec(image="web:0"))
    (copy,) = place(cluster, 0)
    for number in range(1, REVISIONS_KEPT + 10):
        cluster.put(make_spec(image=f"web:{number}"))
    kept = [int(one.revision) for one in cluster.record().revisions]
    assert kept == [1, *range(11, REVISIONS_KEPT + 11)]
    assert cluster.state.spec_of(cluster.state.allocations[copy]).source == make_spec(image="web:0").source


def test_a_service_that_was_removed_and_made_again_never_takes_a_stopping_copy_for_its_own() -> None:
    cluster = Cluster()
    cluster.put(make_spec(image="web:1"))
    (old,) = place(cluster, 0)
    cluster.remove("default/web")
    assert cluster.state.allocations[old].desired is DesiredStatus.STOPPED
    assert cluster.state.spec_of(cluster.state.allocations[old]) == make_spec(image="web:1")
    cluster.put(make_spec(image="web:9"))
    assert cluster.record().current.revision == 2
    assert cluster.state.spec_of(cluster.state.allocations[old]) == make_spec(image="web:1")
    (new,) = place(cluster, 0)
    cluster.remove("default/web")
    cluster.put(make_spec(image="web:7"))
    assert cluster.record().current.revision == 3
    specs = [cluster.state.spec_of(cluster.state.allocations[name]) for name in (old, new)]
    assert specs == [make_spec(image="web:1"), make_spec(image="web:9")]
    cluster.apply(plan(cluster, forgets=(old, new)))
    assert not cluster.state.removed, "nothing is kept of what nobody needs"


def test_what_is_kept_of_a_removed_service_goes_also_while_its_successor_runs() -> None:
    cluster = Cluster()
    cluster.put(make_spec(image="web:1"))
    (old,) = place(cluster, 0)
    cluster.remove("default/web")
    cluster.put(make_spec(image="web:2"))
    place(cluster, 0)
    cluster.apply(plan(cluster, forgets=(old,)))
    assert not cluster.state.removed


def test_a_plan_that_was_made_for_another_state_is_void() -> None:
    cluster = Cluster()
    cluster.put(make_spec())
    stale = plan(cluster, placements=())
    cluster.put(make_spec("db"))
    before = cluster.image()
    assert cluster.apply(stale).error == "conflict"
    assert cluster.image() == before


@pytest.mark.parametrize("wrong", ["service", "revision", "template", "id", "twice", "stop", "forget"])
def test_a_plan_that_does_not_fit_changes_nothing(wrong: str) -> None:
    cluster = Cluster()
    cluster.put(make_spec())
    (known,) = place(cluster, 0)
    good = msgspec.structs.replace(cluster.state.allocations[known], id=AllocationId("fresh"), slot=1)
    stranger = AllocationId("stranger")
    plans: dict[str, dict[str, object]] = {
        "service": {"placements": (good, msgspec.structs.replace(good, id=stranger, service=ServiceId("a/b")))},
        "revision": {"placements": (good, msgspec.structs.replace(good, id=stranger, revision=SpecRevision(7)))},
        "template": {"placements": (good, msgspec.structs.replace(good, id=stranger, template="other"))},
        "id": {"placements": (good, msgspec.structs.replace(good, id=known))},
        "twice": {"placements": (good, good)},
        "stop": {"placements": (good,), "stops": (stranger,)},
        "forget": {"placements": (good,), "forgets": (stranger,)},
    }
    before = cluster.image()
    assert cluster.apply(plan(cluster, **plans[wrong])).error == "conflict"
    assert cluster.image() == before


def test_a_copy_that_is_forgotten_twice_in_a_plan_is_forgotten() -> None:
    cluster = Cluster()
    cluster.put(make_spec())
    (copy,) = place(cluster, 0)
    assert not cluster.apply(plan(cluster, stops=(copy,), forgets=(copy, copy))).error
    assert not cluster.state.allocations


def test_a_node_keeps_the_time_of_its_admission_when_its_name_changes() -> None:
    cluster = Cluster()
    cluster.apply(AdmitNode(node=NodeId("n-1"), name="one", at_ms=WallMs(1)))
    cluster.apply(AdmitNode(node=NodeId("n-1"), name="uno", at_ms=WallMs(2)))
    (record,) = cluster.state.nodes.values()
    assert (record.name, record.admitted_at_ms) == ("uno", 1)
