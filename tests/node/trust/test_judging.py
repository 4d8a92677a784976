"""Whose certificate is good here and now, and why another one is not."""

import msgspec
import pytest

from consensus.state.commands import LeaveNode, RecordCertificate, RemoveNode
from node.trust.authority import BACKDATED_MS, CERTIFICATE_MS, cross_sign, is_signed_by, load_certificate
from node.trust.issuing import listing_of
from node.trust.judging import judge_certificate
from node.trust.kept import NodeKeys, make_keys
from orca.errors import ForbiddenError
from orca.model.ids import ClusterId, NodeId, RequestId
from orca.model.units import WallMs
from tests.node.trust.cluster import CLUSTER, NOW_MS, Member, certify, make_ca, order
from tests.node.trust.test_joining import join


def judge(
    member: Member, certificate: bytes, *, at_ms: int = NOW_MS, is_current: bool = True, anchors: tuple[bytes, ...] = ()
) -> NodeId:
    return judge_certificate(
        certificate,
        member.state,
        anchors or (member.authority.certificate,),
        cluster=CLUSTER,
        now_ms=WallMs(at_ms),
        is_current=is_current,
    )


def refused(member: Member, certificate: bytes, **more: object) -> str:
    with pytest.raises(ForbiddenError) as caught:
        judge(member, certificate, **more)  # type: ignore[arg-type]
    return caught.value.message


async def joined(member: Member) -> tuple[NodeKeys, bytes]:
    what = order(member.make_token())
    answer = await join(member, what)
    return what.keys, answer.certificate


async def test_a_certificate_on_the_list_is_good_in_its_time_only() -> None:
    member = Member()
    keys, certificate = await joined(member)
    assert judge(member, certificate) == keys.node
    early = refused(member, certificate, at_ms=NOW_MS - BACKDATED_MS - 1000)
    assert "is good from" in early
    assert "date -u" in early
    late = refused(member, certificate, at_ms=NOW_MS + CERTIFICATE_MS + 1000)
    assert "expired at" in late
    assert "token" in late


async def test_a_certificate_of_our_ca_that_is_not_on_the_list_is_not_good() -> None:
    member = Member()
    stolen = certify(member.authority, make_keys(NodeId("n-thief")))
    assert "is not a node" in refused(member, stolen)
    keys, _ = await joined(member)
    unlisted = certify(member.authority, keys)
    assert "not valid any more" in refused(member, unlisted)


def test_a_certificate_of_another_cluster_is_named_as_such() -> None:
    member, other = Member(), Member(ClusterId("c-other"))
    assert "belongs to cluster c-other" in refused(member, other.certificate)
    fake = make_ca()
    assert "is not a node" in refused(member, certify(fake, make_keys(NodeId("n-x"))))
    assert "names no node" in refused(member, member.authority.certificate)
    assert "cannot be read" in refused(member, b"\x30\x03abc")


async def test_a_removed_node_is_refused_by_name_also_by_who_knows_little() -> None:
    member = Member()
    keys, certificate = await joined(member)
    command = RemoveNode(request_id=RequestId("r"), at_ms=WallMs(NOW_MS), actor="ann", node=keys.node)
    assert not member.state_machine.apply(command).error
    for is_current in (True, False):
        assert "was removed from this cluster by ann" in refused(member, certificate, is_current=is_current)


async def test_a_node_that_left_is_none_any_more() -> None:
    member = Member()
    keys, certificate = await joined(member)
    command = LeaveNode(request_id=RequestId("r"), at_ms=WallMs(NOW_MS + 1), actor="x", node=keys.node)
    assert not member.state_machine.apply(command).error
    assert "is not a node" in refused(member, certificate)
    assert "is not a node" in refused(member, certificate, is_current=False), "it knows of the leaving"


async def test_who_was_away_believes_what_was_made_after_all_that_it_knows_and_only_that() -> None:
    member = Member()
    keys, _ = await joined(member)
    newer = certify(member.authority, keys, NOW_MS + 60_000)
    assert "not valid any more" in refused(member, newer, at_ms=NOW_MS + 60_000)
    assert judge(member, newer, at_ms=NOW_MS + 60_000, is_current=False) == keys.node
    older = certify(member.authority, keys, NOW_MS - 60_000)
    assert "not valid any more" in refused(member, older, is_current=False)


async def test_after_a_change_of_the_ca_only_what_a_trusted_one_signed_is_good() -> None:
    member = Member()
    keys, certificate = await joined(member)
    newer = make_ca()
    assert "trusts no more" in refused(member, certificate, anchors=(newer.certificate,))
    renewed = certify(newer, keys)
    command = RecordCertificate(
        request_id=RequestId("r"),
        at_ms=WallMs(NOW_MS),
        actor="x",
        node=keys.node,
        certificate=listing_of(renewed, newer.fingerprint),
    )
    assert not member.state_machine.apply(command).error
    assert judge(member, renewed, anchors=(newer.certificate,)) == keys.node


def test_a_cross_certificate_leads_from_the_newer_authority_to_the_older() -> None:
    older, newer = make_ca(), make_ca()
    cross = load_certificate(cross_sign(older, newer, serial=7, at_ms=NOW_MS))
    leaf = load_certificate(certify(newer, make_keys(NodeId("n-x"))))
    assert is_signed_by(cross, load_certificate(older.certificate))
    assert is_signed_by(leaf, cross)
    assert is_signed_by(leaf, load_certificate(newer.certificate))
    assert not is_signed_by(leaf, load_certificate(older.certificate))
    assert msgspec.structs.asdict(older)["cluster"] == CLUSTER
