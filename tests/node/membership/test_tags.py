"""What tags say of a member."""

import pytest

from gossip.membership import Member, MemberStatus
from gossip.messages import MEMBERLIST_VERSION, Address
from node.membership.tags import is_beside, mesh_of, name_of, node_of, own_tags
from node.mesh.driver import MeshAddress
from orca.model.ids import NodeId


def member(node: str, **tags: str) -> Member:
    return Member(
        node=node,
        address=Address("10.0.0.1", 7946),
        tags=tags,
        status=MemberStatus.ALIVE,
        version=MEMBERLIST_VERSION,
    )


def test_a_node_is_called_by_its_id_and_an_agent_beside_one_by_the_id_in_its_tag() -> None:
    own, beside, plain = member("n-a", orca="1", name="a"), member("agent", orca="1", id="n-b"), member("agent")
    assert (node_of(own), name_of(own), is_beside(own)) == (NodeId("n-a"), "a", False)
    assert (node_of(beside), name_of(beside), is_beside(beside)) == (NodeId("n-b"), "agent", True)
    assert (node_of(plain), name_of(plain), is_beside(plain)) == (None, "agent", False)


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        ("6881", MeshAddress("10.0.0.1", 6881)),
        ("127.0.0.1:6881", MeshAddress("127.0.0.1", 6881)),
        ("[::1]:6881", MeshAddress("::1", 6881)),
        ("0", None),
        ("70000", None),
        ("no port", None),
        ("", None),
    ],
)
def test_the_mesh_is_where_gossip_is_unless_the_tag_says_otherwise(mesh: str, expected: MeshAddress | None) -> None:
    assert mesh_of(member("n-a", mesh=mesh)) == expected


@pytest.mark.parametrize("mesh", [MeshAddress("10.0.0.1", 1), MeshAddress("::1", 2)])
def test_what_a_node_says_of_its_mesh_is_understood(mesh: MeshAddress) -> None:
    tags = own_tags(name="a" * 100, cluster="c-1", zone="z", mesh=mesh, at="10.0.0.1")
    assert mesh_of(member("n-a", **tags)) == mesh
    assert len(tags["name"]) == 64
