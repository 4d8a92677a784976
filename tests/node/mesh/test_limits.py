"""What strangers may have, on virtual time."""

from node.mesh.limits import ADDRESSES_MAX, AddressRates, TokenBucket, WaitingRoom
from orca.model.units import Instant


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(2, 3, Instant(0))
    assert [bucket.take(Instant(0)) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(Instant(0.4))
    assert bucket.take(Instant(0.5))
    assert not bucket.is_full(Instant(1.5))
    assert bucket.is_full(Instant(2))


def test_a_clock_that_steps_back_gives_nothing() -> None:
    bucket = TokenBucket(1, 1, Instant(10))
    assert bucket.take(Instant(10))
    assert not bucket.take(Instant(5))


def test_one_address_does_not_use_up_what_another_may() -> None:
    rates = AddressRates(1, 2)
    assert [rates.take("a", Instant(0)) for _ in range(3)] == [True, True, False]
    assert rates.take("b", Instant(0))


def test_a_million_addresses_are_not_all_remembered() -> None:
    rates = AddressRates(1, 1)
    for number in range(2 * ADDRESSES_MAX):
        rates.take(str(number), Instant(0))
    assert len(rates) == ADDRESSES_MAX


def test_who_has_to_go_is_the_oldest_of_the_address_with_most() -> None:
    room: WaitingRoom[str] = WaitingRoom(4)
    assert [room.enter("honest", "h1"), *(room.enter("crowd", f"c{number}") for number in range(3))] == [None] * 4
    assert room.enter("honest", "h2") == "c0"
    assert room.enter("crowd", "c4") == "c1"
    assert len(room) == 4


def test_who_left_or_was_put_out_leaves_no_trace() -> None:
    room: WaitingRoom[str] = WaitingRoom(1)
    room.enter("a", "first")
    assert room.enter("b", "second") == "first"
    room.leave("a", "first")
    room.leave("b", "second")
    assert len(room) == 0
    assert room.enter("c", "third") is None
