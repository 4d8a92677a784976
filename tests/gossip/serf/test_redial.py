"""Lost peers are dialled for ever, by about eight members, within half a minute of a repair."""

import itertools
import random

from gossip.messages import Address
from gossip.serf.redial import PEERS_MAX, PERIOD_MAX_S, Redialler
from orca.model.units import Instant


def address_of(number: int) -> Address:
    return Address(f"10.1.{number // 256}.{number % 256}", 7946)


def dials(redialler: Redialler, start: float, end: float, living: int) -> list[tuple[float, str]]:
    made: list[tuple[float, str]] = []
    now = Instant(start)
    while (at := redialler.deadline()) <= end:
        now = Instant(max(now, at))
        dial = redialler.due(now, living)
        if dial is not None:
            made.append((now, dial.node))
        redialler.check_invariants()
    return made


def test_the_first_tries_come_soon_and_the_later_ones_never_stop() -> None:
    redialler = Redialler(random.Random(1))
    redialler.lose("a", address_of(1), Instant(0.0))
    week_s = 7 * 86_400.0
    made = [at for at, _ in dials(redialler, 0.0, week_s, living=1)]
    assert made[0] <= 4.0
    gaps = [after - before for before, after in itertools.pairwise(made)]
    assert max(gaps) <= PERIOD_MAX_S
    assert min(gaps[5:]) >= PERIOD_MAX_S * 0.75
    assert week_s - made[-1] <= PERIOD_MAX_S


def test_in_a_large_group_about_eight_members_dial_in_each_period() -> None:
    rng = random.Random(3)
    count = 0
    for _ in range(200):
        redialler = Redialler(random.Random(rng.random()))
        redialler.lose("a", address_of(1), Instant(0.0))
        count += len(dials(redialler, 0.0, 300.0, living=200))
    periods = 300.0 / (PERIOD_MAX_S * 0.875)
    assert 5 <= count / periods <= 12


def test_whoever_is_cut_off_alone_dials_all_others_within_a_period() -> None:
    redialler = Redialler(random.Random(1))
    for number in range(63):
        redialler.lose(f"n{number}", address_of(number), Instant(0.0))
    made = dials(redialler, 0.0, 1000.0, living=1)
    last_minute = {node for at, node in made if at > 940.0}
    assert len(last_minute) == 63


def test_the_table_is_bounded_and_paced() -> None:
    redialler = Redialler(random.Random(1))
    for number in range(PEERS_MAX + 10):
        redialler.lose(f"n{number}", address_of(number), Instant(float(number)))
    redialler.check_invariants()
    assert "n0" not in redialler
    made = dials(redialler, 1000.0, 1010.0, living=1)
    assert len(made) <= 10 * 8 + 1


def test_a_peer_that_is_back_is_not_dialled() -> None:
    redialler = Redialler(random.Random(1))
    redialler.lose("a", address_of(1), Instant(0.0))
    redialler.lose("old-name", address_of(2), Instant(0.0))
    redialler.find("a")
    redialler.find_at(address_of(2))
    assert dials(redialler, 0.0, 1000.0, living=1) == []


def test_peers_of_a_life_before_are_dialled_at_once() -> None:
    redialler = Redialler(random.Random(1))
    redialler.lose("a", address_of(1), Instant(0.0), is_urgent=True)
    assert redialler.deadline() <= 0.5
