"""When a delta connects: the state always says what the writer said (package docstring of `writer`)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.facts.frames import Delta, Item, Reach
from gossip.facts.writer import Fit, WriterState
from orca.model.units import Instant

NOW = Instant(0.0)


def state(version: int, gc_version: int, *items: Item, incarnation: int = 1) -> WriterState:
    made = WriterState("w", incarnation)
    for item in items:
        made.put(item, NOW)
    made.version, made.gc_version = version, gc_version
    return made


def delta(base: int, end: int, gc_version: int = 0, *items: Item, incarnation: int = 1) -> Delta:
    return Delta("w", incarnation, base, end, gc_version, items)


@pytest.mark.parametrize(
    ("known", "offered", "fit"),
    [
        (state(5, 0), delta(5, 7), Fit.EXTENDS),
        (state(5, 0), delta(2, 7), Fit.EXTENDS),
        (state(5, 0), delta(6, 7), Fit.GAP),
        (state(5, 0), delta(2, 5), Fit.STALE),
        (state(0, 0, incarnation=0), delta(0, 3), Fit.RESETS),
        (state(0, 0, incarnation=0), delta(1, 3), Fit.GAP),
        (state(5, 0), delta(0, 1, incarnation=2), Fit.RESETS),
        (state(5, 0), delta(1, 9, incarnation=2), Fit.GAP),
        (state(5, 0, incarnation=2), delta(0, 9), Fit.STALE),
        # The sender forgot removals between 5 and 6: ours may be among what was removed.
        (state(5, 0), delta(5, 9, 6), Fit.GAP),
        (state(5, 0), delta(0, 9, 6), Fit.RESETS),
        (state(5, 0), delta(0, 3, 6), Fit.RESETS),
        (state(5, 0), delta(5, 9, 5), Fit.EXTENDS),
        # In the middle of a reset that left out what was removed up to 8.
        (state(3, 8), delta(3, 9, 8), Fit.EXTENDS),
        (state(3, 8), delta(3, 9, 2), Fit.GAP),
        (state(3, 8), delta(0, 9, 9), Fit.RESETS),
        (state(3, 8), delta(3, 9, 9), Fit.GAP),
    ],
)
def test_how_a_delta_meets_a_state(known: WriterState, offered: Delta, fit: Fit) -> None:
    assert known.fit(offered) is fit


def test_whoever_forgot_less_forgets_as_much_to_help_a_state_in_the_middle_of_a_reset() -> None:
    helper = state(9, 0, Item("a", 1, b"1"), Item("b", 7, None), Item("c", 9, b"9"))
    assert helper.base_for(Reach("w", 1, 3, 8)) == 3
    assert helper.gc_version == 8
    assert list(helper.items) == ["a", "c"]


def test_nobody_helps_with_less_than_is_known() -> None:
    assert state(5, 0).base_for(Reach("w", 1, 5, 0)) is None
    assert state(5, 0).base_for(Reach("w", 2, 1, 0)) is None
    assert state(0, 0).base_for(Reach("w", 0, 0, 0)) is None
    assert state(5, 0).base_for(Reach("w", 1, 3, 9)) is None


steps = st.one_of(
    st.tuples(st.just("say"), st.sampled_from("abcd"), st.booleans()),
    st.tuples(st.just("exchange"), st.integers(0, 11), st.integers(0, 3)),
    st.tuples(st.just("exchange"), st.integers(0, 11), st.integers(0, 3)),
    st.tuples(st.just("push"), st.integers(0, 11), st.integers(0, 30)),
    st.tuples(st.just("forget"), st.integers(0, 3), st.integers(0, 30)),
    st.tuples(st.just("again"), st.integers(0, 3), st.integers(0, 50)),
)


class Holders:
    """Four holders of one writer's facts, itself first, with every delta that was ever sent."""

    def __init__(self) -> None:
        self.states = [WriterState("w", 1), *(WriterState("w") for _ in range(3))]
        self.said: dict[int, dict[str, bytes | None]] = {0: {}}
        self.spoken: dict[str, int] = {}
        self.passed: list[Delta] = []

    def say(self, key: str, *, is_removal: bool) -> None:
        version = self.states[0].version + 1
        value = None if is_removal else b"%d" % version
        self.states[0].put(Item(key, version, value), NOW)
        self.spoken[key] = version
        self.said[version] = {**self.said[version - 1], key: value}

    def exchange(self, pair: int, cut: int) -> None:
        """The taker says how far it is, the giver sends at most `cut` items (0: all)."""
        giver, taker = self.states[pair // 3], (pair // 3 + 1 + pair % 3) % 4
        base = giver.base_for(self.states[taker].reach)
        if base is not None:
            items = giver.above(base)
            if 0 < cut < len(items):
                self.offer(taker, giver, base, items[cut - 1].version)
            else:
                self.offer(taker, giver, base, giver.version)

    def push(self, pair: int, base: int) -> None:
        """The giver sends what is above `base` without being asked."""
        giver, taker = self.states[pair // 3], (pair // 3 + 1 + pair % 3) % 4
        if giver.version > 0:
            self.offer(taker, giver, min(base, giver.version - 1), giver.version)

    def offer(self, taker: int, giver: WriterState, base: int, end: int) -> None:
        items = [item for item in giver.above(base) if item.version <= end]
        self.passed.append(delta(base, end, giver.gc_version, *items, incarnation=giver.incarnation))
        self.take(taker, self.passed[-1])

    def take(self, taker: int, offered: Delta) -> None:
        if taker and self.states[taker].fit(offered) in {Fit.EXTENDS, Fit.RESETS}:
            self.states[taker] = self.states[taker].after(offered, NOW)

    def forget(self, holder: int, version: int) -> None:
        state = self.states[holder]
        if not state.is_partial:
            state.forget_removals(min(version, state.version))

    def check(self) -> None:
        for state in self.states:
            state.check_invariants()
            if not state.is_partial:
                shown = {key: held.item.value for key, held in state.items.items() if held.item.value is not None}
                expected = {key: value for key, value in self.said[state.version].items() if value is not None}
                for key in shown.keys() | expected.keys():
                    is_final = self.spoken[key] <= state.version
                    assert not is_final or shown.get(key) == expected.get(key)


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=60))
def test_a_state_says_what_the_writer_said_however_deltas_travel(script: list[tuple[str, object, object]]) -> None:
    """Deltas are cut anywhere, repeated and reordered, and removals forgotten by anybody at any time."""
    holders = Holders()
    for step in script:
        match step:
            case ("say", str(key), bool(is_removal)):
                holders.say(key, is_removal=is_removal)
            case ("exchange", int(pair), int(cut)):
                holders.exchange(pair, cut)
            case ("push", int(pair), int(base)):
                holders.push(pair, base)
            case ("forget", int(holder), int(version)):
                holders.forget(holder, version)
            case ("again", int(taker), int(number)) if holders.passed:
                holders.take(taker, holders.passed[number % len(holders.passed)])
            case _:
                pass
        holders.check()
