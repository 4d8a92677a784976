"""Members of the gossip that are nodes of one cluster."""

import pytest

from node.membership.sightings import sightings
from node.membership.tags import CLUSTER_TAG
from orca.model.ids import NodeId
from orca.model.view import MemberState, MemberView


def member(
    name: str, state: MemberState = MemberState.ALIVE, *, cluster: str = "c-1", is_node: bool = True
) -> MemberView:
    return MemberView(
        name=name,
        id=NodeId(f"n-{name}") if is_node else None,
        address="127.0.0.1:7946",
        state=state,
        state_age_ms=1500,
        zone="x",
        tags={CLUSTER_TAG: cluster},
    )


def test_only_nodes_of_the_cluster_are_seen() -> None:
    members = [member("a"), member("b", cluster="c-2"), member("agent", is_node=False)]
    found = sightings(members, "c-1")
    assert list(found) == ["n-a"]
    assert (found[NodeId("n-a")].state_age_s, found[NodeId("n-a")].zone) == (1.5, "x")


@pytest.mark.parametrize("state", MemberState)
def test_who_is_suspected_or_leaves_is_still_alive(state: MemberState) -> None:
    (sight,) = sightings([member("a", state)], "c-1").values()
    assert sight.is_alive == (state in {MemberState.ALIVE, MemberState.SUSPECT, MemberState.LEAVING})
