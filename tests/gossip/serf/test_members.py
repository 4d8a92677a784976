"""Status and intents, rule by rule (WIRE §6.2)."""

import pytest

from gossip.messages import MEMBERLIST_VERSION, Address, JoinIntent, LeaveIntent
from gossip.serf.members import INTENTS_MAX, IntentVerdict, Members, MemberStatus, StatusChange
from orca.model.units import Instant

ALIVE, LEAVING, LEFT, FAILED = MemberStatus.ALIVE, MemberStatus.LEAVING, MemberStatus.LEFT, MemberStatus.FAILED
NOW = Instant(0.0)
HOME = Address("10.0.0.1", 7946)


def member_in(status: MemberStatus, ltime: int) -> Members:
    members = Members()
    members.join("a", HOME, {}, MEMBERLIST_VERSION, NOW)
    members.join_intent(JoinIntent(ltime=ltime, node="a"), NOW)
    if status in {LEAVING, LEFT}:
        members.leave_intent(LeaveIntent(ltime=ltime + 1, node="a"), NOW)
    if status in {LEFT, FAILED}:
        members.leave("a", NOW, is_graceful=False)
    return members


def apply(members: Members, intent: LeaveIntent | JoinIntent) -> IntentVerdict:
    if isinstance(intent, LeaveIntent):
        return members.leave_intent(intent, NOW)
    return members.join_intent(intent, NOW)


@pytest.mark.parametrize(
    ("before", "intent", "is_news", "after", "change"),
    [
        (ALIVE, LeaveIntent(ltime=5, node="a"), False, ALIVE, None),
        (ALIVE, LeaveIntent(ltime=6, node="a"), True, LEAVING, None),
        (FAILED, LeaveIntent(ltime=5, node="a"), False, FAILED, None),
        (FAILED, LeaveIntent(ltime=6, node="a"), True, LEFT, StatusChange.LEFT),
        (LEAVING, LeaveIntent(ltime=6, node="a"), False, LEAVING, None),
        (LEAVING, LeaveIntent(ltime=7, node="a"), True, LEAVING, None),
        (LEFT, LeaveIntent(ltime=7, node="a"), True, LEFT, None),
        (ALIVE, JoinIntent(ltime=5, node="a"), False, ALIVE, None),
        (ALIVE, JoinIntent(ltime=6, node="a"), True, ALIVE, None),
        (LEAVING, JoinIntent(ltime=6, node="a"), False, LEAVING, None),
        (LEAVING, JoinIntent(ltime=7, node="a"), True, ALIVE, None),
        (LEFT, JoinIntent(ltime=7, node="a"), True, LEFT, None),
        (FAILED, JoinIntent(ltime=6, node="a"), True, FAILED, None),
    ],
)
def test_an_intent_counts_when_it_is_newer(
    before: MemberStatus,
    intent: LeaveIntent | JoinIntent,
    is_news: bool,
    after: MemberStatus,
    change: StatusChange | None,
) -> None:
    members = member_in(before, 5)
    verdict = apply(members, intent)
    member = members.get("a")
    assert member is not None
    assert (verdict.is_news, verdict.change, member.status) == (is_news, change, after)
    if is_news:
        assert member.status_ltime == intent.ltime
        assert not apply(members, intent).is_news, "the same again is no news"


@pytest.mark.parametrize(
    ("before", "is_graceful", "after", "change"),
    [
        (ALIVE, False, FAILED, StatusChange.FAILED),
        (ALIVE, True, LEFT, StatusChange.LEFT),
        (LEAVING, False, LEFT, StatusChange.LEFT),
        (LEAVING, True, LEFT, StatusChange.LEFT),
        (FAILED, False, FAILED, None),
        (LEFT, False, LEFT, None),
    ],
)
def test_only_the_intent_tells_a_leave_from_a_failure(
    before: MemberStatus, is_graceful: bool, after: MemberStatus, change: StatusChange | None
) -> None:
    members = member_in(before, 5)
    told = members.leave("a", NOW, is_graceful=is_graceful)
    member = members.get("a")
    assert member is not None
    assert member.status is after
    assert (told[0] if told else None) is change


def test_an_intent_for_an_unknown_member_waits_for_it() -> None:
    members = Members()
    assert members.leave_intent(LeaveIntent(ltime=9, node="a"), NOW).is_news
    assert not members.leave_intent(LeaveIntent(ltime=9, node="a"), NOW).is_news
    assert not members.join_intent(JoinIntent(ltime=8, node="a"), NOW).is_news
    member = members.join("a", HOME, {}, MEMBERLIST_VERSION, NOW)
    assert member is not None
    assert (member.status, member.status_ltime) == (LEAVING, 9)


def test_the_newest_intent_is_the_one_that_waits() -> None:
    members = Members()
    members.leave_intent(LeaveIntent(ltime=9, node="a"), NOW)
    members.join_intent(JoinIntent(ltime=10, node="a"), NOW)
    member = members.join("a", HOME, {}, MEMBERLIST_VERSION, NOW)
    assert member is not None
    assert (member.status, member.status_ltime) == (ALIVE, 10)


def test_intents_wait_five_minutes_and_are_bounded() -> None:
    members = Members()
    for number in range(INTENTS_MAX + 5):
        members.join_intent(JoinIntent(ltime=9, node=f"n{number}"), NOW)
    members.check_invariants()
    members.reap(Instant(300.0), 1e9, 1e9, 300.0)
    member = members.join("n100", HOME, {}, MEMBERLIST_VERSION, NOW)
    assert member is not None
    assert member.status_ltime == 0


def test_the_failed_and_the_departed_are_forgotten_each_in_its_time() -> None:
    for status, keeps in ((FAILED, (100.0, 1e9)), (LEFT, (1e9, 100.0))):
        members = member_in(status, 5)
        assert members.reap(Instant(99.0), *keeps, 300.0) == []
        assert [member.node for member in members.reap(Instant(100.0), *keeps, 300.0)] == ["a"]
        assert members.get("a") is None


def test_whoever_comes_back_is_alive_and_keeps_its_time() -> None:
    for status in (FAILED, LEFT):
        members = member_in(status, 5)
        member = members.join("a", HOME, {"role": "web"}, MEMBERLIST_VERSION, NOW)
        assert member is not None
        assert member.status is ALIVE
        assert member.status_ltime >= 5
