"""Who belongs to the cluster: admission by token, certificates, labels, drains, removal."""

from typing import Any

import pytest

from consensus.state.cluster import NodeRecord
from consensus.state.commands import (
    AdmitNode,
    CommitPlan,
    CordonNode,
    CreateJoinToken,
    DrainNode,
    LabelNode,
    LeaveNode,
    RecordCertificate,
    RedeemJoinToken,
    RemoveNode,
    UndrainNode,
)
from orca.model.allocation import Allocation
from orca.model.ids import AllocationId, NodeId, RequestId, ServiceId, StateRevision, TokenId
from orca.model.node import NodeAddresses, NodeAvailability
from orca.model.trust import NodeRole
from orca.model.units import WallMs
from tests.consensus.intent import Cluster, make_spec
from tests.consensus.state.asking import (
    HOUR_MS,
    admit,
    ask,
    certificate,
    digest,
    done,
    make_join_token,
    redeem,
    redemption,
    refused,
)

NODE = NodeId("n-1")


def node(cluster: Cluster) -> NodeRecord:
    return cluster.state.nodes[NODE]


def run_a_copy(cluster: Cluster) -> AllocationId:
    cluster.put(make_spec())
    record = cluster.record()
    copy = Allocation(
        id=AllocationId("c1"),
        service=ServiceId("default/web"),
        revision=record.current.revision,
        template=record.current.template,
        slot=0,
        node=NODE,
    )
    base = StateRevision(cluster.state.revision)
    assert not cluster.apply(CommitPlan(base=base, at_ms=WallMs(1), placements=(copy,))).error
    return copy.id


def test_a_node_that_says_the_same_again_changes_nothing() -> None:
    cluster = Cluster()
    admit(cluster, key="k", addresses=NodeAddresses(mesh="a:1"), schema=1, release="1.0")
    before = cluster.image()
    admit(cluster)
    assert cluster.image() == before, "what it does not say stays"
    assert admit(cluster, addresses=NodeAddresses(mesh="b:1")).addresses.mesh == "b:1"


def test_two_nodes_of_one_name_are_refused_with_the_way_out() -> None:
    cluster = Cluster()
    admit(cluster, name="web1")
    outcome = cluster.apply(AdmitNode(node=NodeId("n-9"), name="web1", at_ms=WallMs(1)))
    assert outcome.error == "conflict"
    assert "another name" in outcome.message


def test_a_node_never_changes_its_key() -> None:
    cluster = Cluster()
    admit(cluster)
    assert admit(cluster, key="k").key == "k"
    outcome = cluster.apply(AdmitNode(node=NODE, name="n-1", key="other", at_ms=WallMs(1)))
    assert outcome.error == "forbidden"


def test_a_join_token_lets_in_as_many_nodes_as_it_has_uses() -> None:
    cluster = Cluster()
    make_join_token(cluster, uses=2, role=NodeRole.WORKER)
    assert redeem(cluster, "n-2").role is NodeRole.WORKER
    redeem(cluster, "n-3")
    assert "used up" in refused(cluster, "forbidden", RedeemJoinToken, **redemption("n-4"))
    assert list(cluster.state.nodes) == ["n-2", "n-3"]


def test_a_node_that_was_cut_off_before_the_answer_redeems_again_and_takes_no_second_use() -> None:
    cluster = Cluster()
    make_join_token(cluster)
    redeem(cluster, certificate=certificate("a"))
    record = redeem(cluster, certificate=certificate("b"))
    assert [one.serial for one in record.certificates] == ["a", "b"]
    assert cluster.state.join_tokens[TokenId("t1")].uses_left == 0
    assert len(cluster.state.join_tokens[TokenId("t1")].redeemed) == 1


def test_a_used_token_does_not_let_a_thief_in_under_the_name_of_the_node_that_used_it() -> None:
    cluster = Cluster()
    make_join_token(cluster, uses=5)
    redeem(cluster)
    assert "another key" in refused(cluster, "forbidden", RedeemJoinToken, **redemption(key="thief"))


