"""When a figure has gone too far: hold, hysteresis, degrees, and what nobody measures any more."""

import pytest

from node.figures.subjects import Subject, copy_subject, read_subject, service_subject, split_series
from node.figures.thresholds import FIGURE_RULES, GONE_S, Exceeded, FigureRule, Settled, Watch
from node.figures.words import sentence
from orca.model.event import Severity
from orca.model.ids import AllocationId, ServiceId
from orca.model.units import Instant

HIGH = FigureRule(figure="x", warn=0.9, error=0.97, clear=0.8, hold_s=60, calm_s=30)
LOW = FigureRule(figure="x", warn=0.1, error=0.03, clear=0.13, hold_s=0, calm_s=0, is_low=True)
WARNING, ERROR = Severity.WARNING, Severity.ERROR


def told(rule: FigureRule, *steps: tuple[float, float | None]) -> list[tuple[float, object]]:
    """When and what, of values at seconds; None is not measured."""
    watch = Watch((rule,))
    found: list[tuple[float, object]] = []
    for at_s, value in steps:
        values = {} if value is None else {"x": {"node": value}}
        for change in watch.step(values, Instant(at_s)):
            found.append((at_s, change.severity if isinstance(change, Exceeded) else change.value))
    return found


def test_what_lasts_is_told_once_and_a_peak_is_not() -> None:
    assert told(HIGH, (0, 0.95), (59, 0.95), (60, 0.95), (61, 0.95), (500, 0.91)) == [(60, WARNING)]
    assert told(HIGH, (0, 0.95), (30, 0.89), (60, 0.95), (119, 0.95), (120, 0.95)) == [(120, WARNING)]


def test_it_is_over_below_the_lower_threshold_and_only_when_that_lasts() -> None:
    raised = ((0, 0.95), (60, 0.95))
    assert told(HIGH, *raised, (70, 0.85), (200, 0.85)) == [(60, WARNING)], "between the two nothing changes"
    assert told(HIGH, *raised, (70, 0.7), (99, 0.7), (100, 0.7)) == [(60, WARNING), (100, 0.7)]
    assert told(HIGH, *raised, (70, 0.7), (90, 0.95), (100, 0.7)) == [(60, WARNING)]


def test_what_becomes_worse_is_told_and_better_is_not() -> None:
    assert told(HIGH, (0, 0.95), (60, 0.98), (119, 0.98), (120, 0.98), (130, 0.95)) == [(60, WARNING), (120, ERROR)]
    assert told(HIGH, (0, 0.99), (60, 0.99)) == [(60, ERROR)]


def test_too_little_may_be_too_far() -> None:
    assert told(LOW, (0, 0.5), (1, 0.1), (2, 0.02), (3, 0.12), (4, 0.14)) == [(1, WARNING), (2, ERROR), (4, 0.14)]


def test_what_nobody_measures_any_more_is_settled() -> None:
    steps = ((0, 0.95), (60, 0.95), (61, None), (60 + GONE_S - 1, None), (60 + GONE_S, None))
    assert told(HIGH, *steps) == [(60, WARNING), (60 + GONE_S, None)]


def test_what_was_open_before_a_restart_is_told_again_by_nobody_and_ends() -> None:
    before = Watch((HIGH,))
    for at_s in (0, 60):
        before.step({"x": {"node": 0.95}}, Instant(at_s))
    watch = Watch((HIGH,))
    watch.restore(before.open, Instant(1000))
    assert watch.step({"x": {"node": 0.95}}, Instant(1001)) == []
    assert watch.step({"x": {"node": 0.95}}, Instant(1100)) == []
    assert watch.step({"x": {"node": 0.5}}, Instant(1101)) == []
    (over,) = watch.step({"x": {"node": 0.5}}, Instant(1131))
    assert isinstance(over, Settled)
    assert watch.open == ()


def test_what_is_well_leaves_nothing_behind() -> None:
    watch = Watch((HIGH,))
    watch.step({"x": {f"copy {number}": 0.95 for number in range(100)}}, Instant(0))
    watch.step({"x": {f"copy {number}": 0.5 for number in range(100)}}, Instant(1))
    assert watch._cases == {"x": {}}


@pytest.mark.parametrize("rule", FIGURE_RULES, ids=lambda rule: rule.figure)
def test_the_thresholds_of_each_rule_are_in_order_and_have_words(rule: FigureRule) -> None:
    sign = -1 if rule.is_low else 1
    assert sign * rule.clear < sign * rule.warn
    assert rule.error is None or sign * rule.warn < sign * rule.error
    change = Exceeded(figure=rule.figure, subject="node", value=rule.warn, severity=WARNING)
    said = sentence(change, Subject(), "n1")
    assert said.startswith("n1: ")
    assert rule.figure not in said, "words, not the name of a figure"


def test_subjects_are_read_back_and_nonsense_is_the_nodes() -> None:
    web, copy = ServiceId("default/web"), AllocationId("aaa")
    found = read_subject(copy_subject(web, 2, copy))
    assert found == Subject(service=web, slot=2, allocation=copy)
    assert found.name == "web.3"
    assert split_series(f"error_share {service_subject(ServiceId('shop/pay'))}")[1].name == "shop/pay"
    for text in ("node", "copy x", "copy a b c d", ""):
        assert read_subject(text) == Subject()
