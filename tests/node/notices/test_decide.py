"""What each channel is still to be told."""

import random
from typing import Any

import msgspec

from consensus.state.records import ChannelRecord, NoticeClaim, NoticeRecord, NoticeState, notice_key
from node.notices.decide import GONE_S, Notice, Vanishing, due
from node.notices.pace import INTERVAL_S, RETRY_S, RETRY_S_MAX, Pace
from node.notices.words import LINES_MAX, message_of
from orca.model.alert import AlertDeed, AlertRule, AlertState, AlertView, PossibleCause, SilenceView
from orca.model.event import Severity
from orca.model.ids import ChannelName, NodeId, ProjectName, SecretId, ServiceId, SilenceId
from orca.model.units import Instant, WallMs

OPS = ChannelName("ops")
N1, N2 = NodeId("n-1"), NodeId("n-2")
LOOP = "crash-loop:default/web"
NOW = WallMs(1_000_000)


def view(alert: str = LOOP, **fields: Any) -> AlertView:
    known: dict[str, Any] = {
        "id": alert,
        "rule": AlertRule.CRASH_LOOP,
        "severity": Severity.ERROR,
        "state": AlertState.FIRING,
        "subject": "web",
        "since_ms": WallMs(5_000),
        "last_ms": WallMs(9_000),
        "facts": ("web was restarted 3 times: 1 copy on one.",),
        "quotes": ("web.1: exit code 1",),
        "causes": (PossibleCause(cause="its own error", because="exit code 1", command="orca logs web"),),
        "service": ServiceId("default/web"),
    }
    return AlertView(**{**known, **fields})


def over(alert: str = LOOP, **fields: Any) -> AlertView:
    return view(alert, state=AlertState.RESOLVED, resolved_at_ms=WallMs(20_000), **fields)


def channel(**fields: Any) -> ChannelRecord:
    known: dict[str, Any] = {
        "name": OPS,
        "secret": SecretId("/notify.ops"),
        "severity": Severity.WARNING,
        "created_at_ms": WallMs(0),
        "created_by": "ann",
    }
    return ChannelRecord(**{**known, **fields})


def told(is_firing: bool = True, severity: Severity = Severity.ERROR) -> NoticeState:
    return NoticeState(is_firing=is_firing, severity=severity, since_ms=WallMs(5_000))


def ask(
    *alerts: AlertView,
    before: NoticeState | None = None,
    claim: NoticeClaim | None = None,
    gone: tuple[str, ...] = (),
    of: ChannelRecord | None = None,
) -> tuple[Notice, ...]:
    notices = {}
    if before is not None or claim is not None:
        notices[notice_key(OPS, LOOP)] = NoticeRecord(channel=OPS, alert=LOOP, told=before, claim=claim)
    return due(alerts, (of or channel(),), notices, gone=gone, now_ms=NOW, node=N1).get(OPS, ())


def test_each_change_is_told_once() -> None:
    (first,) = ask(view())
    assert (first.alert, first.state) == (LOOP, told())
    assert ask(view(), before=told()) == ()
    assert ask(view(since_ms=WallMs(6_000)), before=told()) == (), "the first event may have been forgotten since"
    (last,) = ask(over(), before=told())
    assert not last.state.is_firing
    assert ask(over()) == (), "who heard of nothing needs no end"


def test_what_became_worse_is_told_and_what_became_better_is_not() -> None:
    (worse,) = ask(view(), before=told(severity=Severity.WARNING))
    assert worse.is_worse
    assert ask(view(severity=Severity.WARNING), before=told()) == ()


def test_a_channel_is_told_of_its_project_and_from_its_severity_on() -> None:
    assert ask(view(severity=Severity.INFO)) == ()
    assert ask(view(severity=Severity.WARNING), of=channel(severity=Severity.ERROR)) == ()
    assert ask(view(), of=channel(project=ProjectName("bank"))) == ()
    assert ask(view("node-failed:n2", service=None), of=channel(project=ProjectName("default"))) == ()
    assert len(ask(view(), of=channel(project=ProjectName("default")))) == 1