def test_a_token_does_not_take_over_a_node_whose_key_nobody_knows() -> None:
    cluster = Cluster()
    admit(cluster, "n-1")
    make_join_token(cluster)
    refused(cluster, "forbidden", RedeemJoinToken, **redemption("n-1"))


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        ({"token": TokenId("t9")}, "forbidden", "not valid here"),
        ({"secret_hash": digest("guess")}, "forbidden", "not valid here"),
        ({"secret_hash": b""}, "forbidden", "not valid here"),
        ({"at_ms": WallMs(1_000_000 + HOUR_MS)}, "forbidden", "expired 0 s ago"),
        ({"name": "n-1"}, "conflict", "another name"),
        ({"name": ""}, "invalid_request", "empty"),
        ({"key": ""}, "invalid_request", "empty"),
        ({"schema": 0}, "conflict", "newer release"),
        ({"certificate": certificate("")}, "invalid_request", "serial"),
        ({"addresses": NodeAddresses(mesh="x" * 300)}, "invalid_request", "mesh address"),
    ],
)
def test_what_is_wrong_with_a_redemption_is_said_and_changes_nothing(
    wrong: dict[str, Any], code: str, words: str
) -> None:
    cluster = Cluster()
    admit(cluster, "n-1", key="k")
    make_join_token(cluster)
    assert words in refused(cluster, code, RedeemJoinToken, **{**redemption(), **wrong})
    redeem(cluster)


def test_a_node_of_an_older_release_than_the_cluster_needs_is_not_let_in() -> None:
    cluster = Cluster()
    cluster.state.schema = 2
    make_join_token(cluster)
    assert "schema 2" in refused(cluster, "conflict", RedeemJoinToken, **redemption(schema=1))
    redeem(cluster, schema=3)


def test_certificates_are_those_that_are_good_and_not_more_than_a_few() -> None:
    cluster = Cluster()
    admit(cluster, certificate=certificate("old", not_after_ms=cluster.at_ms))
    for number in range(20):
        done(cluster, RecordCertificate, node=NODE, certificate=certificate(str(number)))
    assert [one.serial for one in node(cluster).certificates] == [str(number) for number in range(12, 20)]
    done(cluster, RecordCertificate, node=NODE, certificate=certificate("new"), retires_others=True)
    assert [one.serial for one in node(cluster).certificates] == ["new"]


def test_labels_are_set_and_removed_together() -> None:
    cluster = Cluster()
    admit(cluster)
    done(cluster, LabelNode, node=NODE, labels={"zone": "b", "disk": "ssd"})
    done(cluster, LabelNode, node=NODE, labels={"zone": "c"}, remove=("disk",))
    assert node(cluster).labels == {"zone": "c"}
    assert "there are: zone" in refused(cluster, "not_found", LabelNode, node=NODE, remove=("disk",))
    assert refused(cluster, "conflict", LabelNode, node=NODE, labels={str(one): "" for one in range(65)})
    assert refused(cluster, "invalid_request", LabelNode, node=NODE, labels={"": "x"})
    assert refused(cluster, "not_found", LabelNode, node=NodeId("n-9"), labels={"a": "b"})


def test_a_node_is_cordoned_drained_and_taken_back() -> None:
    cluster = Cluster()
    admit(cluster)
    done(cluster, CordonNode, node=NODE, reason="new disk")
    assert node(cluster).availability is NodeAvailability.CORDONED
    done(cluster, DrainNode, node=NODE, deadline_at_ms=WallMs(cluster.at_ms + HOUR_MS))
    drain = node(cluster).drain
    assert node(cluster).availability is NodeAvailability.DRAINING
    assert drain is not None
    assert (drain.actor, drain.deadline_at_ms) == ("ann", cluster.at_ms + HOUR_MS)
    done(cluster, UndrainNode, node=NODE)
    assert (node(cluster).availability, node(cluster).drain) == (NodeAvailability.ACTIVE, None)


