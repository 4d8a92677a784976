"""Rings and clocks: what was seen (WIRE §6.1, §6.4, §6.5)."""

from hypothesis import given
from hypothesis import strategies as st

from gossip.messages import PastEvent
from gossip.serf.clock import LTIME_JUMP_MAX, LTIME_MAX, LamportClock
from gossip.serf.history import ENTRIES_PER_SLOT_MAX, EVENT_BYTES_MAX, SLOTS, Ring, Sight


def event(name: str, payload: bytes = b"") -> PastEvent:
    return PastEvent(name=name, payload=payload)


def ring_at(time: int) -> Ring:
    clock = LamportClock()
    clock.witness(time - 1)
    return Ring(clock)


def test_a_clock_is_later_than_what_it_witnesses_and_what_it_stamps() -> None:
    clock = LamportClock()
    assert clock.time == 1
    clock.witness(0)
    assert clock.time == 1
    clock.witness(5)
    assert clock.time == 6
    assert (clock.stamp(), clock.time) == (6, 7)


def test_a_time_absurdly_far_ahead_is_not_believed() -> None:
    clock = LamportClock()
    assert clock.is_credible(LTIME_JUMP_MAX)
    assert not clock.is_credible(LTIME_JUMP_MAX + 2)
    assert not clock.is_credible(LTIME_MAX)
    assert not clock.is_credible(-1)


def test_same_time_name_and_payload_is_a_duplicate_and_nothing_less() -> None:
    ring = ring_at(10)
    assert ring.see(5, event("deploy", b"1")) is Sight.NEW
    assert ring.see(5, event("deploy", b"1")) is Sight.DUPLICATE
    assert ring.see(5, event("deploy", b"2")) is Sight.NEW
    assert ring.see(5, event("other", b"1")) is Sight.NEW
    assert ring.see(6, event("deploy", b"1")) is Sight.NEW


def test_what_is_older_than_the_ring_is_old() -> None:
    ring = ring_at(SLOTS + 100)
    assert ring.see(99, event("a")) is Sight.OLD
    assert ring.see(100, event("a")) is Sight.NEW


def test_what_is_below_the_minimum_is_old() -> None:
    ring = ring_at(10)
    ring.minimum = 7
    assert ring.see(6, event("a")) is Sight.OLD
    assert ring.see(7, event("a")) is Sight.NEW


def test_past_events_come_by_time_and_without_what_is_too_old() -> None:
    clock = LamportClock()
    ring = Ring(clock)
    for time in (1, 3, 2):
        clock.witness(time)
        ring.see(time, event(f"e{time}"))
    assert [past.ltime for past in ring.past_events()] == [1, 2, 3]
    clock.witness(SLOTS + 2)
    assert [past.ltime for past in ring.past_events()] == [3]


def test_one_time_cannot_hold_any_number_of_events() -> None:
    ring = ring_at(10)
    sights = [ring.see(5, event(f"e{number}")) for number in range(ENTRIES_PER_SLOT_MAX + 1)]
    assert sights.count(Sight.NEW) == ENTRIES_PER_SLOT_MAX
    assert sights[-1] is Sight.CROWDED


def test_a_ring_full_of_bytes_forgets_its_oldest_and_does_not_take_them_for_new() -> None:
    clock = LamportClock()
    ring = Ring(clock)
    size = EVENT_BYTES_MAX // 10
    for time in range(1, 20):
        clock.witness(time)
        assert ring.see(time, event("big", bytes(size))) is Sight.NEW
        ring.check_invariants()
    assert ring.see(1, event("big", bytes(size))) is Sight.OLD


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 3))))
def test_nothing_is_new_twice(script: list[tuple[int, int]]) -> None:
    clock = LamportClock()
    ring = Ring(clock)
    seen: set[tuple[int, int]] = set()
    for time, number in script:
        clock.witness(time)
        if ring.see(time, number) is Sight.NEW:
            assert (time, number) not in seen
            seen.add((time, number))
        ring.check_invariants()
