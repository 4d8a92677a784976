"""Stories of successive looks, and what a waiting command makes of them."""

from orca.commands.rollout import Goal, GoalKind, Rollout, ServiceFailure, Verdict, goals_of
from orca.model.allocation import DesiredStatus, Phase
from orca.model.ids import ServiceId, SpecRevision
from orca.model.view import ChangeAction, RolloutState, ServiceChange
from tests.orca.commands.views import copy, service

WEB = ServiceId("default/web")
HEALTHY_2 = Goal(service=WEB, kind=GoalKind.HEALTHY, revision=SpecRevision(2))


def failures_of(verdict: Verdict | None) -> tuple[ServiceFailure, ...]:
    assert verdict is not None
    return verdict.failures


def test_a_rollout_is_followed_until_the_cluster_calls_it_completed() -> None:
    machine = Rollout((HEALTHY_2,))
    old = copy("web", 0, 1, ready=True)
    step = machine.observe([service("web", old, revision=1, state=RolloutState.COMPLETED)])
    assert step.verdict is None  # the node asked has not applied the change yet
    assert step.changes == ()
    step = machine.observe([service("web", old, copy("web", 0, 2), revision=2)])
    assert step.verdict is None
    assert [(change.revision, change.phase) for change in step.changes] == [(2, Phase.STARTING)]
    step = machine.observe([service("web", old, copy("web", 0, 2, ready=True), revision=2)])
    assert [change.is_ready for change in step.changes] == [True]
    step = machine.observe([service("web", copy("web", 0, 2, ready=True), revision=2, state=RolloutState.COMPLETED)])
    assert step.verdict == Verdict()


def test_a_failed_rollout_names_the_copies_and_what_still_serves() -> None:
    machine = Rollout((HEALTHY_2,))
    bad = copy("web", 1, 2, phase=Phase.BACKOFF, reason="exit code 1", restarts=5)
    view = service(
        "web",
        copy("web", 0, 1, ready=True),
        bad,
        copy("web", 2, 2, ready=True),
        revision=2,
        state=RolloutState.FAILED,
        message="web.2 does not stay up: exit code 1",
    )
    (failure,) = failures_of(machine.observe([view]).verdict)
    assert failure.unhealthy == (bad,)
    assert failure.serving == 1
    assert "does not stay up" in failure.message


def test_a_failed_first_revision_leaves_nothing_serving() -> None:
    machine = Rollout((Goal(service=WEB, kind=GoalKind.HEALTHY, revision=SpecRevision(1)),))
    view = service("web", copy("web", 0, 1), state=RolloutState.FAILED)
    (failure,) = failures_of(machine.observe([view]).verdict)
    assert failure.serving is None


def test_a_completed_rollout_whose_copy_died_since_is_no_success() -> None:
    machine = Rollout((HEALTHY_2,))
    dead = copy("web", 0, 2, phase=Phase.BACKOFF, reason="exit code 3", restarts=2)
    view = service("web", dead, revision=2, state=RolloutState.COMPLETED)
    (failure,) = failures_of(machine.observe([view]).verdict)
    assert "does not stay up: exit code 3" in failure.message


def test_a_completed_rollout_waits_while_a_copy_is_started_again() -> None:
    machine = Rollout((HEALTHY_2,))
    view = service("web", copy("web", 0, 2, phase=Phase.STARTING), revision=2, state=RolloutState.COMPLETED)
    assert machine.observe([view]).verdict is None


def test_a_newer_revision_ends_the_wait_for_this_one() -> None:
    machine = Rollout((HEALTHY_2,))
    (failure,) = failures_of(machine.observe([service("web", revision=3, state=RolloutState.COMPLETED)]).verdict)
    assert "replaced by revision 3" in failure.message


def test_a_service_that_vanishes_ends_the_wait_only_after_it_was_seen() -> None:
    machine = Rollout((HEALTHY_2,))
    assert machine.observe([]).verdict is None
    machine.observe([service("web", revision=2)])
    (failure,) = failures_of(machine.observe([]).verdict)
    assert failure.message == "was removed meanwhile"


def test_the_end_of_patience_says_what_it_waited_for() -> None:
    machine = Rollout((HEALTHY_2,))
    late = copy("web", 0, 2, reason="readiness: connection refused", phase=Phase.RUNNING)
    machine.observe([service("web", late, copy("web", 0, 1, ready=True), revision=2)])
    (failure,) = machine.expire("30s").failures
    assert failure.message == "is not healthy after 30s; it goes on without us"
    assert failure.unhealthy == (late,)
    assert failure.serving == 1


def test_all_goals_are_settled_before_the_verdict_unless_the_rest_waits_for_the_failed_one() -> None:
    names = (ServiceId("default/db"), ServiceId("default/web"))
    goals = tuple(Goal(service=name, kind=GoalKind.HEALTHY, revision=SpecRevision(1)) for name in names)
    failed = service("db", copy("db"), state=RolloutState.FAILED, message="no")
    machine = Rollout(goals)
    assert machine.observe([failed, service("web", copy("web"))]).verdict is None
    step = machine.observe([failed, service("web", blocked="waits for db")])
    assert [failure.service for failure in failures_of(step.verdict)] == ["default/db", "default/web"]


def test_stopping_is_done_when_no_copy_is_left() -> None:
    machine = Rollout((Goal(service=WEB, kind=GoalKind.STOPPED),))
    going = copy("web", 0, ready=True, desired=DesiredStatus.STOPPED, phase=Phase.STOPPING)
    step = machine.observe([service("web", going, is_stopped=True)])
    assert step.verdict is None
    assert step.services[0].message == "1 copy left"
    gone = copy("web", 0, desired=DesiredStatus.STOPPED, phase=Phase.STOPPED)
    assert machine.observe([service("web", gone, is_stopped=True)]).verdict == Verdict()


def test_a_service_started_again_while_it_stops_ends_the_wait() -> None:
    machine = Rollout((Goal(service=WEB, kind=GoalKind.STOPPED),))
    machine.observe([service("web", copy("web", phase=Phase.STOPPING), is_stopped=True)])
    (failure,) = failures_of(machine.observe([service("web", copy("web"))]).verdict)
    assert failure.message == "was started again meanwhile"


def test_removal_is_done_when_the_service_is_not_listed() -> None:
    machine = Rollout((Goal(service=WEB, kind=GoalKind.GONE),))
    assert machine.observe([service("web", copy("web", ready=True))]).verdict is None
    assert machine.observe([]).verdict == Verdict()


def test_a_job_is_done_when_its_rollout_is() -> None:
    machine = Rollout((HEALTHY_2,))
    job = service("web", copy("web", 0, 2), revision=2, is_job=True)
    assert machine.observe([job]).verdict is None
    done = copy("web", 0, 2, phase=Phase.COMPLETED)
    completed = service("web", done, revision=2, is_job=True, state=RolloutState.COMPLETED)
    assert machine.observe([completed]).verdict == Verdict()


def test_the_same_look_twice_is_no_news() -> None:
    machine = Rollout((HEALTHY_2,))
    view = service("web", copy("web", 0, 2), revision=2)
    assert machine.observe([view]).changes
    assert machine.observe([view]).changes == ()


def test_a_deploy_waits_for_removals_until_they_are_gone() -> None:
    changes = (
        ServiceChange(service=WEB, action=ChangeAction.UPDATE, revision=SpecRevision(2)),
        ServiceChange(service=ServiceId("default/old"), action=ChangeAction.REMOVE, revision=SpecRevision(4)),
    )
    assert [goal.kind for goal in goals_of(changes)] == [GoalKind.HEALTHY, GoalKind.GONE]