def test_a_plan_made_before_a_drain_is_void_and_one_made_before_a_token_is_not() -> None:
    cluster = Cluster()
    admit(cluster)
    before = StateRevision(cluster.state.revision)
    make_join_token(cluster)
    assert not cluster.apply(CommitPlan(base=before, at_ms=WallMs(1))).error
    before = StateRevision(cluster.state.revision)
    done(cluster, CordonNode, node=NODE)
    assert cluster.apply(CommitPlan(base=before, at_ms=WallMs(1))).error == "conflict"
    ahead = StateRevision(cluster.state.revision + 1)
    assert cluster.apply(CommitPlan(base=ahead, at_ms=WallMs(1))).error == "conflict"


def test_a_removed_node_never_comes_back_by_any_way() -> None:
    cluster = Cluster()
    admit(cluster, certificate=certificate("c"), key="k")
    done(cluster, RemoveNode, node=NODE, reason="stolen")
    assert not cluster.state.nodes
    revoked = cluster.state.revoked[NODE]
    assert (revoked.reason, revoked.key, revoked.certificates) == ("stolen", "k", (certificate("c"),))
    make_join_token(cluster)
    assert "for ever" in refused(cluster, "forbidden", RedeemJoinToken, **redemption("n-1", key="k"))
    assert cluster.apply(AdmitNode(node=NODE, name="new", at_ms=WallMs(1))).error == "forbidden"
    for kind, fields in ((RecordCertificate, {"certificate": certificate("d")}), (UndrainNode, {}), (RemoveNode, {})):
        refused(cluster, "forbidden", kind, node=NODE, **fields)


def test_a_node_that_left_comes_back_with_a_new_token_and_no_old_certificate() -> None:
    cluster = Cluster()
    make_join_token(cluster, uses=2)
    redeem(cluster, certificate=certificate("old"))
    done(cluster, LeaveNode, node=NodeId("n-2"))
    assert not cluster.state.nodes
    redeem(cluster)
    done(cluster, LeaveNode, node=NodeId("n-2"))
    for key in ("key-n-2", "thief"):
        assert "used up" in refused(cluster, "forbidden", RedeemJoinToken, **redemption(key=key))
    done(cluster, CreateJoinToken, token=TokenId("t2"), secret_hash=digest("s"), expires_at_ms=WallMs(9_000_000))
    record = redeem(cluster, token=TokenId("t2"), certificate=certificate("new"))
    assert [one.serial for one in record.certificates] == ["new"]


def test_a_node_that_is_to_run_something_goes_only_by_force_and_its_copies_with_it() -> None:
    cluster = Cluster()
    admit(cluster)
    copy = run_a_copy(cluster)
    for kind in (LeaveNode, RemoveNode):
        assert "drain it first" in refused(cluster, "conflict", kind, node=NODE)
    done(cluster, RemoveNode, node=NODE, is_forced=True)
    assert copy not in cluster.state.allocations
    record = cluster.record()
    again = Allocation(
        id=copy,
        service=record.id,
        revision=record.current.revision,
        template=record.current.template,
        slot=0,
        node=NODE,
    )
    plan = CommitPlan(base=StateRevision(cluster.state.revision), at_ms=WallMs(1), placements=(again,))
    assert "was removed" in cluster.apply(plan).message


def test_a_copy_of_a_removed_service_on_a_node_that_goes_leaves_nothing_behind() -> None:
    cluster = Cluster()
    admit(cluster)
    run_a_copy(cluster)
    cluster.remove("default/web")
    done(cluster, LeaveNode, node=NODE)
    assert not cluster.state.removed


def test_the_same_request_of_a_node_is_answered_from_the_first_time() -> None:
    cluster = Cluster()
    make_join_token(cluster)
    first = ask(cluster, RedeemJoinToken, **redemption(request_id=RequestId("join")))
    before = cluster.image()
    again = ask(cluster, RedeemJoinToken, **redemption("n-7", request_id=RequestId("join")))
    assert again == first
    assert cluster.image() == before
