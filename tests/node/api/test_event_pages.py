"""Several nodes' histories as one: nothing twice, nothing lost from page to page."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.api.event_pages import Cursor, NodePage, Repetitions, merge_pages, read_cursor, write_cursor
from orca.errors import InvalidRequestError
from orca.model.event import EventKind, NodeEvent
from orca.model.ids import LogIndex, NodeId
from orca.model.units import WallMs

A, B = NodeId("n-a"), NodeId("n-b")


def event(
    node: NodeId, sequence: int, at_ms: int, *, index: int | None = None, kind: EventKind = EventKind.ALLOCATION_READY
) -> NodeEvent:
    return NodeEvent(
        sequence=sequence,
        at_ms=WallMs(at_ms),
        node=node,
        kind=kind,
        message=f"entry {index}" if index is not None else "happened",
        log_index=None if index is None else LogIndex(index),
    )


def page(node: NodeId, history: list[NodeEvent], bounds: Cursor, limit: int) -> NodePage:
    """What a node gives: its newest below its bound."""
    bound = bounds.get(node, 10**9)
    found = [one for one in history if one.sequence < bound][-limit:]
    return NodePage(node=node, events=tuple(found), last_sequence=found[-1].sequence if found else 0)


def test_what_the_log_made_is_shown_once_and_what_a_node_did_is_its_own() -> None:
    first = [event(A, 1, 10, index=5), event(A, 2, 12)]
    second = [event(B, 1, 11, index=5), event(B, 2, 13)]
    merged = merge_pages([page(A, first, {}, 10), page(B, second, {}, 10)], {}, 10)
    assert [(one.node, one.sequence) for one in merged.events] == [(A, 1), (A, 2), (B, 2)]
    assert merged.earlier == ""
    assert read_cursor(merged.later) == {A: 2, B: 2}


def test_what_several_members_saw_at_one_time_is_shown_once_and_later_again() -> None:
    repetitions = Repetitions()
    seen = event(A, 1, 1_000, kind=EventKind.MEMBER_FAILED)
    assert repetitions.is_new(seen)
    assert not repetitions.is_new(msgspec.structs.replace(seen, node=B, at_ms=WallMs(4_000)))
    assert repetitions.is_new(msgspec.structs.replace(seen, node=B, at_ms=WallMs(60_000)))


def test_only_so_many_events_are_remembered() -> None:
    repetitions = Repetitions()
    for index in range(10_000):
        assert repetitions.is_new(event(A, index, index, index=index))
    assert len(repetitions._seen) == 2_000


@given(
    st.lists(st.tuples(st.sampled_from((A, B)), st.integers(1, 50)), max_size=60),
    st.integers(1, 7),
)
def test_pages_back_give_every_event_once_and_in_order(steps: list[tuple[NodeId, int]], limit: int) -> None:
    histories: dict[NodeId, list[NodeEvent]] = {A: [], B: []}
    at_ms = 0
    for node, pause in steps:
        at_ms += pause
        histories[node].append(event(node, len(histories[node]) + 1, at_ms))
    every = sorted((one for history in histories.values() for one in history), key=lambda one: one.at_ms)
    found: list[NodeEvent] = []
    cursor = ""
    for _ in range(len(every) + 2):
        bounds = read_cursor(cursor)
        merged = merge_pages([page(node, history, bounds, limit) for node, history in histories.items()], bounds, limit)
        found = [*merged.events, *found]
        cursor = merged.earlier
        if not cursor:
            break
    assert found == every


@pytest.mark.parametrize("text", ["n-a", "n-a.", ".5", "n-a.x", "n-a.-1", "n-a.1~", "n-a." + "9" * 30, "n-a.\u0663"])
def test_a_cursor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="cursor"):
        read_cursor(text)


def test_a_cursor_reads_back() -> None:
    places = {NodeId("n-b.c"): 5, A: 0}
    assert read_cursor(write_cursor(places)) == places
    assert read_cursor("") == {}
