"""The verdict machine: gating, thresholds, quick questions, and what may never happen."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.health.verdict import (
    BecameReady,
    BecameUnready,
    HealthMonitor,
    HealthTransition,
    LivenessFailed,
    ProbeKind,
    StartupFailed,
)
from orca.model.spec import ProbeSpec, TcpCheck
from orca.model.units import Instant

START = Instant(100.0)


def probe(
    interval_s: float = 5.0, delay_s: float = 0.0, successes: int = 1, failures: int = 3, timeout_s: float = 2.0
) -> ProbeSpec:
    return ProbeSpec(
        check=TcpCheck(),
        interval_s=interval_s,
        timeout_s=timeout_s,
        initial_delay_s=delay_s,
        success_threshold=successes,
        failure_threshold=failures,
    )


def play(monitor: HealthMonitor, until: float, well: dict[ProbeKind, bool]) -> list[tuple[float, HealthTransition]]:
    """Answer every question at once until `until` seconds after the start."""
    seen: list[tuple[float, HealthTransition]] = []
    while (now := monitor.deadline()) <= START + until:
        for kind in monitor.due(now):
            for change in monitor.on_result(kind, well[kind], "refused", now):
                seen.append((round(now - START, 3), change))
            monitor.check_invariants()
    return seen


def test_without_probes_it_is_ready_at_once_and_nothing_is_asked() -> None:
    monitor = HealthMonitor(None, None, None, START)
    assert monitor.on_started() == [BecameReady()]
    assert monitor.due(Instant(START + 1000)) == ()
    assert monitor.is_over()


def test_readiness_is_asked_at_once_and_then_in_doubling_steps_up_to_the_interval() -> None:
    monitor = HealthMonitor(None, probe(interval_s=1.0, failures=1000), None, START)
    assert monitor.on_started() == []
    asked: list[float] = []
    while len(asked) < 9:
        now = monitor.deadline()
        asked.append(round(now - START, 3))
        for kind in monitor.due(now):
            assert monitor.on_result(kind, False, "refused", now) == []
    assert asked == [0.0, 0.05, 0.15, 0.35, 0.75, 1.0, 2.0, 3.0, 4.0]


def test_a_success_of_the_first_quick_question_makes_it_ready_without_waiting() -> None:
    monitor = HealthMonitor(None, probe(), None, START)
    monitor.on_started()
    assert play(monitor, 0.0, {ProbeKind.READINESS: True}) == [(0.0, BecameReady())]
    assert monitor.deadline() == START + 5.0


def test_readiness_is_lost_only_after_the_threshold_and_comes_back_after_one_success() -> None:
    monitor = HealthMonitor(None, probe(), None, START)
    monitor.on_started()
    play(monitor, 0.0, {ProbeKind.READINESS: True})
    assert play(monitor, 15.0, {ProbeKind.READINESS: False}) == [(15.0, BecameUnready(reason="refused"))]
    assert not monitor.is_ready
    assert play(monitor, 20.0, {ProbeKind.READINESS: True}) == [(20.0, BecameReady())]


def test_a_success_between_failures_starts_the_count_anew() -> None:
    monitor = HealthMonitor(None, probe(), None, START)
    monitor.on_started()
    play(monitor, 0.0, {ProbeKind.READINESS: True})
    assert play(monitor, 10.0, {ProbeKind.READINESS: False}) == []
    assert play(monitor, 15.0, {ProbeKind.READINESS: True}) == []
    assert play(monitor, 25.0, {ProbeKind.READINESS: False}) == []
    assert monitor.is_ready


def test_several_successes_in_a_row_may_be_asked_for() -> None:
    monitor = HealthMonitor(None, probe(successes=3), None, START)
    monitor.on_started()
    assert play(monitor, 0.1, {ProbeKind.READINESS: True}) == []
    assert play(monitor, 0.2, {ProbeKind.READINESS: True}) == [(0.15, BecameReady())]


def test_startup_holds_back_readiness_and_liveness() -> None:
    monitor = HealthMonitor(probe(failures=1000), probe(), probe(), START)
    assert monitor.on_started() == []
    assert monitor.due(START) == (ProbeKind.STARTUP,)
    monitor.on_result(ProbeKind.STARTUP, False, "refused", START)
    now = monitor.deadline()
    assert monitor.due(now) == (ProbeKind.STARTUP,)
    assert monitor.on_result(ProbeKind.STARTUP, True, "", now) == []
    assert monitor.due(now) == (ProbeKind.READINESS,)
    assert monitor.on_result(ProbeKind.READINESS, True, "", now) == [BecameReady()]
    assert monitor.due(Instant(now + 5.0)) == (ProbeKind.READINESS, ProbeKind.LIVENESS)


def test_passing_startup_makes_it_ready_when_there_is_no_readiness_probe() -> None:
    monitor = HealthMonitor(probe(), None, None, START)
    monitor.on_started()
    assert play(monitor, 1.0, {ProbeKind.STARTUP: True}) == [(0.0, BecameReady())]
    assert monitor.is_over()


def test_startup_fails_after_its_threshold_of_intervals_however_often_it_was_asked() -> None:
    """The quick questions are free: three failures at 5 s mean 15 s of grace."""
    monitor = HealthMonitor(probe(), probe(), None, START)
    monitor.on_started()
    assert play(monitor, 60.0, {ProbeKind.STARTUP: False}) == [(15.0, StartupFailed(reason="refused"))]
    assert monitor.is_over()


def test_the_initial_delay_is_waited_before_the_first_question() -> None:
    monitor = HealthMonitor(None, probe(delay_s=3.0), None, START)
    monitor.on_started()
    assert monitor.due(Instant(START + 2.9)) == ()
    assert monitor.due(Instant(START + 3.0)) == (ProbeKind.READINESS,)


def test_liveness_is_first_asked_an_interval_after_the_start() -> None:
    monitor = HealthMonitor(None, None, probe(), START)
    assert monitor.on_started() == [BecameReady()]
    assert monitor.deadline() == START + 5.0


def test_failed_liveness_takes_traffic_away_first_and_ends_the_questions() -> None:
    monitor = HealthMonitor(None, None, probe(), START)
    monitor.on_started()
    assert play(monitor, 60.0, {ProbeKind.LIVENESS: False}) == [
        (15.0, BecameUnready(reason="refused")),
        (15.0, LivenessFailed(reason="refused")),
    ]
    assert monitor.has_failed
    assert monitor.is_over()


def test_slow_and_quick_failures_of_liveness_count_alike() -> None:
    """A timeout that takes 2 s must not make the next, immediate refusal free."""
    monitor = HealthMonitor(None, None, probe(), START)
    monitor.on_started()
    changes: list[HealthTransition] = []
    for lasts_s in (2.0, 0.0, 2.0):
        now = monitor.deadline()
        assert monitor.due(now) == (ProbeKind.LIVENESS,)
        changes += monitor.on_result(ProbeKind.LIVENESS, False, "no", Instant(now + lasts_s))
    assert LivenessFailed(reason="no") in changes


def test_an_answer_that_comes_after_the_end_changes_nothing() -> None:
    monitor = HealthMonitor(None, probe(interval_s=1.0), probe(interval_s=1.0, failures=1), START)
    monitor.on_started()
    assert monitor.due(START) == (ProbeKind.READINESS,)
    later = Instant(START + 1.0)
    assert monitor.due(later) == (ProbeKind.LIVENESS,)
    assert monitor.on_result(ProbeKind.LIVENESS, False, "hangs", later) == [LivenessFailed(reason="hangs")]
    assert monitor.on_result(ProbeKind.READINESS, True, "", later) == []
    assert not monitor.is_ready
    monitor.check_invariants()


def test_a_question_under_way_is_not_asked_again() -> None:
    monitor = HealthMonitor(None, probe(interval_s=0.5), None, START)
    monitor.on_started()
    assert monitor.due(START) == (ProbeKind.READINESS,)
    assert monitor.due(Instant(START + 100)) == ()
    assert monitor.deadline() == float("inf")


def test_a_monitor_begins_only_once() -> None:
    monitor = HealthMonitor(None, None, None, START)
    monitor.on_started()
    with pytest.raises(AssertionError, match="begins once"):
        monitor.on_started()


SPECS = st.builds(
    probe,
    interval_s=st.floats(0.1, 20.0),
    delay_s=st.floats(0.0, 10.0),
    successes=st.integers(1, 4),
    failures=st.integers(1, 4),
)


def check_alternates(seen: Sequence[HealthTransition]) -> None:
    is_ready = False
    for position, change in enumerate(seen):
        match change:
            case BecameReady():
                assert not is_ready, "ready twice"
                is_ready = True
            case BecameUnready():
                assert is_ready, "unready without having been ready"
                is_ready = False
            case LivenessFailed() | StartupFailed():
                assert position == len(seen) - 1, "something came after the end"
                assert not is_ready, "the end came while traffic was still allowed"


@settings(max_examples=200, deadline=None)
@given(
    startup=st.none() | SPECS,
    readiness=st.none() | SPECS,
    liveness=st.none() | SPECS,
    answers=st.lists(st.tuples(st.booleans(), st.floats(0.0, 3.0)), max_size=60),
)
def test_any_run_of_answers_keeps_the_promises(
    startup: ProbeSpec | None,
    readiness: ProbeSpec | None,
    liveness: ProbeSpec | None,
    answers: list[tuple[bool, float]],
) -> None:
    monitor = HealthMonitor(startup, readiness, liveness, START)
    seen = monitor.on_started()
    now = START
    for ok, lasts_s in answers:
        at = monitor.deadline()
        if at == float("inf"):
            break
        now = Instant(max(now, at))
        asked = monitor.due(now)
        assert asked, "the deadline came and nothing was due"
        now = Instant(now + lasts_s)
        for kind in asked:
            changes = monitor.on_result(kind, ok, "detail", now)
            if kind is ProbeKind.READINESS and not ok:
                assert BecameReady() not in changes
            seen += changes
            monitor.check_invariants()
    check_alternates(seen)


@settings(max_examples=100, deadline=None)
@given(spec=SPECS)
def test_startup_grace_is_its_threshold_of_intervals(spec: ProbeSpec) -> None:
    monitor = HealthMonitor(spec, None, None, START)
    monitor.on_started()
    ended = None
    while ended is None:
        now = monitor.deadline()
        for kind in monitor.due(now):
            if monitor.on_result(kind, False, "no", now):
                ended = now - START
    assert ended == pytest.approx(spec.initial_delay_s + spec.failure_threshold * spec.interval_s, abs=1e-3)


def test_what_is_not_ready_after_a_second_says_why_and_each_reason_once() -> None:
    """A deploy with a short deadline has to name the answer of the health path, long before the verdict."""
    monitor = HealthMonitor(None, probe(interval_s=10.0, failures=3), None, START)
    monitor.on_started()
    told: list[HealthTransition] = []
    for answer in ("refused", "status 404", "status 404"):
        now = monitor.deadline() if answer == "refused" else Instant(max(monitor.deadline(), START + 1.0))
        monitor.due(now)
        assert monitor.on_result(ProbeKind.READINESS, False, answer, now) == []
        told += monitor.explain(now)
    assert told == [BecameUnready(reason="status 404")]
