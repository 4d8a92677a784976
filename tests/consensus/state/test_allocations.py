"""The table of allocations knows those of a service and of a node, whatever was done to it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.state.allocations import AllocationTable
from consensus.state.cluster import ClusterState
from orca.model.allocation import Allocation, DesiredStatus
from orca.model.ids import AllocationId, NodeId, ServiceId, SpecRevision


def make(name: str, service: str = "default/web", node: str = "a", **fields: Any) -> Allocation:
    return Allocation(
        id=AllocationId(name),
        service=ServiceId(service),
        revision=SpecRevision(1),
        template="t",
        slot=0,
        node=NodeId(node),
        **fields,
    )


NAMES = st.sampled_from("uvwxyz")
PUTS = st.tuples(NAMES, st.sampled_from(["p/a", "p/b"]), st.sampled_from("nm"))


@given(st.lists(PUTS | NAMES))
def test_what_is_kept_beside_follows_from_the_content(steps: list[Any]) -> None:
    table = AllocationTable()
    for step in steps:
        if isinstance(step, tuple):
            table[AllocationId(step[0])] = make(*step)
        else:
            table.pop(AllocationId(step), None)
        table.check_invariants()
    for service in ("p/a", "p/b"):
        expected = {name for name, one in table.items() if one.service == service}
        assert set(table.of_service(ServiceId(service))) == expected
    table.clear()
    assert not list(table.services())


def test_the_version_of_a_service_is_another_one_after_each_change_of_its_copies_and_no_others() -> None:
    table = AllocationTable({AllocationId("u"): make("u")})
    web, api = ServiceId("default/web"), ServiceId("default/api")
    first = table.version_of(web)
    table[AllocationId("v")] = make("v", "default/api")
    assert table.version_of(web) == first
    table[AllocationId("u")] = make("u", desired=DesiredStatus.STOPPED)
    second = table.version_of(web)
    assert second != first
    del table[AllocationId("u")]
    assert (table.version_of(web), table.version_of(api) != 0) == (0, True)
    table[AllocationId("u")] = make("u")
    assert table.version_of(web) not in {0, first, second}


def test_a_state_that_is_read_has_the_table_and_one_that_is_frozen_is_not_changed_by_it() -> None:
    state = ClusterState(allocations={AllocationId("u"): make("u")})
    frozen = state.freeze()
    state.allocations[AllocationId("v")] = make("v")
    assert list(frozen.allocations) == ["u"]
    assert [one.id for one in state.allocations_of(ServiceId("default/web"))] == ["u", "v"]
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=ClusterState)
    assert list(again.copies.of_node(NodeId("a"))) == ["u", "v"]


def test_what_would_go_around_the_table_is_refused() -> None:
    with pytest.raises(AssertionError, match="item by item"):
        AllocationTable().update({AllocationId("u"): make("u")})
