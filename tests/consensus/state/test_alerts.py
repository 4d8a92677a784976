"""What people say about alerts: kept, replaced, ended, bounded."""

from typing import Any

import pytest

from consensus.state.applying.alerts import SILENCES_MAX
from consensus.state.cluster import MARKS_KEPT, Outcome
from consensus.state.commands import AcknowledgeAlerts, EndSilence, ResolveAlerts, SilenceAlerts
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from orca.model.ids import ServiceId, SilenceId
from orca.model.units import WallMs
from tests.consensus.intent import Cluster

LOOP = "crash-loop:default/web"
WEB = ServiceId("default/web")


class Handled(Cluster):
    """A cluster whose people see to alerts."""

    def acknowledge(self, *alerts: str, **fields: Any) -> Outcome:
        return self.apply(AcknowledgeAlerts(alerts=alerts, **{**self._stamp(), **fields}))

    def resolve(self, *alerts: str, **fields: Any) -> Outcome:
        return self.apply(ResolveAlerts(alerts=alerts, **{**self._stamp(), **fields}))

    def silence(self, name: str, **fields: Any) -> Outcome:
        known = {"reason": "maintenance", "ends_at_ms": WallMs(self.at_ms + 60_000), "service": WEB, **fields}
        return self.apply(SilenceAlerts(silence=SilenceId(name), **{**self._stamp(), **known}))


def test_who_sees_to_an_alert_and_why_is_kept_and_audited() -> None:
    cluster = Handled()
    assert not cluster.acknowledge(LOOP, actor="ann", reason="on it").error
    deed = cluster.state.alert_marks[LOOP].acknowledged
    assert deed is not None
    assert (deed.actor, deed.reason, deed.at_ms) == ("ann", "on it", cluster.at_ms)
    noted = list(cluster.state.audit.values())[-1]
    assert (noted.action, noted.subject, noted.actor) == ("acknowledge_alerts", LOOP, "ann")
    assert decode_snapshot(encode_snapshot(cluster.state)).alert_marks == cluster.state.alert_marks


def test_what_was_resolved_nobody_sees_to_any_more_and_what_fires_again_may_be_seen_to() -> None:
    cluster = Handled()
    cluster.acknowledge(LOOP)
    cluster.resolve(LOOP, actor="bob")
    mark = cluster.state.alert_marks[LOOP]
    assert mark.acknowledged is None
    assert mark.resolved is not None
    cluster.acknowledge(LOOP)
    again = cluster.state.alert_marks[LOOP]
    assert again.acknowledged is not None
    assert again.resolved == mark.resolved, "what happened before stays over"


def test_the_oldest_marks_give_way() -> None:
    cluster = Handled()
    cluster.acknowledge(LOOP)
    for start in range(0, MARKS_KEPT, 500):
        assert not cluster.acknowledge(*(f"x:{number}" for number in range(start, start + 500))).error
        if start == 0:
            cluster.acknowledge(LOOP)  # the newest again
    assert len(cluster.state.alert_marks) == MARKS_KEPT
    assert LOOP in cluster.state.alert_marks
    assert "x:0" not in cluster.state.alert_marks
    cluster.state.check_invariants()


def test_a_silence_is_ended_by_hand_or_by_time() -> None:
    cluster = Handled()
    cluster.silence("q1", rule="crash-loop")
    assert list(cluster.state.audit.values())[-1].subject == "silence q1: service web, rule crash-loop"
    assert cluster.silence("q1").error == "conflict"
    cluster.silence("q2", ends_at_ms=WallMs(cluster.at_ms + 500_000))
    cluster.at_ms += 100_000
    cluster.silence("q3")
    assert list(cluster.state.silences) == ["q2", "q3"], "what is over is dropped"
    assert not cluster.apply(EndSilence(silence=SilenceId("q2"), **cluster._stamp())).error
    assert cluster.apply(EndSilence(silence=SilenceId("q2"), **cluster._stamp())).error == "not_found"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"service": None}, "a silence of everything"),
        ({"reason": ""}, "the reason is empty"),
        ({"ends_at_ms": WallMs(0)}, "end before it begins"),
    ],
)
def test_a_silence_names_something_has_a_reason_and_an_end(fields: dict[str, Any], words: str) -> None:
    cluster = Handled()
    refused = cluster.silence("q1", **fields)
    assert refused.error == "invalid_request"
    assert words in refused.message
    assert not cluster.state.silences


def test_there_is_room_for_so_many_silences_and_no_more() -> None:
    cluster = Handled()
    for number in range(SILENCES_MAX):
        assert not cluster.silence(f"q{number}").error
    assert cluster.silence("one more").error == "conflict"


def test_an_empty_request_is_refused() -> None:
    cluster = Handled()
    assert cluster.acknowledge().error == "invalid_request"
    assert cluster.resolve("").error == "invalid_request"
    assert cluster.acknowledge(LOOP, ends_at_ms=WallMs(1)).error == "invalid_request"
