"""The cluster's authorities: one signs, others are believed, and none goes while it is needed."""

import hashlib
from typing import Any

import msgspec

from consensus.state.commands import (
    AdmitNode,
    DropAuthority,
    DropDataKey,
    PutAuthority,
    PutDataKey,
    PutIngressAuthority,
    RecordCertificate,
    SignBy,
)
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from orca.model.ids import NodeId
from orca.model.trust import AuthorityState
from orca.model.units import WallMs
from tests.consensus.intent import Cluster
from tests.consensus.state.asking import admit, certificate, done, refused

ONE, TWO = NodeId("n-1"), NodeId("n-2")
OLD, NEW = (hashlib.sha256(name).hexdigest() for name in (b"old", b"new"))
SEALED = bytes(40)


def put(name: bytes, **fields: Any) -> dict[str, Any]:
    plain = {"authority": hashlib.sha256(name).hexdigest(), "certificate": name, "sealed_key": SEALED, "key_version": 1}
    return {**plain, **fields}


def signed(serial: str, authority: str) -> Any:
    return msgspec.structs.replace(certificate(serial), authority=authority)


def cluster_with_authority() -> Cluster:
    cluster = Cluster()
    admit(cluster, ONE, certificate=signed("1", OLD))
    admit(cluster, TWO, certificate=signed("2", OLD))
    done(cluster, PutDataKey, version=1, wrapped={ONE: b"w"})
    done(cluster, PutAuthority, **put(b"old"))
    return cluster


def states(cluster: Cluster) -> dict[str, AuthorityState]:
    return {one.fingerprint: one.state for one in cluster.state.authorities.values()}


def test_the_first_authority_signs_and_the_next_is_believed_until_it_is_told_to_sign() -> None:
    cluster = cluster_with_authority()
    done(cluster, PutAuthority, **put(b"new", cross=b"signed by old"))
    assert states(cluster) == {OLD: AuthorityState.SIGNING, NEW: AuthorityState.TRUSTED}
    done(cluster, SignBy, authority=NEW)
    assert states(cluster) == {OLD: AuthorityState.TRUSTED, NEW: AuthorityState.SIGNING}
    assert decode_snapshot(encode_snapshot(cluster.state)).authorities == cluster.state.authorities


def test_the_authority_of_the_ingress_stays_once_it_is_there_and_believes_in_no_node() -> None:
    cluster = cluster_with_authority()
    done(cluster, PutIngressAuthority, **put(b"web"))
    assert "signs for served names already" in refused(cluster, "conflict", PutIngressAuthority, **put(b"other"))
    assert "sealed key" in refused(cluster, "invalid_request", PutIngressAuthority, **put(b"web", sealed_key=b"clear"))
    assert list(cluster.state.authorities) == [OLD]
    assert decode_snapshot(encode_snapshot(cluster.state)).ingress_authority == cluster.state.ingress_authority
    done(cluster, PutDataKey, version=2, wrapped={ONE: b"w"})
    done(cluster, PutAuthority, **put(b"old", key_version=2))
    assert "private key of a CA" in refused(cluster, "conflict", DropDataKey, version=1)
    done(cluster, PutIngressAuthority, **put(b"web", sealed_key=bytes(41), key_version=2))
    assert "newer data key 2" in refused(cluster, "conflict", PutIngressAuthority, **put(b"web"))
    done(cluster, DropDataKey, version=1)
    assert cluster.state.ingress_authority is not None
    assert cluster.state.ingress_authority.sealed_key == bytes(41)
    refused(cluster, "conflict", PutIngressAuthority, **put(b"next", key_version=2, replaces=OLD))
    done(cluster, PutIngressAuthority, **put(b"next", key_version=2, replaces=hashlib.sha256(b"web").hexdigest()))
    assert cluster.state.ingress_authority.certificate == b"next"


def test_an_authority_is_dropped_when_every_node_has_a_certificate_of_another_one() -> None:
    cluster = cluster_with_authority()
    done(cluster, PutAuthority, **put(b"new"))
    assert "signs" in refused(cluster, "conflict", DropAuthority, authority=OLD)
    done(cluster, SignBy, authority=NEW)
    done(cluster, RecordCertificate, node=ONE, certificate=signed("3", NEW))
    assert "n-2 would be shut out" in refused(cluster, "conflict", DropAuthority, authority=OLD)
    done(cluster, RecordCertificate, node=TWO, certificate=signed("4", NEW))
    done(cluster, DropAuthority, authority=OLD)
    assert list(cluster.state.authorities) == [NEW]
    listed = {one.serial for node in cluster.state.nodes.values() for one in node.certificates}
    assert listed == {"3", "4"}, "what the old one signed is not good any more"


def test_a_forced_drop_shuts_out_who_has_no_other_certificate() -> None:
    cluster = cluster_with_authority()
    done(cluster, PutAuthority, **put(b"new"))
    done(cluster, SignBy, authority=NEW)
    done(cluster, DropAuthority, authority=OLD, is_forced=True)
    assert not cluster.state.nodes[TWO].certificates


def test_what_is_no_authority_is_refused() -> None:
    cluster = cluster_with_authority()
    assert "SHA-256" in refused(cluster, "invalid_request", PutAuthority, **put(b"new", authority="ab"))
    assert "sealed key" in refused(cluster, "invalid_request", PutAuthority, **put(b"new", sealed_key=b"clear"))
    assert "no data key 2" in refused(cluster, "not_found", PutAuthority, **put(b"new", key_version=2))
    assert "certificate has" in refused(cluster, "invalid_request", PutAuthority, **put(b"x" * 5000))
    assert "no authority" in refused(cluster, "not_found", SignBy, authority=NEW)
    assert "no authority" in refused(cluster, "not_found", DropAuthority, authority=NEW)


def test_the_key_of_an_authority_is_sealed_anew_and_only_then_its_data_key_may_go() -> None:
    cluster = cluster_with_authority()
    done(cluster, PutDataKey, version=2, wrapped={ONE: b"w"})
    assert "private key of a CA" in refused(cluster, "conflict", DropDataKey, version=1)
    done(cluster, PutAuthority, **put(b"old", sealed_key=bytes(41), key_version=2))
    assert cluster.state.authorities[OLD].state is AuthorityState.SIGNING
    assert "newer data key 2" in refused(cluster, "conflict", PutAuthority, **put(b"old"))
    done(cluster, DropDataKey, version=1)


def test_a_node_keeps_the_key_that_data_keys_are_wrapped_for() -> None:
    cluster = Cluster()
    admit(cluster, ONE, wrap_key=b"a" * 32)
    assert cluster.state.nodes[ONE].wrap_key == b"a" * 32
    admit(cluster, ONE)
    assert cluster.state.nodes[ONE].wrap_key == b"a" * 32
    other = AdmitNode(node=ONE, name="n-1", wrap_key=b"b" * 32, at_ms=WallMs(1))
    assert cluster.apply(other).error == "forbidden"
    short = AdmitNode(node=ONE, name="n-1", wrap_key=b"b", at_ms=WallMs(1))
    assert cluster.apply(short).error == "invalid_request"
