"""How old a node's knowledge may be."""

from node.group.freshness import Freshness
from orca.model.units import Instant


def test_age_grows_until_somebody_says_that_nothing_is_missing() -> None:
    freshness = Freshness(Instant(10.0))
    assert freshness.age_s(Instant(14.0)) == 4.0
    freshness.heard(Instant(14.0))
    assert freshness.age_s(Instant(14.5)) == 0.5


def test_a_source_that_is_old_itself_makes_nothing_younger_than_it_is() -> None:
    freshness = Freshness(Instant(10.0))
    freshness.heard(Instant(20.0), age_s=3.0)
    assert freshness.age_s(Instant(20.0)) == 3.0
    freshness.heard(Instant(21.0), age_s=9.0)
    assert freshness.age_s(Instant(21.0)) == 4.0, "a worse word takes nothing back"


def test_age_is_never_negative() -> None:
    assert Freshness(Instant(10.0)).age_s(Instant(9.0)) == 0.0
