"""The tables of gossip, small: what Lifeguard prevents, what `orca` promises, how news spreads."""

from gossip.swim import LAN, ORCA, PROFILES
from simulations.members import lifeguard, profiles, scale
from simulations.members.epidemic import Detection, Spread
from simulations.members.experiment import Outcome, Setting, percentile, repeat
from simulations.members.lifeguard import CONFIGURATIONS, LIFEGUARD, SWIM
from simulations.world import World


def deaf(name: str) -> Outcome:
    setting = Setting(
        swim=CONFIGURATIONS[name],
        members=16,
        stalling=4,
        stall_s=8.0,
        work_s=0.064,
        crashes=1,
        crash_every_s=40.0,
        rest_s=20.0,
        has_facts=False,
        blocks_messages=True,
        notices_stalls=False,
    )
    return repeat(setting, [2])


def test_lifeguard_has_a_fraction_of_the_false_positives_of_swim() -> None:
    swim, whole = deaf("SWIM"), deaf("Lifeguard (all)")
    assert swim.false_positives > 50
    assert whole.false_positives * 3 < swim.false_positives
    assert whole.healthy * 20 < swim.healthy
    assert whole.missed == swim.missed == 0


def test_the_parts_of_lifeguard_can_be_switched_off_one_by_one() -> None:
    assert (SWIM.awareness_max, SWIM.suspicion_max_multiplier, SWIM.has_buddy_system) == (1, 1.0, False)
    for name, config in CONFIGURATIONS.items():
        changed = {field for field in config.__struct_fields__ if getattr(config, field) != getattr(SWIM, field)}
        expected = {
            "SWIM": set[str](),
            "+ LHA-Probe": {"awareness_max"},
            "+ LHA-Suspicion": {"suspicion_max_multiplier", "confirmations_max"},
            "+ Buddy System": {"has_buddy_system"},
        }.get(name, {"awareness_max", "suspicion_max_multiplier", "confirmations_max", "has_buddy_system"})
        assert changed == expected, name
    assert LIFEGUARD.awareness_max == 8


def test_orca_finds_a_crash_in_half_the_time_of_lan_for_half_as_many_bytes_more_at_most() -> None:
    lan, orca = (
        repeat(profiles.setting_of(PROFILES[name], members=10, trouble="none"), [1]) for name in ("lan", "orca")
    )
    assert percentile(orca.first_s, 0.5) * 2 <= percentile(lan.first_s, 0.5)
    assert percentile(orca.last_s, 0.5) * 2 <= percentile(lan.last_s, 0.5)
    assert orca.bytes_per_s <= 1.5 * lan.bytes_per_s
    assert orca.false_positives == lan.false_positives == 0


def test_a_broken_promise_is_named() -> None:
    good = Outcome(first_s=[1.0], last_s=[1.0], bytes=100, member_s=1.0)
    slow = Outcome(first_s=[1.0], last_s=[1.5], bytes=100, member_s=1.0)
    found = {("lan", trouble): slow for trouble in profiles.TROUBLES}
    found |= {("orca", trouble): good for trouble in profiles.TROUBLES}
    assert all("half of the time" in promise for promise in profiles.broken_promises(found))
    assert len(profiles.broken_promises(found)) == len(profiles.TROUBLES)


def test_ten_thousand_members_have_a_change_within_twice_the_epidemic_limit() -> None:
    spread = Spread(10_000, ORCA, World(1).chance("spread"))
    assert 0 < spread.run() <= 2 * scale.limit_s(ORCA, 10_000)
    assert len(spread.learned_s) == 10_000


def test_the_sampled_model_agrees_with_whole_members() -> None:
    whole = scale.Whole(ORCA, 24, 1).run(changes=5, crashes=3)
    sampled = scale.sample(ORCA, 24, range(20))
    assert scale.differences(ORCA, whole, sampled) == []
    assert scale.differences(ORCA, whole, scale.Times(spread_s=[9.0], first_s=[9.0], last_s=[9.0])) != []


def test_a_crash_takes_longer_to_be_found_in_a_larger_cluster_as_the_suspicion_does() -> None:
    last_s = [Detection(members, ORCA, World(1).chance("detection")).run() for members in (50, 2000)]
    assert last_s[0] < last_s[1] < 15


def test_losing_packets_slows_a_change_and_does_not_stop_it() -> None:
    clean, lossy = (Spread(500, LAN, World(2).chance("spread"), loss).run() for loss in (0.0, 0.5))
    assert clean < lossy < 200


def test_the_ratio_of_a_table_is_readable() -> None:
    assert [lifeguard.ratio(100, 4), lifeguard.ratio(100, 0), lifeguard.ratio(0, 0)] == ["25.0x", ">100x", "-"]
