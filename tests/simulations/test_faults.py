import pytest

from simulations.faults import KNOBS, Bites, calm, draw_mood
from simulations.world import World


def test_a_seed_has_one_mood() -> None:
    moods = [draw_mood(World(seed).chance("mood")) for seed in (1, 1, 2)]
    assert moods[0] == moods[1] != moods[2]


def test_each_fault_is_off_in_some_runs_and_within_its_range_in_others() -> None:
    moods = [draw_mood(World(seed).chance("mood")) for seed in range(200)]
    for name, knob in KNOBS.items():
        amounts = [mood[name] for mood in moods]
        assert 0.0 in amounts, name
        drawn = [amount for amount in amounts if amount]
        assert len(drawn) > 20, name
        assert knob.least <= min(drawn) <= max(drawn) <= knob.most, name


def test_a_fault_without_effect_is_named() -> None:
    bites = Bites()
    bites.add(calm(loss=0.1, crash=3), {**dict.fromkeys(KNOBS, 0), "crash": 2})
    assert bites.toothless() == ["loss"]


def test_an_effect_of_a_fault_that_is_off_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="crash is off"):
        Bites().add(calm(), {**dict.fromkeys(KNOBS, 0), "crash": 2})


def test_a_knob_that_is_none_is_refused() -> None:
    with pytest.raises(AssertionError, match="no knob is called hail"):
        calm(hail=1)
