"""The newest word of a copy's own node wins, and whoever waits for news gets them."""

import trio
import trio.testing

from node.beliefs import BeliefTable
from orca.model.allocation import AllocationStatus
from orca.model.ids import AllocationId, NodeId, ServiceId, SpecRevision
from orca.model.units import WallMs
from tests.consensus.scheduler.fake_world import make_node

A = AllocationId("a")


def status(version: int, node: str = "n-1", reason: str = "") -> AllocationStatus:
    return AllocationStatus(
        allocation=A,
        service=ServiceId("default/web"),
        node=NodeId(node),
        revision=SpecRevision(1),
        version=version,
        reason=reason,
    )


def test_the_last_word_holds_and_the_same_again_is_no_news() -> None:
    table = BeliefTable()
    assert table.put_status(status(2))
    assert not table.put_status(status(2))
    assert table.put_status(status(3, reason="new"))
    assert table.view().statuses[A].reason == "new"


def test_a_node_that_started_again_is_believed_although_it_counts_from_one() -> None:
    table = BeliefTable()
    table.put_status(status(4, reason="ready before the node died"))
    assert table.put_status(status(2, reason="stopped after its return"))
    assert table.statuses[A].reason == "stopped after its return"


def test_a_copy_that_moved_is_told_of_by_its_new_node() -> None:
    table = BeliefTable()
    table.put_status(status(9))
    assert table.put_status(status(1, node="n-2"))


def test_only_news_count_as_changes() -> None:
    table = BeliefTable()
    node = make_node("a")
    assert table.put_node(node)
    assert not table.put_node(node)
    table.put_status(status(1))
    table.put_status(status(1))
    table.drop_status(A)
    table.drop_status(A)
    assert table.changes == 3


async def test_everybody_who_waits_gets_the_news(autojump_clock: trio.testing.MockClock) -> None:
    table = BeliefTable()
    seen: list[tuple[str, int]] = []

    async def wait(name: str, after: int) -> None:
        seen.append((name, await table.wait_change(after)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "first", 0)
        await trio.testing.wait_all_tasks_blocked()
        table.bump()
        nursery.start_soon(wait, "second", 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, "late", 0)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(seen) == [("first", 1), ("late", 1)]
        table.bump()
    assert sorted(seen) == [("first", 1), ("late", 1), ("second", 2)]


def test_it_is_noted_since_when_a_node_is_silent_until_it_is_heard_again() -> None:
    at_ms = [1_000]
    table = BeliefTable(lambda: WallMs(at_ms[0]))
    node = make_node("a")
    table.drop_node(node.id)
    assert not table.view().departed, "it was never heard of"
    table.put_node(node)
    table.drop_node(node.id)
    at_ms[0] = 2_000
    table.drop_node(node.id)
    assert table.view().departed == {node.id: 1_000}
    table.put_node(node)
    assert not table.view().departed


def test_the_number_of_a_service_changes_with_each_of_its_statuses_and_only_then() -> None:
    table, seen = BeliefTable(), []
    for change in (
        lambda: table.put_status(status(1)),
        lambda: table.put_status(status(1)),
        lambda: table.put_status(status(2)),
        lambda: table.drop_status(A),
        lambda: table.drop_status(A),
    ):
        change()
        versions = table.view().status_versions
        seen.append(None if versions is None else versions.get(ServiceId("default/web")))
    assert seen == [1, 1, 2, 3, 3]
