"""What people said about alerts, in the answer."""

import msgspec
import pytest

from consensus.state.records import AlertDeedRecord, AlertMarkRecord
from node.alerts.handling import fits, handled, resolutions
from node.alerts.rulebook import rule_views
from node.alerts.rules import evaluate, service_of
from node.alerts.specs import RULES
from orca.model.alert import AlertRule, AlertState, AlertView, SilenceView
from orca.model.event import EventKind
from orca.model.ids import ProjectName, ServiceId, SilenceId
from orca.model.units import WallMs
from tests.node.alerts.test_rules import MEMBERS, N1, N2, NAMES, WEB, History

K = EventKind
LOOP = "crash-loop:default/web"


def deed(at_s: float, ends_s: float | None = None) -> AlertDeedRecord:
    ends_at_ms = None if ends_s is None else WallMs(int(ends_s * 1000))
    return AlertDeedRecord(at_ms=WallMs(int(at_s * 1000)), actor="ann", reason="why", ends_at_ms=ends_at_ms)


def looked(history: History, now_s: float, mark: AlertMarkRecord, *silences: SilenceView) -> dict[str, AlertView]:
    marks, now_ms = {mark.alert: mark}, WallMs(int(now_s * 1000))
    found = evaluate(history.events, now_ms, NAMES, MEMBERS, resolutions(marks))
    return {one.id: one for one in handled(found, marks, silences, now_ms)}


def looping(*at_s: float) -> History:
    history = History()
    for at in at_s:
        history.crash(at)
    return history


def test_an_acknowledgement_holds_until_the_alert_is_over_and_not_for_the_next_time() -> None:
    history = looping(10, 20, 30)
    mark = AlertMarkRecord(alert=LOOP, acknowledged=deed(40))
    first = looked(history, 50, mark)[LOOP].acknowledged
    assert first is not None
    assert (first.by, first.reason) == ("ann", "why")
    history.tell(60, K.SERVICE_REMOVED)
    assert looked(history, 70, mark)[LOOP].acknowledged is None
    for at in (80, 90, 100):
        history.crash(at)
    assert looked(history, 101, mark)[LOOP].state is AlertState.FIRING
    assert looked(history, 101, mark)[LOOP].acknowledged is None


def test_an_acknowledgement_with_an_end_ends() -> None:
    mark = AlertMarkRecord(alert=LOOP, acknowledged=deed(40, 60))
    assert looked(looping(10, 20, 30), 59, mark)[LOOP].acknowledged is not None
    assert looked(looping(10, 20, 30), 60, mark)[LOOP].acknowledged is None


def test_what_somebody_resolved_is_over_and_what_comes_later_counts_anew() -> None:
    history = looping(10, 20, 30)
    mark = AlertMarkRecord(alert=LOOP, resolved=deed(40))
    alert = looked(history, 50, mark)[LOOP]
    assert (alert.state, alert.resolved_at_ms) == (AlertState.RESOLVED, 40_000)
    assert alert.resolved_by is not None
    assert alert.resolved_by.by == "ann"
    history.crash(60)
    history.crash(70)
    assert LOOP not in looked(history, 71, mark), "two are no loop: those before were said to be over"
    history.crash(80)
    again = looked(history, 81, mark)[LOOP]
    assert (again.state, again.since_ms, again.resolved_by) == (AlertState.FIRING, 80_010, None)


def test_what_was_over_by_itself_nobody_resolved() -> None:
    history = looping(10, 20, 30)
    history.tell(35, K.SERVICE_REMOVED)
    assert looked(history, 50, AlertMarkRecord(alert=LOOP, resolved=deed(40)))[LOOP].resolved_by is None


def silence(**fields: object) -> SilenceView:
    known = {"id": "q", "by": "ann", "since_ms": 0, "ends_at_ms": 9_000_000, "reason": "r"}
    return msgspec.convert({**known, **fields}, SilenceView)


@pytest.mark.parametrize(
    ("fields", "does"),
    [
        ({"service": WEB}, True),
        ({"service": "default/db"}, False),
        ({"project": "default"}, True),
        ({"project": "bank"}, False),
        ({"node": N1}, True),
        ({"node": N2}, False),
        ({"rule": "crash-loop"}, True),
        ({"service": WEB, "rule": "unhealthy"}, False),
    ],
)
def test_a_silence_is_of_what_all_its_fields_fit(fields: dict[str, object], does: bool) -> None:
    alert = looked(looping(10, 20, 30), 40, AlertMarkRecord(alert=LOOP), silence(**fields))[LOOP]
    assert (alert.silence is not None) == does
    assert alert.state is AlertState.FIRING, "it is shown all the same"


def test_a_silence_of_a_node_is_of_what_happened_there_and_nowhere_else() -> None:
    history = looping(10, 20, 30)
    for at in (11, 21, 31):
        history.crash(at, "b", node=N2)
    mark = AlertMarkRecord(alert=LOOP)
    assert looked(history, 40, mark, silence(node=N1))[LOOP].silence is None
    history = History()
    history.member(1, K.MEMBER_FAILED, name="two")
    (dead,) = looked(history, 40, mark, silence(node=N2)).values()
    assert dead.silence is not None
    assert dead.nodes == (N2,), "it is about the member, not about who noticed"


def test_the_silence_that_lasts_longest_is_shown() -> None:
    short, long = silence(id="a", ends_at_ms=50_000), silence(id="b", ends_at_ms=60_000)
    alert = looked(looping(10, 20, 30), 40, AlertMarkRecord(alert=LOOP), long, short)[LOOP]
    assert alert.silence == long
    assert not fits(silence(project=ProjectName("x")), alert)


def test_a_dead_node_stands_for_all_that_only_happened_there() -> None:
    history = looping(10, 20, 30)
    history.tell(12, K.RUNTIME_UP, "docker is up", service=None)
    history.tell(13, K.RUNTIME_DOWN, "docker is down", service=None)
    history.tell(14, K.ALLOCATION_UNHEALTHY, copy="z", service=ServiceId("default/db"), node=N2)
    assert set(looked(history, 60, AlertMarkRecord(alert=LOOP))) == {
        LOOP,
        "runtime-down:n-1/docker",
        "unhealthy:default/db",
    }
    for observer in (N1, N2):
        history.member(61, K.MEMBER_FAILED, node=observer, name="one")
    found = looked(history, 62, AlertMarkRecord(alert=LOOP))
    assert set(found) == {"node-failed:one", "unhealthy:default/db"}
    assert set(found["node-failed:one"].stands_for) == {LOOP, "runtime-down:n-1/docker"}
    history.member(70, K.MEMBER_JOINED, name="one")
    assert LOOP in looked(history, 71, AlertMarkRecord(alert=LOOP)), "what it hid is there when it is back"


def test_every_rule_has_words_of_its_own_figures() -> None:
    views = {one.rule: one for one in rule_views()}
    assert set(views) == set(AlertRule) == {one.rule for one in RULES}
    assert views[AlertRule.CRASH_LOOP].fires == (
        "at the third allocation.restarting of one copy within 10m, kills for want of memory aside"
    )
    assert AlertRule.NODE_FAILED in views[AlertRule.CRASH_LOOP].hidden_by
    assert all("orca alerts resolve" in one.ends for one in views.values())


def test_an_alerts_id_says_whose_it_is() -> None:
    assert service_of(LOOP) == WEB
    assert service_of("node-failed:default/web") is None
    assert service_of("nonsense") is None
    assert SilenceId("q") == silence().id
