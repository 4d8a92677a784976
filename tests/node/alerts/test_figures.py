"""From figures that go too far to alerts."""

import msgspec

from node.alerts.rulebook import rule_views
from node.alerts.rules import evaluate
from node.alerts.specs import RULES
from node.figures.thresholds import FIGURE_RULES
from orca.model.alert import AlertRule, AlertState
from orca.model.event import EventKind, Severity
from orca.model.ids import NodeId
from tests.node.alerts.test_rules import N1, N2, NAMES, WEB, History

K = EventKind


class Measured(History):
    """With figures."""

    def figure(
        self,
        at_s: float,
        figure: str,
        *,
        copy: str | None = None,
        node: NodeId = N1,
        severity: Severity | None = Severity.WARNING,
        is_of_service: bool = True,
    ) -> None:
        """It has gone too far; with no severity it has settled."""
        kind = K.FIGURE_SETTLED if severity is None else K.FIGURE_EXCEEDED
        self.tell(at_s, kind, "something: 95 %", copy=copy, node=node, service=WEB if is_of_service else None)
        self.events[-1] = msgspec.structs.replace(self.events[-1], figure=figure, severity=severity or Severity.INFO)


def test_copies_near_their_limit_are_one_alert_until_the_last_is_well() -> None:
    history = Measured()
    history.figure(10, "memory_share", copy="a")
    history.figure(20, "memory_share", copy="b", node=N2)
    alert = history.at(21)[AlertRule.MEMORY_PRESSURE]
    assert (alert.severity, alert.since_ms, alert.nodes) == (Severity.WARNING, 10_000, (N1, N2))
    assert alert.facts == ("web uses most of its memory limit: 2 copies on one, two.",)
    assert alert.causes[0].command == "orca stats web --since 1h"
    history.figure(30, "memory_share", copy="a", severity=None)
    assert history.at(31)[AlertRule.MEMORY_PRESSURE].state is AlertState.FIRING
    history.tell(40, K.ALLOCATION_STOPPED, copy="b", node=N2)
    assert history.at(41)[AlertRule.MEMORY_PRESSURE].state is AlertState.RESOLVED


def test_what_two_nodes_see_of_a_service_ends_when_both_see_it_end() -> None:
    history = Measured()
    history.figure(10, "error_share", severity=Severity.ERROR)
    history.figure(11, "error_share", node=N2)
    assert history.at(12)[AlertRule.ERROR_SURGE].severity is Severity.ERROR
    history.figure(20, "error_share", severity=None)
    left = history.at(21)[AlertRule.ERROR_SURGE]
    assert (left.state, left.severity) == (AlertState.FIRING, Severity.WARNING)
    history.figure(30, "error_share", node=N2, severity=None)
    assert history.at(31)[AlertRule.ERROR_SURGE].state is AlertState.RESOLVED


def test_what_becomes_worse_is_the_same_alert_with_another_severity() -> None:
    history = Measured()
    history.figure(10, "disk_free_share", is_of_service=False)
    first = history.at(11)[AlertRule.DISK_PRESSURE]
    history.figure(20, "disk_free_share", severity=Severity.ERROR, is_of_service=False)
    second = history.at(21)[AlertRule.DISK_PRESSURE]
    assert (first.id, first.since_ms) == (second.id, second.since_ms)
    assert [first.severity, second.severity] == [Severity.WARNING, Severity.ERROR]
    assert second.node == N1


def test_figures_of_one_disk_do_not_end_each_other() -> None:
    history = Measured()
    history.figure(10, "disk_free_share", is_of_service=False)
    history.figure(11, "inode_free_share", is_of_service=False)
    history.figure(20, "inode_free_share", is_of_service=False, severity=None)
    assert history.at(21)[AlertRule.DISK_PRESSURE].state is AlertState.FIRING
    assert list(history.at(21)) == [AlertRule.DISK_PRESSURE], "and are no business of other rules"


def test_a_kill_for_want_of_memory_stands_for_the_pressure_before_it() -> None:
    history = Measured()
    history.figure(10, "memory_share", copy="a")
    history.crash(20, "a", code=137, why="out of memory (exit code 137)")
    found = history.at(21)
    assert AlertRule.MEMORY_PRESSURE not in found
    assert found[AlertRule.OUT_OF_MEMORY].stands_for == ("memory-pressure:default/web",)


def test_every_figure_has_a_rule_and_every_rule_of_figures_says_its_thresholds() -> None:
    watched = {one for spec in RULES for one in spec.figures}
    assert watched == {one.figure for one in FIGURE_RULES}
    views = {one.rule: one for one in rule_views()}
    assert views[AlertRule.DISK_PRESSURE].fires == (
        "when disk_free_share is at most 0.1 for 1m, an error from 0.03 on; "
        "when inode_free_share is at most 0.1 for 1m, an error from 0.03 on"
    )
    assert views[AlertRule.CLOCK_SKEW].ends == "when clock_offset_s is below 1; by `orca alerts resolve`"


def test_every_rule_has_words_and_causes() -> None:
    for spec in RULES:
        history = Measured()
        kind = next(iter(spec.raised_by))
        if spec.rule is AlertRule.RUNTIME_DOWN:
            history.tell(0, K.RUNTIME_UP, "docker is up", service=None)
        for at_s in range(spec.count):
            message = "x ended: out of memory" if spec.is_out_of_memory else "three (10.0.0.3:7946) x"
            message = "docker is down" if spec.rule is AlertRule.RUNTIME_DOWN else message
            history.tell(at_s * 15 + 1, kind, message, copy="a")
            history.events[-1] = msgspec.structs.replace(history.events[-1], figure=min(spec.figures, default=""))
        members = frozenset({"three", *NAMES.values()})
        found = {one.rule: one for one in evaluate(history.events, history.events[-1].at_ms, NAMES, members)}
        late = {one.rule: one for one in evaluate(history.events, history.events[-1].at_ms + 40_000, NAMES, members)}  # type: ignore[arg-type]
        alert = found.get(spec.rule) or late[spec.rule]
        assert alert.facts[0]
        assert "{" not in alert.facts[0]
        assert alert.causes
