"""Several nodes' histories as one: nothing twice, nothing lost from page to page."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.api.event_pages import SAME_MS, Cursor, NodePage, Repetitions, Told, merge_pages, read_cursor, write_cursor
from node.api.params import CURSOR_MAX
from orca.errors import InvalidRequestError
from orca.model.event import EventKind, NodeEvent
from orca.model.ids import LogIndex, NodeId
from orca.model.units import WallMs

A, B = NodeId("n-a"), NodeId("n-b")
START = Cursor()


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


def page(node: NodeId, history: list[NodeEvent], cursor: Cursor, limit: int) -> NodePage:
    """What a node gives: its newest below its place."""
    bound = cursor.places.get(node, 10**9)
    found = [one for one in history if one.sequence < bound][-limit:]
    return NodePage(node=node, events=tuple(found), last_sequence=found[-1].sequence if found else 0)


def test_what_the_log_made_is_shown_once_and_what_a_node_did_is_its_own() -> None:
    first = [event(A, 1, 10, index=5), event(A, 2, 12)]
    second = [event(B, 1, 11, index=5), event(B, 2, 13)]
    merged = merge_pages([page(A, first, START, 10), page(B, second, START, 10)], START, 10)
    assert [(one.node, one.sequence) for one in merged.events] == [(A, 1), (A, 2), (B, 2)]
    assert merged.earlier == ""
    assert read_cursor(merged.later).places == {A: 2, B: 2}


def test_what_several_members_saw_at_one_time_is_shown_once_and_later_again() -> None:
    repetitions = Repetitions()
    seen = event(A, 1, 1_000, kind=EventKind.MEMBER_FAILED)
    assert repetitions.is_new(seen)
    assert not repetitions.is_new(msgspec.structs.replace(seen, node=B, at_ms=WallMs(4_000)))
    assert repetitions.is_new(msgspec.structs.replace(seen, node=B, at_ms=WallMs(60_000)))


def test_what_one_member_saw_twice_happened_twice_however_soon() -> None:
    """A node that was started again within seconds has joined again, and is well."""
    repetitions = Repetitions()
    seen = event(A, 1, 1_000, kind=EventKind.MEMBER_JOINED)
    assert repetitions.is_new(seen)
    assert not repetitions.is_new(msgspec.structs.replace(seen, node=B, at_ms=WallMs(1_100)))
    assert repetitions.is_new(msgspec.structs.replace(seen, sequence=2, at_ms=WallMs(8_000)))
    assert not repetitions.is_new(msgspec.structs.replace(seen, node=B, sequence=2, at_ms=WallMs(8_100)))


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
    assert pages_back(histories, limit) == every


def pages_back(histories: dict[NodeId, list[NodeEvent]], limit: int) -> list[NodeEvent]:
    """All that is shown to who turns pages back to the first, oldest first."""
    found: list[NodeEvent] = []
    cursor = START
    for _ in range(sum(map(len, histories.values())) + 2):
        merged = merge_pages([page(node, history, cursor, limit) for node, history in histories.items()], cursor, limit)
        found = [*merged.events, *found]
        if not merged.earlier:
            return found
        cursor = read_cursor(merged.earlier)
    raise AssertionError("the pages have no end")


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(1, 40)), max_size=60),
    st.integers(1, 7),
)
def test_what_all_nodes_tell_is_shown_once_wherever_a_page_ends(steps: list[tuple[bool, int, int]], limit: int) -> None:
    """Entries of the log, which B applies later than A or not at all, and what both saw."""
    histories: dict[NodeId, list[NodeEvent]] = {A: [], B: []}
    at_ms, b_ms, kinds = 0, 0, set()
    for number, (is_entry, who, pause) in enumerate(steps):
        at_ms += pause if is_entry else SAME_MS * 2
        b_ms = max(b_ms, at_ms) + pause
        kind = EventKind.ALLOCATION_PLACED if is_entry else EventKind.MEMBER_FAILED
        for node, when in ((A, at_ms), (B, b_ms)):
            if who == 2 or (who == 0) == (node == A):
                made = event(node, len(histories[node]) + 1, when, index=number if is_entry else None, kind=kind)
                histories[node].append(msgspec.structs.replace(made, message=f"news {number}"))
                kinds.add(number)
    shown = [one.message for one in pages_back(histories, limit)]
    assert sorted(shown) == sorted(f"news {number}" for number in kinds)


@pytest.mark.parametrize("text", ["n-a", "n-a.", ".5", "n-a.x", "n-a.-1", "n-a.1~", "n-a." + "9" * 30, "n-a.\u0663"])
def test_a_cursor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="cursor"):
        read_cursor(text)


def test_a_cursor_reads_back() -> None:
    cursor = Cursor(places={NodeId("n-b.c"): 5, A: 0}, told=(Told(mark=0xBEEF, index=7), Told(mark=1, at_ms=9)))
    assert read_cursor(write_cursor(cursor)) == cursor
    assert read_cursor("") == START


def test_a_cursor_fits_a_url_however_much_was_told() -> None:
    mine = [event(A, number, number, index=number) for number in range(1, 3_001)]
    merged = merge_pages([page(A, mine, START, 1_000), page(B, [], START, 1_000)], START, 1_000)
    assert len(merged.events) == 1_000
    assert len(merged.earlier) < CURSOR_MAX
