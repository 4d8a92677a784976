"""Each change leaves who, what, from where and what came of it; the ring has an end."""

import pytest

from consensus.state import apply as applying
from consensus.state.commands import (
    ChangeSettings,
    CommitPlan,
    CordonNode,
    CreateJoinToken,
    PutDataKey,
    PutSecrets,
    RecordDeed,
    RedeemJoinToken,
    SealedEntry,
    StopService,
)
from orca.model.ids import NodeId, RequestId, SecretId, ServiceId, TokenId
from orca.model.units import WallMs
from tests.consensus.intent import Cluster, make_spec
from tests.consensus.state.asking import admit, ask, digest, make_join_token, redemption


def last(cluster: Cluster) -> tuple[str, str, str, str, str]:
    record = next(reversed(cluster.state.audit.values()))
    assert record.index == cluster.index
    return record.actor, record.origin, record.action, record.subject, record.result


def test_a_change_leaves_who_what_from_where_and_its_result() -> None:
    cluster = Cluster()
    cluster.put(*(make_spec(f"s{number}") for number in range(7)), origin="10.0.0.1")
    assert last(cluster) == ("ann", "10.0.0.1", "put_services", "s0, s1, s2, s3, s4 and 2 more", "ok")
    ask(cluster, StopService, service=ServiceId("shop/web"))
    assert last(cluster) == ("ann", "", "stop_service", "shop/web", "not_found")
    assert next(reversed(cluster.state.audit.values())).message == "there is no service shop/web"
    admit(cluster, actor="n-1", origin="local")
    assert last(cluster) == ("n-1", "local", "admit_node", "n-1", "ok")
    ask(cluster, CordonNode, node=NodeId("n-1"))
    assert last(cluster)[2:] == ("cordon_node", "n-1", "ok")
    ask(cluster, ChangeSettings, name="shop")
    assert last(cluster)[3] == "the cluster"


def test_the_audit_names_tokens_and_secrets_and_shows_none() -> None:
    cluster = Cluster()
    admit(cluster)
    make_join_token(cluster)
    assert last(cluster)[2:] == ("create_join_token", "token t1", "ok")
    ask(cluster, RedeemJoinToken, **redemption(secret_hash=digest("guess")))
    assert last(cluster)[2:] == ("redeem_join_token", "n-2", "forbidden")
    ask(cluster, PutDataKey, version=1, wrapped={NodeId("n-1"): b"wrapped"})
    assert last(cluster)[3] == "data key 1"
    sealed = SealedEntry(secret=SecretId("shop/db"), key_version=1, ciphertext=b"c" * 40)
    ask(cluster, PutSecrets, entries=(sealed,))
    assert last(cluster)[3] == "shop/db"
    assert "cccc" not in repr(cluster.state.audit)


def test_what_the_cluster_does_by_itself_and_what_comes_twice_leaves_nothing() -> None:
    cluster = Cluster()
    cluster.put(make_spec(), request_id=RequestId("x"))
    cluster.put(make_spec(), request_id=RequestId("x"))
    cluster.apply(CommitPlan(base=cluster.state.revision, at_ms=WallMs(1)))
    assert len(cluster.state.audit) == 1


def test_the_audit_has_an_end_and_long_words_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.state.applying.auditing.AUDIT_KEPT", 5)
    monkeypatch.setattr("consensus.state.cluster.TRIMMED_AT_ONCE", 4)
    cluster = Cluster()
    for _ in range(13):
        ask(cluster, StopService, service=ServiceId("x" * 5_000), actor="a" * 5_000)
    assert list(cluster.state.audit) == [9, 10, 11, 12, 13]
    record = cluster.state.audit[next(iter(cluster.state.audit))]
    assert max(len(record.actor), len(record.subject), len(record.message)) == 300


def test_answers_that_name_many_services_leave_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "REQUEST_CHANGES_KEPT", 10)
    cluster = Cluster()
    for number in range(6):
        cluster.put(*(make_spec(f"s{one}", f"i:{number}") for one in range(4)))
    assert list(cluster.state.requests) == ["r4", "r5"]
    cluster.put(*(make_spec(f"s{one}", "i:9") for one in range(20)))
    assert list(cluster.state.requests) == ["r6"], "the newest stays, however large"


def test_stamps_that_cannot_be_are_refused() -> None:
    cluster = Cluster()
    for at_ms in (-1, 2**60):
        outcome = ask(cluster, ChangeSettings, name="x", at_ms=WallMs(at_ms))
        assert outcome.error == "invalid_request"
    fields = {"token": TokenId("t"), "secret_hash": digest("s"), "expires_at_ms": WallMs(2_000_000)}
    assert ask(cluster, CreateJoinToken, request_id=RequestId("x" * 300), **fields).error == "invalid_request"
    assert not [request for request in cluster.state.requests if len(request) > 255], "a long id is not kept either"
    assert ask(cluster, CreateJoinToken, origin="x" * 300, **fields).error == "invalid_request"


def test_what_nodes_refuse_is_kept_apart_and_a_flood_of_it_pushes_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.state.applying.auditing.REFUSALS_KEPT", 5)
    monkeypatch.setattr("consensus.state.cluster.TRIMMED_AT_ONCE", 4)
    cluster = Cluster()
    ask(cluster, StopService, service=ServiceId("shop/web"))
    ask(cluster, RecordDeed, action="exec", subject="shop/web.1", actor="token:ci", origin="10.0.0.9")
    assert last(cluster) == ("token:ci", "10.0.0.9", "exec", "shop/web.1", "ok")
    for count in range(1, 14):
        ask(cluster, RecordDeed, action="put_services", result="forbidden", count=count)
    assert len(cluster.state.audit) == 2
    assert [one.count for one in cluster.state.refusals.values()] == [9, 10, 11, 12, 13]
    assert "1 or more" in ask(cluster, RecordDeed, action="exec", count=0).message
