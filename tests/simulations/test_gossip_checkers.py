"""Each judge of a gossip cluster finds what it is there to find, and nothing else."""

from gossip.machine import config_of
from gossip.serf import EventRequested, UserEventReceived
from gossip.swim import ORCA
from simulations.checkers.accuracy import Accuracy
from simulations.checkers.completeness import Completeness, detection_bound_s
from simulations.checkers.convergence import Convergence
from simulations.checkers.events import Events
from simulations.checkers.group import GroupChecker, GroupJudge
from simulations.checkers.memory import Memory
from simulations.checkers.traffic import Traffic, quiet_packets_per_s
from simulations.members.group import Group
from simulations.world import World


def formed(count: int = 4, seed: int = 1) -> Group:
    group = Group(World(seed), config_of(ORCA))
    group.form(count)
    group.run(10)
    assert group.disagreement() == ""
    return group


def judged(group: Group, *checkers: GroupChecker) -> GroupJudge:
    return GroupJudge(group, checkers)


def test_a_crash_that_somebody_has_not_found_is_reported_and_one_that_all_found_is_not() -> None:
    group = formed()
    completeness = Completeness(group)
    judge = judged(group, completeness)
    victim = group.members["n2"]
    victim.crash()
    completeness.watch(victim)
    group.run(0.2)
    completeness.demand()
    assert [violation.checker for violation in judge.violations] == ["completeness"]
    judge.violations.clear()
    completeness.watch(victim)
    group.run(detection_bound_s(ORCA, 4))
    completeness.demand()
    assert judge.violations == []
    assert completeness.found_s["n2"].keys() == {"n1", "n3", "n4"}


def test_only_the_living_are_falsely_buried_and_only_the_healthy_break_the_promise() -> None:
    group = formed()
    accuracy = Accuracy(group, is_strict=True)
    judge = judged(group, accuracy)
    group.members["n2"].pause(20)
    group.run(15)
    assert accuracy.false_positives == 3, "each of the others believes it"
    assert accuracy.healthy == 0
    assert judge.violations == []
    assert accuracy.member_hours > 0


def test_a_healthy_member_that_is_cut_off_is_a_false_positive_of_healthy_members() -> None:
    group = formed()
    accuracy = Accuracy(group, is_strict=True)
    judge = judged(group, accuracy)
    group.run(20)
    group.separate([group.members["n2"]])
    group.run(10)
    assert accuracy.healthy >= 3
    assert judge.violations[0].checker == "accuracy"


def test_members_that_are_kept_apart_do_not_agree_in_time_and_do_when_the_network_is_mended() -> None:
    group = formed()
    convergence = Convergence(group)
    judge = judged(group, convergence)
    ways = group.separate([group.members["n1"], group.members["n2"]])
    group.run(10)
    assert not convergence.demand("nothing", within_s=5)
    assert "do not live" in judge.violations[0].detail
    judge.violations.clear()
    group.mend(ways)
    assert convergence.demand("the repair")
    assert judge.violations == []


def test_agreement_is_about_tags_and_facts_too() -> None:
    from gossip.facts import FactWritten

    group = formed()
    group.members["n1"].tell(FactWritten(key="load", value=b"1"))
    assert "other facts of n1" in group.disagreement()
    assert group.disagreement(with_facts=False) == ""
    group.run(3)
    group.members["n3"].retag({"orca": "sim", "zone": "b"})
    assert "has tags" in group.disagreement()
    group.run(3)
    assert group.disagreement() == ""


def test_quiet_members_are_quiet_and_a_storm_is_one() -> None:
    group = formed()
    traffic = Traffic(group)
    judge = judged(group, traffic)
    group.run(20)
    traffic.demand_quiet(20)
    assert judge.violations == []
    assert 0 < traffic.quiet_packets_per_s < quiet_packets_per_s(group.config)
    group.members["n1"].counts.packets += 5_000
    group.run(11)
    assert "packets/s for 10 s" in judge.violations[0].detail


def test_a_table_with_more_in_it_than_there_are_nodes_is_reported() -> None:
    group = formed()
    judge = judged(group, Memory(group))
    group.run(10)
    assert judge.violations == []
    del group.members["n4"]
    group.run(2)
    assert {violation.checker for violation in judge.violations} == {"memory"}


def test_an_event_that_somebody_never_heard_is_reported_and_one_before_its_time_or_after_a_restart_is_not() -> None:
    group = formed()
    events = Events(group)
    judge = judged(group, events)
    group.members["n1"].tell(EventRequested(name="all"))
    group.run(5)
    group.members["n2"].crash()
    group.members["n1"].tell(EventRequested(name="while-n2-is-away"))
    group.run(5)
    group.members["n2"].start((group.members["n1"].address,))
    group.run(5)
    events.demand()
    assert judge.violations == []
    lone = UserEventReceived(ltime=9, name="lone", payload=b"", is_coalescable=False)
    events.heard(group.members["n3"], lone)
    assert events.missing() == f"n1 never heard lone of time 9, said at {group.world.now:.1f} s"
    events.heard(group.members["n3"], lone)
    assert [violation.detail for violation in judge.violations] == ["n3 heard lone of time 9 twice in its life 1"]
