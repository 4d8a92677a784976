"""Long random lives of groups, one a seed; each draws which faults it knows at all.

Many more, for a machine that was changed: `python -m tests.consensus.raft.test_group_seeds FIRST LAST`.
"""

import random
import sys
from collections.abc import Callable

import pytest

from tests.consensus.raft.group import Group
from tests.consensus.raft.moves import POST_MAX, Moves

NAMES = [f"n{number}" for number in range(1, 6)]


def live(seed: int, moves_made: int = 120) -> Group:
    """One life, checked after each move and healed at its end."""
    rng = random.Random(seed)
    group = Group(len(NAMES), rng.choice([1, 2, 3, 3, 3, 4, 5]), seed=seed)
    moves = Moves(group, random.Random(seed + 1))
    group.run(rng.choice([0.0, 3.0]))
    known = [move for move in faults(moves, rng) if rng.random() < 0.75] + always(moves, rng)
    for _ in range(moves_made):
        rng.choice(known)()
        if len(group.post) > POST_MAX:
            moves.old_post_is_lost()
        moves.check()
    moves.heal_and_check()
    return group


def always(moves: Moves, rng: random.Random) -> list[Callable[[], None]]:
    """What every life has: traffic, a network, and repair."""
    crashiness = rng.choice([0.0, 0.1, 0.5])
    return [
        lambda: moves.network_works_somewhat(rng.random() * 3, rng.choice([0.0, 0.0, 0.1, 0.4])),
        lambda: moves.propose(who(rng), rng.randrange(1, 9), crash(rng, crashiness)),
        lambda: moves.time_passes(rng.choice(NAMES), rng.random() * 2, crash(rng, crashiness)),
        moves.group.heal,
        moves.start_all,
    ]


def faults(moves: Moves, rng: random.Random) -> list[Callable[[], None]]:
    """What some lives have."""
    return [
        lambda: moves.group.run(rng.random() * 1.5),
        lambda: moves.network_works_somewhat(rng.random() * 3, 0.0),
        lambda: moves.propose(who(rng), rng.randrange(1, 9), None),
        lambda: moves.read(who(rng)),
        lambda: moves.change(who(rng), rng.choice(NAMES), rng.random() < 0.5),
        lambda: moves.transfer(who(rng), rng.choice([None, *NAMES])),
        lambda: moves.compact(rng.choice([who(rng), *NAMES])),
        lambda: moves.link_is_said_to_be_down(rng.choice(NAMES), rng.choice(NAMES)),
        lambda: moves.crash_or_start(rng.choice(NAMES)),
        lambda: moves.disk_fills(rng.choice(NAMES), rng.randrange(60)),
        moves.disks_empty,
        lambda: moves.cut_off(rng.choice(NAMES)),
        lambda: moves.cut_one_way(rng.choice(NAMES), rng.choice(NAMES)),
    ]


def who(rng: random.Random) -> str:
    """The leader more often than anybody else."""
    return rng.choice(["leader", "leader", rng.choice(NAMES)])


def crash(rng: random.Random, crashiness: float) -> int | None:
    """Before which effect of a step the process dies; None for not at all."""
    return rng.randrange(6) if rng.random() < crashiness else None


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_groups_live_safely_and_heal(first: int) -> None:
    for seed in range(first, first + 20):
        try:
            live(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_lives_are_eventful() -> None:
    """Faults that have no effect prove nothing."""
    groups = [live(seed) for seed in range(100, 130)]
    notes = " ".join(note for group in groups for note in group.notes)
    assert sum(len(group.acknowledged) for group in groups) > 500
    assert sum(len(group.safety.leaders) for group in groups) > 100
    assert sum(len(group.lost) for group in groups) > 10
    assert sum(len(group.changes()) for group in groups) > 50
    for words in ("come from a snapshot", "no quorum answered", "nothing of the last step was saved"):
        assert words in notes


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        live(number)
