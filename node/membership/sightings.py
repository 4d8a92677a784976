"""Members of the gossip that are nodes of one cluster. Pure."""

from collections.abc import Iterable

from node.membership.sighting import Sighting
from node.membership.tags import CLUSTER_TAG
from orca.model.ids import NodeId
from orca.model.view import MemberView


def sightings(members: Iterable[MemberView], cluster: str) -> dict[NodeId, Sighting]:
    """The members that are nodes of `cluster`; of a node that is two members, the one that lives."""
    found: dict[NodeId, Sighting] = {}
    for member in members:
        if member.id is None or member.tags.get(CLUSTER_TAG) != cluster:
            continue
        sighting = Sighting(
            node=member.id,
            name=member.name,
            zone=member.zone,
            state=member.state,
            state_age_s=member.state_age_ms / 1000,
        )
        known = found.get(member.id)
        if known is None or not known.is_alive:
            found[member.id] = sighting
    return found
