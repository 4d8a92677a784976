"""Planted bugs are found: those that need few seeds here, all of them by `python -m simulations mutations`."""

import pytest

import simulations.mutations as package
from simulations.mutations.table import MUTATIONS, Catch, hunt

FAST = {
    "IgnoresLogs": 15,
    "WinsWithMinority": 15,
    "TruncatesWithoutConflict": 15,
    "BelievesCommitIndex": 15,
    "TellsCommitTooFar": 15,
    "ReadsBeforeOwnCommit": 15,
    "CampaignsInSameTerm": 10,
    "SkipsSync": 10,
    "SavesNoHardState": 10,
    "AnswersBeforeSaving": 10,
    "AppliesBeforeSaving": 15,
    "ReadsLocally": 15,
    "AppliesTwice": 10,
    "CarriesOutRetries": 15,
    "KeepsStateOnRestore": 10,
    "SnapshotForgets": 10,
    "NeverRefutes": 2,
    "RefutesTooLow": 2,
    "NeverBuries": 2,
    "BuriesAtOnce": 3,
    "BelievesOldNews": 2,
    "ProbesNobody": 2,
    "ProbesTheFirst": 2,
    "ForgetsTheLost": 2,
    "SpreadsForEver": 2,
    "NeverReconciles": 2,
    "StopsOldFirst": 2,
    "LeavesTheLost": 2,
    "FillsOneNode": 2,
    "BelievesInHealth": 2,
    "StopsWithoutGoodbye": 2,
    "KeepsWhatItHas": 2,
    "SaysGoodbyeAtOnce": 2,
    "AnswersTooSoon": 2,
}


def catch(name: str) -> Catch:
    mutation = next(one for one in MUTATIONS if one.name == name)
    return hunt(mutation, FAST[name])


@pytest.mark.parametrize("name", FAST)
def test_a_planted_bug_is_found_within_few_seeds(name: str) -> None:
    found = catch(name)
    assert found.seed is not None, (
        f"{found.seeds_tried} seeds did not find that it {found.what[0].lower()}{found.what[1:]}"
    )


def test_there_are_enough_and_the_table_names_them_all() -> None:
    assert len(MUTATIONS) >= 40
    for mutation in MUTATIONS:
        assert mutation.what.endswith("."), f"{mutation.name} does not say what it does wrong"
        assert f"{mutation.name} " in (package.__doc__ or ""), f"{mutation.name} is missing in the package's table"
