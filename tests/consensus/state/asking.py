"""Commands in one line: stamps and ordinary values are filled in."""

import hashlib
from typing import Any

from consensus.state.cluster import CertificateRecord, NodeRecord, Outcome
from consensus.state.commands import AdmitNode, Change, CreateJoinToken, RedeemJoinToken
from orca.model.ids import NodeId, RequestId, TokenId
from orca.model.node import NodeAddresses
from orca.model.units import WallMs
from tests.consensus.intent import Cluster

HOUR_MS = 3_600_000


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def ask(cluster: Cluster, kind: type[Change], **fields: Any) -> Outcome:
    stamp = {"request_id": RequestId(f"q{cluster.index}"), "at_ms": WallMs(cluster.at_ms), "actor": "ann"}
    return cluster.apply(kind(**{**stamp, **fields}))  # type: ignore[arg-type] # every kind of it is a command


def refused(cluster: Cluster, code: str, kind: type[Change], **fields: Any) -> str:
    """Ask for what must be refused without a change, and give the message."""
    before = cluster.image()
    outcome = ask(cluster, kind, **fields)
    assert outcome.error == code, outcome
    assert cluster.image() == before
    return outcome.message


def done(cluster: Cluster, kind: type[Change], **fields: Any) -> Outcome:
    """Ask for what must work."""
    outcome = ask(cluster, kind, **fields)
    assert not outcome.error, outcome.message
    return outcome


def admit(cluster: Cluster, node: str = "n-1", name: str = "", **fields: Any) -> NodeRecord:
    outcome = cluster.apply(AdmitNode(node=NodeId(node), name=name or node, at_ms=WallMs(cluster.at_ms), **fields))
    assert not outcome.error, outcome.message
    return cluster.state.nodes[NodeId(node)]


def certificate(serial: str = "01", not_after_ms: int = 10_000_000_000) -> CertificateRecord:
    return CertificateRecord(serial=serial, fingerprint=f"fp-{serial}", not_after_ms=WallMs(not_after_ms))


def make_join_token(cluster: Cluster, token: str = "t1", **fields: Any) -> None:
    expires = {"expires_at_ms": WallMs(cluster.at_ms + HOUR_MS)}
    done(cluster, CreateJoinToken, token=TokenId(token), secret_hash=digest("s"), **{**expires, **fields})


def redemption(node: str = "n-2", **fields: Any) -> dict[str, Any]:
    """The fields of a redemption that is right."""
    plain: dict[str, Any] = {
        "token": TokenId("t1"),
        "secret_hash": digest("s"),
        "node": NodeId(node),
        "name": node,
        "key": f"key-{node}",
        "addresses": NodeAddresses(mesh="10.0.0.2:6881"),
        "certificate": certificate(f"c-{node}"),
        "schema": 1,
    }
    return {**plain, **fields}


def redeem(cluster: Cluster, node: str = "n-2", **fields: Any) -> NodeRecord:
    done(cluster, RedeemJoinToken, **redemption(node, **fields))
    return cluster.state.nodes[NodeId(node)]
