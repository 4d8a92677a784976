"""The tags by which nodes are told from other members of a gossip, and what they say. Pure.

A node that gossips itself is called by its id. A node whose membership is kept by a Serf agent beside it cannot
choose the agent's name, so that member carries the id in a tag.
"""

from typing import Final, Protocol

from gossip.driver import split_host_port
from gossip.machine import BESIDE_TAG, ORCA_TAG
from gossip.messages import Address
from node.mesh.driver import MeshAddress
from orca.errors import InvalidConfigError
from orca.model.ids import NodeId
from orca.version import VERSION

VERSION_TAG: Final = ORCA_TAG
ID_TAG: Final = BESIDE_TAG
MESH_TAG: Final = "mesh"
NAME_TAG: Final = "name"
CLUSTER_TAG: Final = "cluster"
ZONE_TAG: Final = "zone"
OWN_TAGS: Final = (VERSION_TAG, ID_TAG, MESH_TAG, NAME_TAG, CLUSTER_TAG, ZONE_TAG)
"""What a node says of itself; nobody else changes it."""
_TEXT_MAX: Final = 64


class Tagged(Protocol):
    """A member, as far as tags need it."""

    @property
    def node(self) -> str:
        """Its name."""
        ...

    @property
    def address(self) -> Address:
        """Where it gossips."""
        ...

    @property
    def tags(self) -> dict[str, str]:
        """What it says of itself."""
        ...


def own_tags(*, name: str, cluster: str, zone: str, mesh: MeshAddress | None, at: str) -> dict[str, str]:
    """What this node, whose gossip is seen at host `at`, says of itself; all tags have to fit 512 bytes."""
    tags = {VERSION_TAG: VERSION, NAME_TAG: name[:_TEXT_MAX], CLUSTER_TAG: cluster}
    if mesh is not None:
        tags[MESH_TAG] = str(mesh.port) if mesh.host == at else str(Address(mesh.host, mesh.port))
    if zone:
        tags[ZONE_TAG] = zone[:_TEXT_MAX]
    return tags


def node_of(member: Tagged) -> NodeId | None:
    """The node behind a member; None for one that is no Orca node."""
    if VERSION_TAG not in member.tags:
        return None
    return NodeId(member.tags.get(ID_TAG, member.node))


def name_of(member: Tagged) -> str:
    """What people call it."""
    return member.tags.get(NAME_TAG, member.node) if VERSION_TAG in member.tags else member.node


def is_beside(member: Tagged) -> bool:
    """Whether the member is a Serf agent that stands for a node beside it."""
    return VERSION_TAG in member.tags and ID_TAG in member.tags


def mesh_of(member: Tagged) -> MeshAddress | None:
    """Where the mesh of a member listens: its tag has the port, or the address when that is another than gossip's."""
    text = member.tags.get(MESH_TAG, "")
    if text.isdecimal():
        return MeshAddress(member.address.host, int(text)) if 0 < int(text) <= 65535 else None
    try:
        return MeshAddress(*split_host_port(text, 0))
    except InvalidConfigError:
        return None