def test_what_is_silenced_is_not_told_and_of_what_somebody_sees_to_only_the_end_is() -> None:
    silence = SilenceView(id=SilenceId("q"), by="ann", since_ms=WallMs(0), ends_at_ms=NOW, reason="r")
    deed = AlertDeed(by="ann", at_ms=NOW)
    assert ask(view(silence=silence)) == ()
    assert ask(over(silence=silence), before=told()) == (), "it waits for the end of the silence"
    assert ask(view(acknowledged=deed)) == ()
    assert ask(view(acknowledged=deed), before=told(severity=Severity.WARNING)) == ()
    assert len(ask(over(), before=told())) == 1


def test_what_another_node_is_telling_is_left_to_it_until_its_claim_is_old() -> None:
    fresh = NoticeClaim(node=N2, at_ms=WallMs(NOW - 1_000), state=told())
    assert ask(view(), claim=fresh) == ()
    old = NoticeClaim(node=N2, at_ms=WallMs(NOW - 60_000), state=told())
    assert len(ask(view(), claim=old)) == 1
    own = NoticeClaim(node=N1, at_ms=NOW, state=told())
    assert len(ask(view(), claim=own)) == 1, "it failed here, or this node was started again"
    (end,) = ask(over(), claim=old)
    assert not end.state.is_firing, "it may have been told that it fires"


def test_what_is_gone_is_told_to_be_over_when_that_has_lasted_and_all_histories_are_known() -> None:
    vanishing = Vanishing()
    alerts = (view("node-failed:n3", stands_for=("unhealthy:default/db",)),)

    def look(at_s: float, *, is_blind: bool = False) -> set[str]:
        return vanishing.look((LOOP, "unhealthy:default/db"), alerts, Instant(at_s), is_blind=is_blind)

    assert look(0) == set()
    assert look(GONE_S - 1) == set()
    assert look(GONE_S) == {LOOP}, "what another alert stands for is not gone"
    assert look(GONE_S + 1, is_blind=True) == set()
    assert look(GONE_S + 2) == set(), "then it counts from the beginning"
    (end,) = ask(before=told(), gone=(LOOP,))
    assert end.view is None
    assert message_of((end,), "c").body == "It is in no node's history any more."
    assert ask(before=told()) == ()


def test_one_alert_is_told_at_length_and_many_in_one_message_by_name() -> None:
    (one,) = ask(view())
    message = message_of((one,), "home")
    assert message.title == "[orca home] error: crash-loop:default/web"
    assert message.body.splitlines() == [
        "web was restarted 3 times: 1 copy on one.",
        "> web.1: exit code 1",
        "Possible causes:",
        "- its own error (exit code 1): orca logs web",
        "orca alerts show crash-loop:default/web",
    ]
    assert (message.kind, message.identity) == ("failure", "crash-loop:default/web/5000/firing/error")
    many = ask(*(view(f"unhealthy:default/s{number}", severity=Severity.WARNING) for number in range(LINES_MAX + 5)))
    digest = message_of(many, "home")
    assert digest.title == "[orca home] 45 alerts"
    assert digest.kind == "warning"
    assert digest.body.splitlines()[-2:] == ["… and 5 more", "orca alerts"]
    (end,) = ask(over(), before=told())
    assert message_of((one, end), "home").title == "[orca home] 1 alert, 1 over"
    assert message_of((end,), "home").kind == "success"


def test_the_worst_comes_first() -> None:
    found = ask(
        view("a", severity=Severity.WARNING), view("b", since_ms=WallMs(7_000)), view("c", since_ms=WallMs(6_000))
    )
    assert [one.alert for one in found] == ["c", "b", "a"]


def test_the_first_message_goes_at_once_the_next_waits_and_what_failed_waits_longer_each_time() -> None:
    pace = Pace(random.Random(1))
    assert pace.wait_s(Instant(0)) == 0
    pace.sent(Instant(0))
    assert pace.wait_s(Instant(1)) == INTERVAL_S - 1
    waits = []
    for _ in range(12):
        pace.failed(Instant(100))
        waits.append(pace.wait_s(Instant(100)))
    assert RETRY_S / 2 <= waits[0] <= RETRY_S
    assert RETRY_S_MAX / 2 <= waits[-1] <= RETRY_S_MAX
    pace.sent(Instant(500))
    assert pace.failures == 0


def test_the_identity_of_a_change_is_the_same_for_whoever_tells_it() -> None:
    (one,) = ask(view())
    (again,) = ask(msgspec.structs.replace(view(), last_ms=WallMs(99_000)))
    assert one.identity == again.identity
