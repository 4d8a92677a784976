"""The order in which broadcasts leave, and how often (memberlist's queue; WIRE §4.6)."""

from hypothesis import given
from hypothesis import strategies as st

from gossip.transmit_queue import TransmitQueue, transmit_limit
from orca.model.units import Instant


def test_the_limit_grows_with_the_logarithm_of_the_group() -> None:
    assert [transmit_limit(4, members) for members in (0, 1, 9, 10, 99, 100)] == [0, 4, 4, 8, 8, 12]


def test_least_sent_goes_first_then_longest_then_newest() -> None:
    queue = TransmitQueue()
    queue.put("old", b"11111")
    assert queue.take(2, 7, 3) == [b"11111"]
    queue.put("short", b"2")
    queue.put("long", b"333")
    queue.put("newer", b"444")
    assert queue.take(2, 100, 3) == [b"444", b"333", b"2", b"11111"]


def test_a_payload_comes_once_a_packet_and_leaves_after_its_limit() -> None:
    done: list[str] = []
    queue = TransmitQueue()
    queue.put("a", b"x", lambda: done.append("a"))
    assert queue.take(2, 1000, 2) == [b"x"]
    assert not done
    assert queue.take(2, 1000, 2) == [b"x"]
    assert done == ["a"]
    assert queue.take(2, 1000, 2) == []


def test_overhead_counts_for_each_payload() -> None:
    queue = TransmitQueue()
    for number in range(3):
        queue.put(number, bytes(10))
    assert len(queue.take(3, 26, 9)) == 2
    assert queue.take(3, 12, 9) == []


def test_a_newer_word_on_the_same_key_replaces_the_older() -> None:
    done: list[str] = []
    queue = TransmitQueue()
    queue.put("n1", b"suspect", lambda: done.append("suspect"))
    queue.put("n1", b"alive", lambda: done.append("alive"))
    assert done == ["suspect"]
    assert queue.take(0, 100, 5) == [b"alive"]


def test_without_a_key_nothing_is_replaced() -> None:
    queue = TransmitQueue()
    queue.put(None, b"a")
    queue.put(None, b"b")
    assert len(queue) == 2


def test_what_can_never_fit_is_refused_and_counted() -> None:
    done: list[bool] = []
    queue = TransmitQueue(payload_bytes_max=4)
    assert not queue.put("big", b"12345", lambda: done.append(True))
    assert (len(queue), queue.refused_count, done) == (0, 1, [True])


def test_a_full_queue_drops_what_was_sent_most_often() -> None:
    queue = TransmitQueue(entries_max=2)
    queue.put("sent", b"s")
    queue.take(0, 10, 5)
    queue.put("new", b"n")
    queue.put("newest", b"N")
    assert "sent" not in queue
    assert queue.dropped_count == 1


def test_expired_entries_leave() -> None:
    queue = TransmitQueue()
    queue.put("a", b"a", now=Instant(1.0))
    queue.put("b", b"b", now=Instant(2.0))
    assert queue.expire(Instant(2.0)) == 1
    assert queue.take(0, 10, 1) == [b"b"]
    assert not queue.drop("a")
    queue.put("c", b"c", now=Instant(3.0))
    assert queue.drop("c")
    queue.put("d", b"d")
    queue.clear()
    assert len(queue) == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 5), st.integers(0, 40)),
            st.tuples(st.just("take"), st.integers(0, 60), st.integers(1, 4)),
        ),
        max_size=40,
    )
)
def test_no_packet_overflows_and_every_entry_ends_once(steps: list[tuple[str, int, int]]) -> None:
    queue = TransmitQueue(entries_max=4, payload_bytes_max=30)
    ended: list[int] = []
    put = 0
    for kind, first, second in steps:
        if kind == "put":
            number = put
            put += 1
            queue.put(first, bytes(second), lambda number=number: ended.append(number))  # type: ignore[misc]
        else:
            taken = queue.take(2, first, second)
            assert sum(len(payload) + 2 for payload in taken) <= first
        queue.check_invariants()
    queue.clear()
    assert sorted(ended) == list(range(put))
