"""A node that was off until its certificate expired makes itself a new one, and its peers take it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consensus.driver import ReplicaDriver
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.trust.authority import CERTIFICATE_MS, fingerprint_of
from node.trust.keepers import TrustKeeper
from node.trust.kept import KeptTrust, make_keys
from orca.errors import ForbiddenError
from orca.model.ids import NodeId
from tests.consensus.intent import CountingIds
from tests.node.trust.cluster import NOW_MS, Member, certify, make_ca

LATER_MS = NOW_MS + CERTIFICATE_MS + 60_000


def keeper_of(member: Member, environment: Environment) -> TrustKeeper:
    """What looks after the certificate; the parts of the node that it needs for other things are not there."""
    absent = cast("Any", None)
    return TrustKeeper(
        kept=KeptTrust(environment),
        credentials=member.credentials,
        data_keys=member.data_keys,
        issuer=member.issuer,
        service=absent,
        replica=cast("ReplicaDriver", member.replica),
        mesh=absent,
        membership=cast("Any", SimpleNamespace(ring=absent)),
        clock=member.clock,
        ids=CountingIds(),
        others=lambda: (),
        fed_age_s=lambda: 0.0,
    )


async def test_an_expired_certificate_is_renewed_by_the_node_itself_and_kept(tmp_path: Path) -> None:
    member = Member()
    member.clock.wall_ms = LATER_MS
    with pytest.raises(ForbiddenError, match="expired at"):
        member.credentials.authorize(member.certificate)
    with DataDirectory.open(tmp_path / "data") as directory, Environment.open(directory) as environment:
        keeper = keeper_of(member, environment)
        assert keeper._wants_certificate()
        await keeper._renew()
        kept = KeptTrust(environment).own()
    renewed = member.credentials.own.certificate
    assert kept is not None
    assert kept.certificate == renewed
    assert not keeper._wants_certificate()
    listed = [one.fingerprint for one in member.state.nodes[member.keys.node].certificates]
    assert fingerprint_of(renewed) in listed
    assert member.credentials.authorize(renewed) == member.keys.node


def test_peers_take_a_late_renewal_before_it_is_listed_for_the_nodes_own_key_only() -> None:
    member = Member()
    member.clock.wall_ms = NOW_MS
    with pytest.raises(ForbiddenError, match="not valid any more"):
        member.credentials.authorize(certify(member.authority, member.keys))
    member.clock.wall_ms = LATER_MS
    renewed = certify(member.authority, member.keys, LATER_MS)
    assert member.credentials.authorize(renewed) == member.keys.node
    stolen = certify(member.authority, make_keys(member.keys.node), LATER_MS)
    forged = certify(make_ca(at_ms=LATER_MS), member.keys, LATER_MS)
    unknown = certify(member.authority, make_keys(NodeId("n-unknown")), LATER_MS)
    for certificate in (stolen, forged, unknown):
        with pytest.raises(ForbiddenError):
            member.credentials.authorize(certificate)
