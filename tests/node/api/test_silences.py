"""What is shown of a node that does not answer is shown as old."""

import msgspec

from node.api.silences import Known, known_nodes, mark_services, unaged
from orca.model.ids import NodeId
from orca.model.view import MemberState, MemberView
from tests.orca.commands.views import copy, service


def member(state: MemberState, heard_age_ms: int | None = 400) -> MemberView:
    return MemberView(
        name="n2", id=NodeId("n-2"), address="", state=state, state_age_ms=9_000, heard_age_ms=heard_age_ms
    )


def test_a_node_that_answers_is_not_silent_and_one_that_does_not_has_an_age() -> None:
    assert known_nodes([member(MemberState.ALIVE)]) == {NodeId("n-2"): Known("n2", None)}
    assert known_nodes([member(MemberState.FAILED, 12_000)])[NodeId("n-2")].silent_ms == 12_000
    assert known_nodes([member(MemberState.FAILED, None)])[NodeId("n-2")].silent_ms == 9_000
    assert known_nodes([]) == {}


def test_copies_carry_the_silence_of_their_node_and_others_none() -> None:
    mine, theirs = copy("web", ready=True), msgspec.structs.replace(copy("web", 1, ready=True), node=NodeId("n-2"))
    (marked,) = mark_services((service("web", mine, theirs),), {NodeId("n-2"): Known("n2", 12_000)})
    assert [(one.node_name, one.silent_ms, one.is_ready) for one in marked.allocations] == [
        ("", None, True),
        ("n2", 12_000, True),
    ]
    (later,) = mark_services((service("web", mine, theirs),), {NodeId("n-2"): Known("n2", 13_000)})
    assert unaged((marked,)) == unaged((later,)), "a watch would never be quiet"
