"""The checker of histories against tables, and against trying all orders."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.checkers.linearizable import judge_history, judge_key
from simulations.history import Ending, History, Record
from simulations.registers import Kind, Operation, Outcome, carry_out


def op(
    called: int,
    returned: int | None,
    kind: Kind,
    word: str = "",
    told: str | None = None,
    *,
    expected: str = "",
    is_done: bool = True,
) -> Record:
    """An operation; without `told` its outcome is not known."""
    request = f"{called}"
    record = Record("c", Operation(request=request, key="k", kind=kind, word=word, expected=expected), called)
    if told is None:
        record.end(Ending.UNKNOWN, returned or called)
    else:
        assert returned is not None
        record.end(Ending.DONE, returned, Outcome(value=told, is_done=is_done))
    return record


R, W, A, S = Kind.READ, Kind.WRITE, Kind.APPEND, Kind.SWAP

GOOD: dict[str, list[Record]] = {
    "nothing": [],
    "one after the other": [op(1, 2, W, "x", "x"), op(3, 4, R, told="x")],
    "a read during a write sees the old": [op(1, 4, W, "x", "x"), op(2, 3, R, told="")],
    "a read during a write sees the new": [op(1, 4, W, "x", "x"), op(2, 3, R, told="x")],
    "an unknown write that is seen": [op(1, 2, W, "x"), op(5, 6, R, told="x")],
    "an unknown write that is seen late": [op(1, 2, W, "x"), op(3, 4, R, told=""), op(5, 6, R, told="x")],
    "an unknown write that never happened": [op(1, 2, W, "x"), op(5, 6, R, told="")],
    "appends in the order of their values": [op(1, 4, A, "x", "y x"), op(2, 3, A, "y", "y")],
    "a swap that fails": [op(1, 2, W, "x", "x"), op(3, 4, S, "z", "x", expected="y", is_done=False)],
    "a swap that wins": [op(1, 2, W, "x", "x"), op(3, 4, S, "z", "z", expected="x"), op(5, 6, R, told="z")],
    "a swap of what only an unknown write can have left": [op(1, 2, W, "x"), op(3, 4, S, "z", "z", expected="x")],
}
BAD: dict[str, list[Record]] = {
    "a stale read": [op(1, 2, W, "x", "x"), op(3, 4, W, "y", "y"), op(5, 6, R, told="x")],
    "a lost write": [op(1, 2, W, "x", "x"), op(3, 4, R, told="")],
    "a value out of nowhere": [op(1, 2, R, told="x")],
    "a read goes back": [op(1, 9, W, "x", "x"), op(2, 3, R, told="x"), op(4, 5, R, told="")],
    "an append that vanished": [op(1, 2, A, "x", "x"), op(3, 4, A, "y", "y")],
    "an append that was made twice": [op(1, 2, A, "x", "x x")],
    "both swaps win": [op(1, 3, S, "x", "x", expected=""), op(2, 4, S, "y", "y", expected="")],
    "an unknown write that is seen and unseen": [op(1, 2, W, "x"), op(3, 4, R, told="x"), op(5, 6, R, told="")],
    "an unknown write seen before it was asked for": [op(1, 2, R, told="x"), op(3, 4, W, "x")],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_linearizable_history_is_accepted(name: str) -> None:
    assert judge_key("k", GOOD[name]).is_linearizable


@pytest.mark.parametrize("name", BAD)
def test_a_history_that_no_order_explains_is_refused(name: str) -> None:
    verdict = judge_key("k", BAD[name])
    assert not verdict.is_linearizable
    assert verdict.is_judged
    assert "no order explains it" in str(verdict)


def test_what_certainly_failed_may_not_be_seen() -> None:
    failed = Record("c", Operation(request="1", key="k", kind=W, word="x"), 1)
    failed.end(Ending.FAILED, 2)
    assert not judge_key("k", [failed, op(3, 4, R, told="x")]).is_linearizable


def test_keys_are_judged_alone() -> None:
    history = History()
    for key, told in (("a", "x"), ("b", "stale")):
        record = Record("c", Operation(request=key, key=key, kind=R), 1)
        record.end(Ending.DONE, 2, Outcome(value=told))
        history.add(record)
    write = Record("c", Operation(request="w", key="a", kind=W, word="x"), 0)
    write.end(Ending.DONE, 1, Outcome(value="x"))
    history.add(write)
    assert [(one.key, one.is_linearizable) for one in judge_history(history)] == [("a", True), ("b", False)]


def test_a_search_that_is_too_long_is_not_called_good() -> None:
    writes = [op(number, 20 + number, W, f"w{number}", f"w{number}") for number in range(1, 9)]
    verdict = judge_key("k", [*writes, op(10, 40, R, told="never")], steps_max=10)
    assert (verdict.is_linearizable, verdict.is_judged) == (False, False)


def explains(order: tuple[Record, ...]) -> bool:
    """Whether the answers are what carrying out `order` gives, and it respects real time."""
    value = ""
    for place, record in enumerate(order):
        for later in order[place + 1 :]:
            if later.outcome is not None and later.returned is not None and later.returned < record.called:
                return False
        outcome = carry_out(value, record.operation)
        if record.outcome is not None and outcome != record.outcome:
            return False
        value = outcome.value
    return True


def try_all_orders(records: list[Record]) -> bool:
    """Every subset of the unknown operations, in every order: slow, and easy to believe."""
    known = [record for record in records if record.outcome is not None]
    unknown = [record for record in records if record.outcome is None]
    for mask in range(1 << len(unknown)):
        chosen = known + [record for place, record in enumerate(unknown) if mask >> place & 1]
        if any(explains(order) for order in permutations(chosen)):
            return True
    return False


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Up to five operations with words and answers that often fit."""
    count = draw(st.integers(1, 5))
    moments = draw(st.permutations(range(1, 2 * count + 1)))
    records = []
    words = [f"w{number}" for number in range(count)]
    values = ["", *words, *(f"{a} {b}" for a in words[:3] for b in words[:3] if a != b)]
    for number in range(count):
        called, returned = sorted(moments[2 * number : 2 * number + 2])
        kind = draw(st.sampled_from(list(Kind)))
        expected = draw(st.sampled_from(values)) if kind is S else ""
        word = "" if kind is R else words[number]
        is_known = draw(st.integers(0, 3)) > 0
        told = draw(st.sampled_from(values)) if is_known else None
        if is_known and kind is W:
            told = word
        elif is_known and kind is A:
            told = draw(st.sampled_from([word, *(f"{other} {word}" for other in words if other != word)]))
        is_done = kind is not S or told == word
        records.append(op(called, returned, kind, word, told, expected=expected, is_done=is_done))
    return sorted(records, key=lambda record: record.called)


@settings(max_examples=150, deadline=None)
@given(histories())
def test_it_agrees_with_trying_all_orders(records: list[Record]) -> None:
    assert judge_key("k", records).is_linearizable == try_all_orders(records)
